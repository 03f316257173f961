"""Which rows a training set may use, and where: by when their labels were known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from airworthy.config import UseCase, load_use_case
from airworthy.errors import DataRejectedError
from airworthy.training.labelled_rows import ROW_LABEL, ROW_PART, ROW_TIME, labelled_rows

DAY_0 = datetime(2024, 1, 1, tzinfo=UTC)
NOON = timedelta(hours=12)
KNOWN_AFTER = timedelta(days=1, hours=6)  # from a day's start until its labels are known


def use_case(holdout: int = 2, train: int = 3) -> UseCase:
    case = load_use_case("tiny_orders")
    return case.model_copy(
        update={"training": case.training.model_copy(update={"holdout_days": holdout, "min_train_days": train})}
    )


def orders(days: int = 8, per_day: int = 4) -> list[dict[str, Any]]:
    rows = []
    for day in range(days):
        start = DAY_0 + timedelta(days=day)
        rows += [
            {
                "order_id": f"o{day}-{i}", "ordered_at": start + NOON, "returned": i % 2 == 0,
                "available_at": start + KNOWN_AFTER, "interval": start.strftime("%Y-%m-%d"),
            }
            for i in range(per_day)
        ]  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]], label: pa.DataType | None = None) -> pa.Table:
    moment = pa.timestamp("us", tz="UTC")
    schema = [
        ("order_id", pa.string()), ("ordered_at", moment), ("returned", label or pa.bool_()), ("available_at", moment),
        ("interval", pa.string()),
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))


def parts(rows: list[dict[str, Any]], now: datetime, **bounds: int) -> dict[str, str]:
    found, _ = labelled_rows(use_case(**bounds), table(rows), now)
    return dict(zip(found["order_id"].to_pylist(), found[ROW_PART].to_pylist(), strict=True))


def late(day: int) -> datetime:
    return DAY_0 + timedelta(days=day)


def test_the_newest_days_are_the_holdout_and_what_was_known_before_is_training() -> None:
    # Given eight days, all known: days 6 and 7 are the holdout. Day 5's labels came on day 6, within the holdout.
    found, bounds = labelled_rows(use_case(), table(orders()), late(30))

    by_day: dict[str, set[str]] = {}
    for order, name in zip(found["order_id"].to_pylist(), found[ROW_PART].to_pylist(), strict=True):
        by_day.setdefault(order[1], set()).add(name)

    assert by_day == {**{str(d): {"train"} for d in range(5)}, "6": {"holdout"}, "7": {"holdout"}}
    assert (bounds.train_start, bounds.holdout_start, bounds.holdout_end) == (late(0), late(6), late(8))
    assert found[ROW_TIME][0].as_py() == DAY_0 + NOON
    assert found[ROW_LABEL].type == pa.bool_()


def test_a_day_whose_labels_are_only_partly_known_is_not_used_at_all() -> None:
    # Given the labels of half of the last day, early ones: a biased sample.
    rows = orders()
    for row in rows[-2:]:
        row["available_at"] += timedelta(days=3)

    found = parts(rows, late(7) + KNOWN_AFTER)

    assert not [o for o in found if o.startswith("o7")]
    assert {o for o, name in found.items() if name == "holdout"} == {f"o{d}-{i}" for d in (5, 6) for i in range(4)}


def test_now_decides_what_is_known() -> None:
    rows = orders(days=12)

    assert parts(rows, late(7) + KNOWN_AFTER) == parts(orders(days=8), late(30))
    assert parts(rows, late(7) + KNOWN_AFTER - timedelta(seconds=1)) == parts(orders(days=7), late(30))


def test_a_correction_that_came_after_the_holdout_began_is_not_trained_on() -> None:
    rows = orders()
    rows[0]["available_at"] = late(6) + timedelta(seconds=1)
    rows[1]["available_at"] = late(6)

    found = parts(rows, late(30))

    assert "o0-0" not in found
    assert found["o0-1"] == "train"


def test_rows_without_a_label_are_left_out() -> None:
    rows = orders()
    rows[0]["returned"] = None

    assert "o0-0" not in parts(rows, late(30))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[: 4 * 4], "4 days with labels; 3 to train on and 2 for the holdout are needed"),
        (lambda rows: rows[: 5 * 4], "2 days before the holdout with labels known when it began; 3 are needed"),
        (lambda rows: [r | {"available_at": late(99)} for r in rows], "no interval has all its labels"),
        (
            lambda rows: [r | {"returned": r["interval"] > "2024-01-06"} for r in rows],
            r"only \[False\] in the train part",
        ),
        (
            lambda rows: [r | {"returned": r["interval"] > "2024-01-06" or r["returned"]} for r in rows],
            r"only \[True\] in the holdout",
        ),
        (lambda rows: [*rows, rows[3]], r"order_id: an id more than once, 1 rows \(e.g. \('o0-3',\)\)"),
        (lambda rows: [*rows, rows[3] | {"ordered_at": None, "order_id": "x"}], "ordered_at: empty, 1 rows"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(change: Any, words: str) -> None:
    with pytest.raises(DataRejectedError, match=words):
        labelled_rows(use_case(), table(change(orders())), late(30))


@pytest.mark.parametrize("value", [float("nan"), 0.5, 2.0])
def test_a_label_that_is_no_label_is_refused(value: float) -> None:
    rows = [r | {"returned": float(r["returned"])} for r in orders()]
    rows[1]["returned"] = value

    with pytest.raises(DataRejectedError, match="returned: a label other than 0 and 1, 1 rows"):
        labelled_rows(use_case(), table(rows, pa.float64()), late(30))


def test_zeros_and_ones_and_texts() -> None:
    rows = [r | {"returned": int(r["returned"])} for r in orders()]

    found, _ = labelled_rows(use_case(), table(rows, pa.int64()), late(30))

    assert found[ROW_LABEL].to_pylist()[:2] == [True, False]
    with pytest.raises(DataRejectedError, match="returned: a label of type string"):
        labelled_rows(use_case(), table([r | {"returned": "yes"} for r in orders()], pa.string()), late(30))
