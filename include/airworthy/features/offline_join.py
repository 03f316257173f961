"""The point-in-time join of one feature view, as one ASOF join of DuckDB.

An ASOF join knows one inequality, not two, so the two times become one first. A row becomes visible at
``visible_at = greatest(event time, available_at)``. Of each key's rows, in the order of ``visible_at``, only
those are kept that beat all before them (a late row about the past never replaces a newer one). After that the
newest visible row *is* the best visible row, and the join on ``visible_at`` is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.errors import ConfigurationError
from airworthy.features.delta_source import require_columns
from airworthy.features.offline_entities import Rows
from airworthy.features.offline_view import View, not_null
from airworthy.lake.duck import quote


def as_of(session: duckdb.DuckDBPyConnection, view: View, rows: Rows) -> pa.Table:
    """The features of one view for each entity row, in the order of the rows."""
    require_columns(rows.table.schema, [name for name, _ in view.keys], f"entity rows for view {view.label}")
    schema = view.dataset.schema
    keys = {f"k{i}": _key(rows.table, name, schema.field(c)) for i, (name, c) in enumerate(view.keys)}
    session.register("entity", pa.table({"i": pa.array(np.arange(rows.table.num_rows)), "t": rows.times, **keys}))
    session.register("source", view.dataset)
    found = session.sql(_as_of_sql(view, _span(rows.times))).to_arrow_table()
    if found.num_rows != rows.table.num_rows:
        raise RuntimeError(f"view {view.label}: {found.num_rows} rows found for {rows.table.num_rows} entity rows")
    types = [schema.field(column).type for _, column in view.features]
    arrays = [found[f"f{i}"].cast(kind) for i, kind in enumerate(types)]
    return pa.table(arrays, names=[name for name, _ in view.features])


def _as_of_sql(view: View, span: tuple[datetime, datetime] | None) -> str:
    n = range(len(view.keys))
    features = [f"f{i}" for i in range(len(view.features))]
    columns = [f"s.{quote(c)} AS k{i}" for i, (_, c) in enumerate(view.keys)]
    columns += [f"s.{quote(c)} AS f{i}" for i, (_, c) in enumerate(view.features)]
    partition = "".join(f"k{i}, " for i in n)
    # Rows with the same key and the same two times may say different things. Which is taken must not depend on the
    # order of files, or a training set could not be made again: the values decide.
    order = ", ".join(["visible_at", "event_ts", "known_ts", *(f"{f} NULLS FIRST" for f in features)])
    window = f"({f'PARTITION BY {partition[:-2]} ' if partition else ''}ORDER BY {order}"
    alive = f"epoch_us(e.t) - epoch_us(b.event_ts) <= {view.ttl // timedelta(microseconds=1)}" if view.ttl else "true"
    picked = "".join(f", CASE WHEN {alive} THEN b.{f} END AS {f}" for f in features)
    on = " AND ".join([*(f"e.k{i} = b.k{i}" for i in n), "e.t >= b.visible_at"])
    return f"""
        WITH known AS (
            SELECT {", ".join(["", *columns])[2:]}{", " if columns else ""}{view.event_ts()} AS event_ts,
                {view.known_ts()} AS known_ts, {view.visible_at()} AS visible_at
            FROM source s WHERE {" AND ".join([*_in_span(view, span), *not_null(c for _, c in view.keys)])}
        ), best AS (
            -- The best of each moment comes last in it. It beats all rows before it if none of them has a later event:
            -- of one event a row that becomes visible later is also known later.
            SELECT * FROM known
            QUALIFY event_ts >= max(event_ts) OVER {window} ROWS UNBOUNDED PRECEDING)
                AND lead(visible_at) OVER {window}) IS DISTINCT FROM visible_at
        )
        SELECT e.i{picked} FROM entity e ASOF LEFT JOIN best b ON {on} ORDER BY e.i
    """  # noqa: S608 - names are quoted


def _span(times: pa.ChunkedArray) -> tuple[datetime, datetime] | None:
    """First and last time of the entity rows; None if there is none."""
    span = pc.min_max(times).as_py()
    return None if span["min"] is None else (span["min"], span["max"])


def _in_span(view: View, span: tuple[datetime, datetime] | None) -> list[str]:
    """Conditions of the rows that some entity row may see."""
    if span is None:
        return ["false"]
    first, last = span
    conditions = view.visible(last)
    if view.ttl and first - datetime.min.replace(tzinfo=UTC) > view.ttl:
        conditions.append(view.bound(view.event_time, ">=", first - view.ttl))
    return conditions


def side_by_side(rows: Rows, found: Iterable[pa.Table]) -> pa.Table:
    """The entity rows with the features that were found; no column hides another."""
    result = rows.table
    for table in found:
        for name in table.schema.names:
            if name in result.schema.names:
                raise ConfigurationError(
                    f"column {name} would come twice",
                    next_step="ask for full feature names, or rename the entity column",
                )
            result = result.append_column(name, table[name])
    return result


def _key(rows: pa.Table, name: str, field: pa.Field) -> pa.ChunkedArray:
    """A join key of the entity rows in the type of the table's column: exactly, or not at all."""
    column = rows[name]
    if _family(column.type) not in (_family(field.type), "null"):
        raise ConfigurationError(
            f"join key {name} is {column.type} in the entity rows and {field.type} in the table",
            next_step="convert the entity rows",
        )
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        raise ConfigurationError(
            f"join key {name} has values that the table's type {field.type} cannot hold: {error}",
            next_step="convert the entity rows",
        ) from error


def _family(kind: pa.DataType) -> str:
    """Types between which a key keeps its meaning; "7" and 7 are not the same key."""
    if pa.types.is_dictionary(kind):
        return _family(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    return "time" if pa.types.is_timestamp(kind) else str(kind)
