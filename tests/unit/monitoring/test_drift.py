"""Drift by Evidently: nothing in A/A, planted shifts found and named, empty and odd columns no crash."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from airworthy.config.operations_spec import Monitoring
from airworthy.monitoring import drift

COLUMNS = {"amount": "float64", "hour": "int64", "channel": "string", "town": "string", "vip": "boolean"}
TOWNS = [f"t{i}" for i in range(120)]


def table(n: int, seed: int, *, shift: float = 0.0, app: float = 0.3, **columns: object) -> pa.Table:
    rng = np.random.default_rng(seed)
    values = {
        "amount": pa.array((rng.gamma(2, 40, n) + shift).tolist(), mask=rng.random(n) < 0.1),
        "hour": pa.array(rng.integers(0, 24, n)),
        "channel": pa.array(rng.choice(["app", "web"], n, p=[app, 1 - app]).tolist(), mask=rng.random(n) < 0.05),
        "town": pa.array(rng.choice(TOWNS, n).tolist()),
        "vip": pa.array((rng.random(n) < 0.1).tolist()),
    }
    return pa.table({**values, **columns})


def measure(
    reference: pa.Table, current: pa.Table, columns: dict[str, str] = COLUMNS, **changes: float
) -> drift.DriftResult:
    spec = {"threshold": 0.1, "drift_share": 0.5, "rows": 5000, "seed": 7}
    return drift.measure(reference, current, columns, **{**spec, **changes})


@pytest.mark.parametrize("size", [100, 300, 3000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_drifts_between_samples_of_one_world(size, seed):
    # A hundred rows of a hundred towns differ a lot, and by chance alone.
    result = measure(table(5000, 100), table(size, seed))
    assert result.drifted == ()
    assert result.share == 0.0


def test_of_two_hundred_columns_of_one_world_hardly_one_drifts_and_no_window_asks():
    """Many looks find something by chance: one column in fifty at most, far from the share that asks for a training."""

    def wide(n: int, seed: int) -> pa.Table:
        rng = np.random.default_rng(seed)
        numbers = (rng.normal(size=(140, n)), rng.gamma(2, 40, (140, n)), rng.exponential(15, (140, n)))
        columns = {f"n{i}": pa.array(numbers[i % 3][i]) for i in range(140)}
        return pa.table(columns | {f"c{i}": pa.array(rng.choice(TOWNS[: 2 + i], n).tolist()) for i in range(60)})

    kinds = {f"n{i}": "float64" for i in range(140)} | {f"c{i}": "string" for i in range(60)}

    result = measure(wide(2000, 100), wide(400, 1), kinds)

    assert result.no_data == ()
    assert len(result.drifted) <= 4, result.drifted
    assert result.share < Monitoring().drift_share / 10


def test_planted_shifts_are_found_and_named_worst_first():
    result = measure(table(5000, 100), table(1000, 1, shift=60, app=0.6))
    assert result.drifted == ("amount", "channel")
    assert result.share == pytest.approx(2 / 5)
    scores = {f.name: f.score for f in result.features}
    # A gamma(2, 40) has a standard deviation of 56.6: a shift by 60 is 1.06 of it.
    assert scores["amount"] == pytest.approx(60 / 56.6, rel=0.15)
    assert "amount" in result.html


def test_values_never_seen_before_are_drift():
    strange = pa.array([f"new{i}" for i in range(1000)])
    result = measure(table(5000, 100), table(1000, 1, town=strange))
    assert result.drifted == ("town",)


def test_rare_values_give_way_to_new_ones_and_that_is_drift():
    # Five hundred values, each too rare to count alone; in the window there are five hundred others.
    old = pa.array([f"old{i % 500}" for i in range(5000)])
    new = pa.array([f"new{i % 500}" for i in range(1000)])
    assert measure(table(5000, 100, town=old), table(1000, 1, town=new)).drifted == ("town",)
    again = pa.array([f"old{i % 500}" for i in range(1000)])
    assert measure(table(5000, 100, town=old), table(1000, 1, town=again)).drifted == ()


def test_a_few_absurd_values_hide_no_shift():
    # Two records of 100,000 in the reference would make its standard deviation 40 times as large.
    reference = table(5000, 100)
    amounts = reference["amount"].to_pylist()
    amounts[:2] = [100_000.0, 100_000.0]
    reference = reference.set_column(0, "amount", pa.array(amounts))
    assert measure(reference, table(1000, 1, shift=60)).drifted == ("amount",)


def test_columns_without_data_are_no_data_and_no_crash():
    empty = pa.array([None] * 500, pa.float64())
    result = measure(table(2000, 100), table(500, 1, amount=empty))
    assert result.no_data == ("amount",)
    assert result.drifted == ()
    [amount] = [f for f in result.features if f.name == "amount"]
    assert amount.note == "no data in the window"
    assert (amount.missing, amount.reference_missing) == (1.0, pytest.approx(0.1, abs=0.03))
    nothing = measure(table(2000, 100).select(["amount"]), pa.table({"amount": empty}), {"amount": "float64"})
    assert (nothing.share, nothing.html) == (None, "")


def test_odd_columns_do_not_crash():
    n = 600
    columns = {**COLUMNS, "constant": "float64", "one": "float64", "wild": "float64"}
    odd = {
        "constant": pa.array([1.0] * n),
        "one": pa.array([3.0] + [None] * (n - 1)),
        "wild": pa.array([float("inf"), float("nan"), -float("inf")] + [1.0, 2.0, 3.0] * 199),
    }
    result = measure(table(n, 1, **odd), table(n, 2, **odd), columns)
    assert result.drifted == ()


def test_the_same_input_gives_the_same_result():
    first, second = (measure(table(9000, 100), table(8000, 1), rows=500) for _ in range(2))
    assert first.features == second.features


def test_the_report_stays_small_with_many_columns():
    names = {f"x{i}": "float64" for i in range(60)}
    rng = np.random.default_rng(0)
    reference = pa.table({n: rng.normal(size=2000) for n in names})
    current = pa.table({n: rng.normal(size=2000) + (n == "x59") for n in names})
    result = measure(reference, current, names)
    assert len(result.features) == 60
    assert result.drifted == ("x59",)
    assert "x59" in result.html
    assert len(result.html.encode()) < 5_000_000


def test_logged_vectors_become_columns_whatever_they_hold():
    rows = pa.table({"features": ['{"amount":1,"channel":"app","vip":true}', '{"amount":"x","hour":3,"channel":7}']})
    found = drift.feature_table(rows, COLUMNS)
    assert found.to_pylist() == [
        {"amount": 1.0, "hour": None, "channel": "app", "town": None, "vip": "True"},
        {"amount": None, "hour": 3.0, "channel": "7", "town": None, "vip": None},
    ]


def test_hidden_features_are_measured_and_their_values_not_shown():
    names = pa.array(["zz9plural", "alpha"] * 200)
    before, after = table(400, 100, channel=names), table(400, 1, shift=60, channel=names)
    shown, hidden = measure(before, after), measure(before, after, hidden=("channel",))
    assert "zz9plural" in shown.html
    assert "zz9plural" not in hidden.html
    assert {f.name: f.score for f in hidden.features} == {f.name: f.score for f in shown.features}
    assert measure(before, after, hidden=tuple(COLUMNS)).html == ""
