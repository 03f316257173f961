"""Damage made from an expectation: rows that are good but for one thing, and the same thing for Great Expectations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from airworthy.validation.suites import Expectation, Suite

TEXTS = {
    "^[0-9A-Z]{2}$": lambda n: f"{chr(65 + n // 10 % 26)}{n % 10}",
    "^[A-Z]{3}$": lambda n: "".join(chr(65 + n // 26**p % 26) for p in range(3)),
    "^[A-Z][0-9A-Z]{2,5}$": lambda n: f"{chr(65 + n // 60_466_176 % 26)}{_base36(n):0>5}",
    "^[0-9a-f]{32}$": lambda n: f"{n:032x}",
    "^[0-9a-f]{64}$": lambda n: f"{n:064x}",
    "^flight_delays_v[0-9]+$": lambda n: f"flight_delays_v{n}",
    "^(?:[a-z][a-z0-9_]*(?: |$))*$": lambda n: ("", "carrier", "wind_speed dewpoint")[n % 3],
    r"^flight_delays/[^/]+-[0-9]+\.log$": lambda n: f"flight_delays/host-1-{n}.log",
    r"^\{.*\}$": lambda n: f'{{"n": {n}}}',
}
STEP = {"int64": 1, "float64": 0.5, "timestamp": timedelta(microseconds=1)}


def _base36(n: int) -> str:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return (_base36(n // 36) if n >= 36 else "") + digits[n % 36]


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong: an expectation's number in the suite, and what to do to good rows."""

    number: int
    what: str
    cells: tuple[dict[str, Any], ...] = ()  # alternatives: what to write into one row
    table: str = ""  # or what to do to the table: column | copy | empty | many | sparse


def damages(suite: Suite, schema: pa.Schema) -> Iterator[Damage]:
    """Every way in which an expectation of the suite can fail."""
    for number, e in enumerate(suite.expectations):
        for what, found in WAYS[e.type](e, suite, schema):
            table, cells = (found, ()) if isinstance(found, str) else ("", tuple(found))
            yield Damage(number, f"{what}: {e.words} of {', '.join(e.columns) or 'the table'}", cells, table)


Ways = Iterator[tuple[str, Any]]


def _row_count(e: Expectation, suite: Suite, schema: pa.Schema) -> Ways:
    if e.kwargs["min_value"]:
        yield "no rows", "empty"
    yield "too many rows", "many"


def _not_null(e: Expectation, suite: Suite, schema: pa.Schema) -> Ways:
    if e.kwargs.get("mostly", 1) == 1:
        yield "nothing", [{e.kwargs["column"]: None}]
    else:
        yield "mostly nothing", "sparse"


def _between(e: Expectation, suite: Suite, schema: pa.Schema) -> Ways:
    column, low, high = (e.kwargs.get(k) for k in ("column", "min_value", "max_value"))
    step = STEP[kind_of(schema.field(column).type)]
    if low is not None:
        yield "below", _moved(suite, column, low - step)
    if high is not None:
        yield "above", _moved(suite, column, high if e.kwargs.get("strict_max") else high + step)


def _moved(suite: Suite, column: str, value: Any) -> list[dict[str, Any]]:
    """The cell alone, or with those that must lie before or after it."""
    cells = {column: value}
    for e in suite.expectations:
        a, b = e.kwargs.get("column_A"), e.kwargs.get("column_B")
        if a == column:
            cells[b] = value - timedelta(hours=1)
        if b == column:
            cells[a] = value + timedelta(hours=1)
    return [{column: value}, cells]


def _strange(e: Expectation, suite: Suite, schema: pa.Schema) -> Ways:
    yield "a strange text", [{e.kwargs["column"]: "?"}]


def _order(e: Expectation, suite: Suite, schema: pa.Schema) -> Ways:
    a, b = e.kwargs["column_A"], e.kwargs["column_B"]
    yield "the wrong order", [{a: (b, -timedelta(minutes=1))}, {b: (a, timedelta(minutes=1))}]


