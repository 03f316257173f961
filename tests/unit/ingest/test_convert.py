"""Typing of landed values: strict, and every offence is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airworthy.config.data_spec import Column
from airworthy.ingest.convert import Converted, from_array, from_texts, from_values

NEW_YORK = "America/New_York"


def texts(kind: str, values: list[str | None], *, nullable: bool = False, zone: str | None = None) -> Converted:
    return from_texts("c", Column(type=kind, nullable=nullable), zone, pa.array(values, pa.string()))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int64", "12", 12),
        ("int64", "-0517", -517),
        ("int64", "9223372036854775807", 2**63 - 1),
        ("float64", "1e3", 1000.0),
        ("float64", "-.5", -0.5),
        ("float64", "3", 3.0),
        ("bool", "TRUE", True),
        ("bool", "0", False),
        ("string", "NA", "NA"),
        ("string", " x ", " x "),
        ("timestamp", "2013-01-01T05:00:00Z", datetime(2013, 1, 1, 5, tzinfo=UTC)),
        ("timestamp", "2013-01-01 05:00+05:30", datetime(2012, 12, 31, 23, 30, tzinfo=UTC)),
        ("timestamp", "2013-01-01T05:00:00.250-0500", datetime(2013, 1, 1, 10, 0, 0, 250000, tzinfo=UTC)),
    ],
)
def test_a_value_of_the_type_is_taken(kind: str, text: str, value: object) -> None:
    found = texts(kind, [text])
    assert found.values.to_pylist() == [value]
    assert (found.failures, found.rejected) == ((), {})


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int64", "1.0"),
        ("int64", "12a"),
        ("int64", "9223372036854775808"),
        ("int64", " 1"),
        ("float64", "nan"),
        ("float64", "inf"),
        ("float64", "1e999"),
        ("float64", "1,5"),
        ("bool", "yes"),
        ("timestamp", "2013-02-30T00:00:00Z"),
        ("timestamp", "05/01/2013"),
        ("timestamp", "2013-01-01T25:00:00Z"),
    ],
)
def test_a_value_of_another_type_is_counted_and_shown(kind: str, text: str) -> None:
    good = {"int64": "1", "float64": "1", "bool": "true", "timestamp": "2013-01-01T00:00:00Z"}[kind]
    found = texts(kind, [good, text, text], zone=NEW_YORK)
    (failure,) = found.failures
    assert (failure.column, failure.count, failure.examples) == ("c", 2, (text, text))
    assert f"not of type {kind}" in failure.check


@pytest.mark.parametrize("kind", ["int64", "float64", "bool", "timestamp"])
@pytest.mark.parametrize("text", ["", "NA", None])
def test_nothing_is_null_where_that_is_allowed_and_a_rejected_row_where_not(kind: str, text: str | None) -> None:
    allowed = texts(kind, [text], nullable=True, zone=NEW_YORK)
    assert (allowed.values.to_pylist(), allowed.failures, allowed.rejected) == ([None], (), {})
    refused = texts(kind, [text], zone=NEW_YORK)
    assert (refused.failures, refused.rejected) == ((), {0: "c: empty"})


def test_an_empty_text_is_no_string_and_na_is_one_unless_it_may_be_null() -> None:
    assert texts("string", ["", "NA"]).rejected == {0: "c: empty"}
    assert texts("string", ["", "NA", "x"], nullable=True).values.to_pylist() == [None, None, "x"]


def test_a_naive_time_without_a_zone_is_refused() -> None:
    found = texts("timestamp", ["2013-01-01T00:00:00Z", "2013-01-01 05:00:00"])
    (failure,) = found.failures
    assert failure.count == 1
    assert failure.examples == ("2013-01-01 05:00:00",)
    assert "timezone" in failure.check


def test_the_hour_that_never_was_is_a_rejected_row_that_keeps_its_text() -> None:
    found = texts("timestamp", ["2013-03-10 01:59:59", "2013-03-10 02:30:00", "2013-03-10 03:00:00"], zone=NEW_YORK)
    assert found.values.to_pylist() == [
        datetime(2013, 3, 10, 6, 59, 59, tzinfo=UTC),
        None,
        datetime(2013, 3, 10, 7, tzinfo=UTC),
    ]
    assert list(found.rejected) == [1]
    assert "does not exist in America/New_York" in found.rejected[1]
    assert found.texts == {1: "2013-03-10 02:30:00"}
    assert found.failures == ()


def test_the_hour_that_was_twice_is_the_first_of_the_two() -> None:
    found = texts("timestamp", ["2013-11-03 01:30:00", "2013-11-03 01:30:00-05:00"], zone=NEW_YORK)
    assert found.values.to_pylist() == [
        datetime(2013, 11, 3, 5, 30, tzinfo=UTC),
        datetime(2013, 11, 3, 6, 30, tzinfo=UTC),
    ]


@given(
    st.datetimes(datetime(1975, 1, 1), datetime(2035, 1, 1)).map(lambda d: d.replace(microsecond=0)),
    st.sampled_from([NEW_YORK, "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]),
)
def test_local_times_become_what_python_says(local: datetime, zone: str) -> None:
    expected = local.replace(tzinfo=ZoneInfo(zone), fold=0)
    exists = expected.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local
    found = texts("timestamp", [f"{local:%Y-%m-%d %H:%M:%S}"], zone=zone)
    assert found.values.to_pylist() == [expected.astimezone(UTC) if exists else None]
    assert bool(found.rejected) is not exists


@pytest.mark.parametrize(
    ("kind", "value", "as_text", "expected"),
    [
        ("int64", 3, False, 3),
        ("int64", 3.0, False, 3),
        ("int64", "3", True, 3),
        ("float64", 0.1, False, 0.1),
        ("float64", 2, False, 2.0),
        ("bool", True, False, True),
        ("bool", "false", True, False),
        ("string", "x", False, "x"),
        ("timestamp", "2013-01-01T00:00:00Z", False, datetime(2013, 1, 1, tzinfo=UTC)),
        (
            "timestamp",
            datetime(2013, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            False,
            datetime(2013, 1, 1, tzinfo=UTC),
        ),
    ],
)
def test_json_values_are_typed(kind: str, value: object, as_text: bool, expected: object) -> None:
    found = from_values("c", Column(type=kind), None, [value], as_text=as_text)
    assert found.values.to_pylist() == [expected]
    assert found.failures == ()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int64", True),
        ("int64", 1.5),
        ("int64", "3"),
        ("int64", 2**70),
        ("int64", float("inf")),
        ("float64", "0.1"),
        ("float64", float("-inf")),
        ("bool", 1),
        ("string", 5),
        ("string", ["a"]),
        ("timestamp", 1357000000),
    ],
)
def test_json_values_of_another_type_are_refused(kind: str, value: object) -> None:
    (failure,) = from_values("c", Column(type=kind, nullable=True), None, [None, value], as_text=False).failures
    assert failure.count == 1


def test_a_json_nan_is_nothing() -> None:
    assert from_values("c", Column(type="float64"), None, [float("nan")], as_text=False).rejected == {0: "c: empty"}


@pytest.mark.parametrize(
    ("kind", "array", "expected"),
    [
        ("int64", pa.array([1, None], pa.int16()), [1, None]),
        ("float64", pa.array([1, None], pa.int32()), [1.0, None]),
        ("float64", pa.array([float("nan"), 0.5], pa.float32()), [None, 0.5]),
        ("string", pa.array(["a", None]).dictionary_encode(), ["a", None]),
        ("string", pa.array(["a", None], pa.large_string()), ["a", None]),
        ("bool", pa.array([True, None]), [True, None]),
        ("int64", pa.nulls(2), [None, None]),
        (
            "timestamp",
            pa.array([datetime(2013, 1, 1, 5), None], pa.timestamp("ns")),
            [datetime(2013, 1, 1, 10, tzinfo=UTC), None],
        ),
        (
            "timestamp",
            pa.array([datetime(2013, 1, 1, 5, tzinfo=UTC)], pa.timestamp("s", "Asia/Tokyo")),
            [datetime(2013, 1, 1, 5, tzinfo=UTC)],
        ),
        ("timestamp", pa.array(["2013-01-01 05:00:00"]), [datetime(2013, 1, 1, 10, tzinfo=UTC)]),
    ],
)
def test_typed_columns_may_be_widened(kind: str, array: pa.Array, expected: list[object]) -> None:
    found = from_array("c", Column(type=kind, nullable=True), NEW_YORK, array)
    assert found.values.to_pylist() == expected
    assert found.failures == ()


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("int64", pa.array([1.0])),
        ("int64", pa.array(["1"])),
        ("float64", pa.array(["1"])),
        ("string", pa.array([1])),
        ("bool", pa.array([1])),
        ("timestamp", pa.array([1357000000])),
    ],
)
def test_typed_columns_of_another_type_are_refused(kind: str, array: pa.Array) -> None:
    (failure,) = from_array("c", Column(type=kind), NEW_YORK, array).failures
    assert (failure.column, failure.count) == ("c", 1)


def test_a_typed_naive_time_follows_the_same_rules() -> None:
    gap = pa.array([datetime(2013, 3, 10, 2, 30)], pa.timestamp("us"))
    assert "does not exist" in from_array("c", Column(type="timestamp"), NEW_YORK, gap).rejected[0]
    assert "timezone" in from_array("c", Column(type="timestamp"), None, gap).failures[0].check
    empty = from_array("c", Column(type="timestamp"), NEW_YORK, pa.array([None], pa.timestamp("us")))
    assert empty.rejected == {0: "c: empty"}
