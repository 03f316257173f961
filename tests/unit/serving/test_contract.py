"""Bad requests are refused with the field's name; good ones keep their types."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from airworthy.config import UseCase, load_use_case
from airworthy.serving.contract import body_model, example, plain, refusals, request_model

ORDER: dict[str, Any] = {
    "order_id": "o-1",
    "customer": "c01",
    "channel": "web",
    "amount": 40.0,
    "items": 1,
    "ordered_at": "2024-03-11T12:00:00Z",
}
BAD: list[tuple[str, Any]] = [
    ("customer", None),
    ("customer", ""),
    ("customer", "x" * 65),
    ("customer", 7),
    ("customer", "a\x00b"),
    ("customer", "\ud800"),
    ("customer", ["c01"]),
    ("amount", None),
    ("amount", float("nan")),
    ("amount", float("inf")),
    ("amount", -float("inf")),
    ("amount", 1e300),
    ("amount", "40"),
    ("amount", True),
    ("amount", {}),
    ("items", 1.5),
    ("items", "1"),
    ("items", 10**30),
    ("items", True),
    ("ordered_at", "2024-03-11T12:00:00"),
    ("ordered_at", "yesterday"),
    ("ordered_at", 1710158400),
    ("ordered_at", "2024-03-11"),
    ("ordered_at", "0001-01-01T00:00:00+14:00"),
    ("ordered_at", "9999-12-31T23:59:59-14:00"),
    ("ordered_at", "2044-03-11T12:00:00Z"),
    ("ordered_at", None),
]


@pytest.fixture(scope="module")
def orders() -> UseCase:
    return load_use_case("tiny_orders")


@pytest.fixture(scope="module")
def sensors() -> UseCase:
    return load_use_case("tiny_sensors")


@pytest.mark.parametrize(("field", "value"), BAD, ids=[f"{f}-{str(v)[:20]!a}" for f, v in BAD])
def test_a_bad_value_is_refused_by_the_name_of_its_field(orders: UseCase, field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(body_model(orders)).validate_python({**ORDER, field: value})
    (problem,) = refusals(refused.value.errors())
    assert problem["field"] == field
    json.dumps(problem, allow_nan=False)


def test_missing_and_unknown_fields_are_named(orders: UseCase) -> None:
    body = {k: v for k, v in ORDER.items() if k != "amount"} | {"returned": True}
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(body_model(orders)).validate_python(body)
    assert {p["field"] for p in refusals(refused.value.errors())} == {"amount", "returned"}


@pytest.mark.parametrize(
    "body", [None, 1, "x", [], [ORDER], {"requests": []}, {"requests": [ORDER] * 1001}, {"requests": [ORDER], "x": 1}]
)
def test_a_body_of_another_shape_is_refused(orders: UseCase, body: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(body_model(orders)).validate_python(body)
    assert refusals(refused.value.errors())


def test_the_place_in_a_batch_is_named_and_the_list_is_bounded(orders: UseCase) -> None:
    bad = {**ORDER, "items": "many"}
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(body_model(orders)).validate_python({"requests": [ORDER, *[bad] * 100]})
    problems = refusals(refused.value.errors())
    assert problems[0]["field"] == "requests.1.items"
    assert len(problems) == 21
    assert "80 more" in problems[-1]["problem"]


def test_one_request_and_several_give_the_same_typed_values(orders: UseCase) -> None:
    adapter = TypeAdapter(body_model(orders))
    one = adapter.validate_python({**ORDER, "amount": 40, "ordered_at": "2024-03-11T08:00:00-04:00"})
    (same,) = adapter.validate_python({"requests": [ORDER]}).requests
    assert one == same
    assert one.ordered_at == datetime(2024, 3, 11, 12, tzinfo=UTC)
    assert one.ordered_at.utcoffset() == timedelta(0)
    assert isinstance(one.amount, float)


def test_an_optional_field_may_be_absent_or_null_and_the_example_fits(sensors: UseCase) -> None:
    good = example(sensors)
    json.dumps(good)
    model = request_model(sensors)
    without = {k: v for k, v in good.items() if k != "sensor_id"}
    assert model.model_validate(without) == model.model_validate({**good, "sensor_id": None})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64("nan"), None),
        (float("inf"), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (None, None),
        ("x", "x"),
        (1.5, 1.5),
    ],
)
def test_values_become_json(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)