WAYS: dict[str, Callable[[Expectation, Suite, pa.Schema], Ways]] = {
    "expect_table_columns_to_match_set": lambda *_: iter([("an unexpected column", "column")]),
    "expect_compound_columns_to_be_unique": lambda *_: iter([("a row twice", "copy")]),
    "expect_column_values_to_be_unique": lambda *_: iter([("a row twice", "copy")]),
    "expect_table_row_count_to_be_between": _row_count,
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _strange,
    "expect_column_values_to_match_regex": _strange,
    "expect_column_pair_values_a_to_be_greater_than_b": _order,
}


def kind_of(given: pa.DataType) -> str:
    """The declared name of a type."""
    if kinds.is_timestamp(given):
        return "timestamp"
    return "int64" if kinds.is_integer(given) else "float64" if kinds.is_floating(given) else "string"


def with_cells(rows: pa.Table, planted: dict[int, dict[str, Any]]) -> pa.Table:
    """Rows with some cells replaced; a pair (column, delta) is another cell of the row, moved."""
    columns = {name: None for cells in planted.values() for name in cells}
    for name in columns:
        values = rows[name].to_pylist()
        for row, cells in planted.items():
            if name in cells:
                value = cells[name]
                values[row] = rows[value[0]][row].as_py() + value[1] if isinstance(value, tuple) else value
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, rows.schema.field(name).type))
    return rows


def with_table(rows: pa.Table, suite: Suite, damage: Damage) -> pa.Table:
    """Rows with a damage of the whole table."""
    e = suite.expectations[damage.number]
    if damage.table == "column":
        return rows.append_column("surprise", pa.nulls(rows.num_rows, pa.string()))
    if damage.table == "copy":
        return pa.concat_tables([rows, rows.slice(0, 1)])
    if damage.table == "empty":
        return rows.slice(0, 0)
    if damage.table == "sparse":
        return with_cells(rows, {n: {e.kwargs["column"]: None} for n in range(rows.num_rows * 2 // 3)})
    return many(rows, suite, e.kwargs["max_value"] + 1)


def many(rows: pa.Table, suite: Suite, count: int) -> pa.Table:
    """So many good rows: copies whose keys differ."""
    [keys] = [x.kwargs["column_list"] for x in suite.expectations if "compound" in x.type]
    grown = rows.take(pa.array([n % rows.num_rows for n in range(count)]))
    moments = [k for k in keys if kinds.is_timestamp(rows.schema.field(k).type)]
    if moments:
        name = moments[0]
        values = [v + timedelta(microseconds=n) for n, v in enumerate(grown[name].to_pylist())]
    else:
        name = keys[0]
        [regex] = [
            x.kwargs["regex"] for x in suite.expectations if x.kwargs.get("column") == name and "regex" in x.kwargs
        ]
        values = [TEXTS[regex](n) for n in range(count)]
    return grown.set_column(grown.schema.get_field_index(name), name, pa.array(values, rows.schema.field(name).type))


def good_rows(suite: Suite, schema: pa.Schema, count: int, start: datetime) -> pa.Table:
    """Rows that fulfil a suite, made from its own expectations."""
    rules: dict[str, Expectation] = {
        e.kwargs["column"]: e
        for e in suite.expectations
        if "column" in e.kwargs and not e.type.endswith(("null", "unique"))
    }
    moment = [start + timedelta(minutes=n) for n in range(count)]
    content = {}
    for field in schema:
        rule, kind = rules.get(field.name), kind_of(field.type)
        if kinds.is_boolean(field.type):
            values: list[Any] = [n % 2 == 0 for n in range(count)]
        elif kind == "timestamp":
            values = moment
        elif kinds.is_list(field.type):
            values = [[] for _ in range(count)]
        elif rule is None:
            values = [1 if kind == "int64" else "x"] * count
        elif "value_set" in rule.kwargs:
            values = [rule.kwargs["value_set"][n % len(rule.kwargs["value_set"])] for n in range(count)]
        elif "regex" in rule.kwargs:
            values = [TEXTS.get(rule.kwargs["regex"], lambda n: "BOEING")(n) for n in range(count)]
        else:
            values = [rule.kwargs.get("min_value", 0) + n % 2 for n in range(count)]
        content[field.name] = pa.array(values, field.type)
    return pa.table(content, schema=schema)
