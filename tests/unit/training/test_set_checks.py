"""Each check of a training set finds what was planted for it, and nothing in an honest set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from airworthy.config import UseCase, load_use_case
from airworthy.intervals import Interval
from airworthy.training.known_in_time import TooLate
from airworthy.training.set_checks import check_set, feature_auc, report_of

START = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS = {"channel": pa.string(), "amount": pa.float64(), "hour": pa.int64(), "vip": pa.bool_()}
N = 1200


@pytest.fixture
def case() -> UseCase:
    return load_use_case("tiny_orders")


def honest() -> dict[str, Any]:
    """Thirty days of orders; the last ten are the holdout."""
    rng = np.random.default_rng(5)
    day = np.repeat(np.arange(30), N // 30)
    amount = rng.gamma(2, 40, N)
    return {
        "part": np.where(day >= 20, "holdout", "train").tolist(),
        "label": (amount / 60 + rng.normal(0, 0.8, N) > 1.6).tolist(),
        "prediction_time": [START + timedelta(days=int(d), minutes=i % 1000) for i, d in enumerate(day)],
        "order_id": [f"o{i}" for i in range(N)],
        "channel": rng.choice(["app", "phone", "web"], N).tolist(),
        "amount": [None if rng.random() < 0.1 else float(a) for a in amount],
        "hour": rng.integers(0, 24, N).tolist(),
        "vip": (rng.random(N) < 0.1).tolist(),
    }


def failed(case: UseCase, content: dict[str, Any], late: tuple[TooLate, ...] = (), **bounds: Any) -> dict[str, Any]:
    """Names of the checks that failed, with where they point."""
    checks = case.training.checks.model_copy(update=bounds)
    with_bounds = case.model_copy(update={"training": case.training.model_copy(update={"checks": checks})})
    times = pa.array(content["prediction_time"], pa.timestamp("us", tz="UTC"))
    table = pa.table({n: times if n == "prediction_time" else pa.array(v) for n, v in content.items()})
    found = check_set(with_bounds, table, COLUMNS, late, set(COLUMNS) & set(content))
    report = report_of(with_bounds, found, table.num_rows, Interval.of("2024-01-01"), Interval.of("2024-01-30"))
    assert report.passed == all(f.check.passed for f in found)
    assert len({f.check.name for f in found}) == len(found) == 9
    return {f.check.name: f for f in found if not f.check.passed}


def test_an_honest_set_passes(case: UseCase) -> None:
    assert failed(case, honest()) == {}


def test_a_training_row_in_the_time_of_the_holdout(case: UseCase) -> None:
    content = honest()
    content["prediction_time"][3] = START + timedelta(days=25)

    found = failed(case, content)

    assert set(found) == {"overlap"}
    assert "1 too late, 0 in both" in found["overlap"].check.words


def test_a_row_in_both_parts(case: UseCase) -> None:
    content = honest()
    content["order_id"][3] = content["order_id"][-1]

    assert failed(case, content)["overlap"].count == 1


def test_columns_in_another_order_or_of_another_type(case: UseCase) -> None:
    content = honest()
    swapped = {n: content[n] for n in [*list(content)[:-2], "vip", "hour"]}
    found = failed(case, swapped)
    assert set(found) == {"columns"}
    assert found["columns"].examples == ("vip bool where hour int64 belongs", "hour int64 where vip bool belongs")

    content["hour"] = [float(h) for h in content["hour"]]
    assert failed(case, content)["columns"].examples == ("hour double where hour int64 belongs",)


def test_too_few_rows_and_too_few_of_a_label(case: UseCase) -> None:
    assert set(failed(case, honest(), min_rows=801)) == {"train_rows"}
    assert set(failed(case, honest(), min_class_rows=700)) == {"class_rows"}


@pytest.mark.parametrize(("bounds", "name"), [({"max_label_rate": 0.1}, "max"), ({"min_label_rate": 0.9}, "min")])
def test_label_rates_out_of_bounds(case: UseCase, bounds: dict[str, float], name: str) -> None:
    assert set(failed(case, honest(), **bounds)) == {"train_label_rate", "holdout_label_rate"}


def test_labels_that_turned_in_the_holdout_alone(case: UseCase) -> None:
    content = honest()
    content["label"] = [True if p == "holdout" else v for p, v in zip(content["part"], content["label"], strict=True)]

    assert set(failed(case, content)) == {"holdout_label_rate"}


def test_rows_that_were_delivered_twice(case: UseCase) -> None:
    content = honest()
    for name in set(content) - {"order_id"}:
        content[name][:50] = content[name][50:100]

    found = failed(case, content)

    assert set(found) == {"duplicate_share"}
    assert found["duplicate_share"].count == 50


def leaks() -> dict[str, Any]:
    """Columns that were made from the label, each in another way."""
    label, rng = honest()["label"], np.random.default_rng(1)
    return {
        "the label itself": [float(v) for v in label],
        "its opposite with noise": [float(not v) + float(e) for v, e in zip(label, rng.normal(0, 0.1, N), strict=True)],
        "only by its gaps": [None if v else 1.0 for v in label],
        "in no order": [float((3 if e > 0.5 else 9) if v else 6) for v, e in zip(label, rng.random(N), strict=True)],
    }


@pytest.mark.parametrize("kind", list(leaks()))
def test_a_feature_that_was_made_from_the_label(case: UseCase, kind: str) -> None:
    found = failed(case, {**honest(), "amount": leaks()[kind]} | {n: honest()[n] for n in ("hour", "vip")})

    assert set(found) == {"feature_auc"}
    assert found["feature_auc"].column == "amount"
    assert "too good to be true" in found["feature_auc"].check.words


def test_many_categories_do_not_look_good_by_themselves() -> None:
    rng = np.random.default_rng(2)
    values = pa.chunked_array([pa.array([f"c{i}" for i in rng.integers(0, 800, 2000)])])

    assert 0.4 < feature_auc(values, rng.random(2000) < 0.3) < 0.6


def test_a_value_that_was_published_too_late(case: UseCase) -> None:
    found = failed(case, honest(), late=(TooLate("orders_7d", 3), TooLate("orders_1d", 1)))

    assert set(found) == {"known_late"}
    assert (found["known_late"].column, found["known_late"].count) == ("orders_7d, orders_1d", 4)
