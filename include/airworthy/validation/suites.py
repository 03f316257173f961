"""Suites of Great Expectations as files: read, checked against the table's columns, kept as plain data."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.intervals import Interval

SEVERITIES = ("critical", "warning", "info")

ROW_LEVEL = {
    "expect_column_values_to_not_be_null",
    "expect_column_values_to_be_null",
    "expect_column_values_to_be_between",
    "expect_column_values_to_be_in_set",
    "expect_column_values_to_not_be_in_set",
    "expect_column_values_to_match_regex",
    "expect_column_values_to_not_match_regex",
    "expect_column_value_lengths_to_be_between",
    "expect_column_pair_values_a_to_be_greater_than_b",
}
"""Expectations that judge one row by itself. Every other one speaks of the whole table."""

TEXT_ONLY = {
    "expect_column_values_to_match_regex",
    "expect_column_values_to_not_match_regex",
    "expect_column_value_lengths_to_be_between",
}

MEMBERS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "int64": int,
    "float64": (int, float),
    "bool": bool,
    "timestamp": datetime,
}


@dataclass(frozen=True)
class Expectation:
    """One expectation of a suite.

    Attributes:
        type: GX's name, such as ``expect_column_values_to_be_between``.
        kwargs: Its arguments; bounds of timestamp columns are ``datetime`` in UTC, or stand for a bound of the interval
            until ``Suite.at``.
        severity: ``critical``, ``warning`` or ``info``.
        meta: Notes for people.
    """

    type: str
    kwargs: dict[str, Any]
    severity: str
    meta: dict[str, Any]

    @property
    def judges_rows(self) -> bool:
        """Whether it judges single rows. With ``mostly`` below 1 it speaks of a share, so of the table."""
        return self.type in ROW_LEVEL and self.kwargs.get("mostly", 1) == 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it reads."""
        names = [self.kwargs.get(k) for k in ("column", "column_A", "column_B")]
        return tuple(n for n in [*names, *self.kwargs.get("column_list", [])] if n)

    @property
    def words(self) -> str:
        """The expectation as it is shown to people and written beside a rejected row."""
        shown = {k: v for k, v in self.kwargs.items() if not k.startswith("column") and v is not None}
        arguments = ", ".join(f"{k}={v.isoformat() if isinstance(v, datetime) else v!r}" for k, v in shown.items())
        return f"{self.type}({arguments[:200]})"


@dataclass(frozen=True)
class Suite:
    """A suite and where it comes from."""

    name: str
    path: Path
    expectations: tuple[Expectation, ...]

    def at(self, first: Interval, last: Interval) -> Suite:
        """The suite for rows of the intervals from first to last: their bounds where it asks for them."""
        bounds = {"interval_start": first.start, "interval_end": last.end}
        return replace(self, expectations=tuple(_with_bounds(e, bounds) for e in self.expectations))

    @property
    def timeless(self) -> tuple[Expectation, ...]:
        """The expectations that can be judged without knowing the interval."""
        return tuple(e for e in self.expectations if not any(map(_parameter, e.kwargs.values())))


def load_suite(use_case: UseCase, source: str) -> Suite:
    """Read the suite of a source's raw table.

    Raises:
        ConfigurationError: no file, no suite, or an expectation that names no column of the source.
    """
    path = use_case.suite_path(source)
    if not path.exists():
        raise ConfigurationError(f"source {source} of {use_case.name} has no suite at {path}", next_step="write one")
    return _read(path, {name: column.type for name, column in use_case.sources[source].columns.items()})


def stage_suite(use_case: UseCase, layer: str, name: str, schema: pa.Schema) -> Suite | None:
    """Read the suite of a table after raw, such as ``clean/flights``; None when the use case has none for it.

    Args:
        use_case: The use case.
        layer, name: Of the table.
        schema: Of its rows.

    Raises:
        ConfigurationError: as ``load_suite``.
    """
    path = use_case.suite_path(f"{layer}/{name}")
    return _read(path, {field.name: _kind(field.type) for field in schema}) if path.exists() else None


def _read(path: Path, columns: dict[str, str]) -> Suite:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Suite(str(content["name"]), path, tuple(_expectation(e, columns) for e in content["expectations"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"the suite {path} cannot be used: {str(error)[:300]}",
            next_step='correct it; an expectation is {"type", "kwargs", "severity", "meta"} as GX writes it',
        ) from error


def _kind(given: pa.DataType) -> str:
    if kinds.is_timestamp(given):
        return "timestamp"
    if kinds.is_integer(given):
        return "int64"
    if kinds.is_floating(given):
        return "float64"
    return "bool" if kinds.is_boolean(given) else "string"


def _expectation(given: dict[str, Any], columns: dict[str, str]) -> Expectation:
    kwargs = dict(given.get("kwargs", {}))
    expectation = Expectation(given["type"], kwargs, given.get("severity", "critical"), given.get("meta") or {})
    if expectation.severity not in SEVERITIES:
        raise ValueError(f"{expectation.type}: severity {expectation.severity!r} is none of {SEVERITIES}")
    unknown = [name for name in expectation.columns if name not in columns]
    if unknown:
        raise ValueError(f"{expectation.type}: {unknown} is no column of the table")
    if kwargs.get("row_condition"):
        raise ValueError(
            f"{expectation.type}: row_condition is not supported, for pushed rows must get the same answer"
        )
    parameters = {name for value in kwargs.values() if (name := _parameter(value))}
    if parameters - {"interval_start", "interval_end"}:
        raise ValueError(
            f"{expectation.type}: a $PARAMETER is interval_start or interval_end, not {sorted(parameters)}"
        )
    if expectation.type in TEXT_ONLY and columns[kwargs["column"]] != "string":
        raise ValueError(f"{expectation.type}: {kwargs['column']} is not a column of strings")
    if any(columns[name] == "timestamp" for name in expectation.columns):
        # JSON has no times, and Great Expectations compares a text with a time by failing.
        kwargs.update({k: _moment(kwargs[k]) for k in ("min_value", "max_value") if isinstance(kwargs.get(k), str)})
    if kwargs.get("value_set") is not None and "column" in kwargs:
        kwargs["value_set"] = [_member(value, columns[kwargs["column"]]) for value in kwargs["value_set"]]
    return expectation


def _parameter(value: object) -> str | None:
    """The name in ``{"$PARAMETER": name}``, GX's way to leave a value open."""
    return str(value["$PARAMETER"]) if isinstance(value, dict) and "$PARAMETER" in value else None


def _with_bounds(expectation: Expectation, bounds: dict[str, datetime]) -> Expectation:
    named = {key: _parameter(value) for key, value in expectation.kwargs.items()}
    given = {key: bounds[name] for key, name in named.items() if name}
    return replace(expectation, kwargs=expectation.kwargs | given) if given else expectation


def _member(value: object, kind: str) -> object:
    """A member of a set; a stray one of another type would make pandas compare everything as text."""
    if kind == "timestamp" and isinstance(value, str):
        return _moment(value)
    if isinstance(value, bool) != (kind == "bool") or not isinstance(value, MEMBERS[kind]):
        raise ValueError(f"value_set holds {value!r}, which a column of type {kind} cannot")
    return value


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
