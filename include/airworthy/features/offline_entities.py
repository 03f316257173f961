"""Entity rows of a retrieval: from a DataFrame, from SQL, or from a range of time; each with its moment in UTC."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.infra.registry.base_registry import BaseRegistry

from airworthy.errors import ConfigurationError
from airworthy.features.offline_view import INSTANT, OpenTables, View, as_utc, literal, not_null
from airworthy.lake.duck import quote
from airworthy.lake.duck import session as process_session

EVENT_TIMESTAMP = "event_timestamp"


@dataclass(frozen=True)
class Rows:
    """Entity rows: the table as it was given, and each row's time in UTC."""

    table: pa.Table
    times: pa.ChunkedArray


def entity_rows(
    entity_df: pd.DataFrame | str | None,
    views: Sequence[View],
    tables: OpenTables,
    where: tuple[BaseRegistry, str],
    dates: tuple[datetime | None, datetime | None],
) -> Callable[[duckdb.DuckDBPyConnection], Rows]:
    """How to get the entity rows in a session. Data versions are chosen here, before it runs."""
    if isinstance(entity_df, pd.DataFrame):
        rows = timed(pa.Table.from_pandas(entity_df, preserve_index=False))
        return lambda session: rows
    if isinstance(entity_df, str):
        return _from_sql(entity_df, tables, where)
    if entity_df is not None:
        raise ConfigurationError(
            f"entity_df is a {type(entity_df).__name__}",
            next_step="give a pandas DataFrame, SQL for DuckDB, or None",
        )
    return _from_range(views, dates)


def timed(table: pa.Table) -> Rows:
    """Entity rows with their moments: of ``event_timestamp``, or of the only timestamp column."""
    times = [f.name for f in table.schema if pa.types.is_timestamp(f.type)]
    if EVENT_TIMESTAMP in table.schema.names:
        times = [EVENT_TIMESTAMP]
    if len(times) != 1:
        raise ConfigurationError(
            f"entity rows have {len(times)} timestamp columns ({', '.join(times[:5])})",
            next_step=f"name the time of prediction {EVENT_TIMESTAMP}",
        )
    return Rows(table, _to_utc(table[times[0]], times[0]))


def _to_utc(times: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    if pa.types.is_string(times.type) or pa.types.is_large_string(times.type):
        try:
            times = pa.chunked_array(
                [pa.Array.from_pandas(pd.to_datetime(times.to_pandas(), utc=True, format="ISO8601"))]
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"entity column {name} is no time: {error}", next_step="give timestamps"
            ) from error
    if pa.types.is_date(times.type) or pa.types.is_null(times.type):
        times = times.cast(pa.timestamp("us"))
    if not pa.types.is_timestamp(times.type):
        raise ConfigurationError(f"entity column {name} is {times.type}, no time", next_step="give timestamps")
    if times.type.unit == "ns":
        times = pc.floor_temporal(times, unit="microsecond")  # downwards, so that no moment sees what comes after it
    aware = times if times.type.tz else pc.assume_timezone(times, "UTC")
    return aware.cast(INSTANT)


def _from_sql(
    sql: str, tables: OpenTables, where: tuple[BaseRegistry, str]
) -> Callable[[duckdb.DuckDBPyConnection], Rows]:
    registry, project = where
    with process_session() as parser, _sql_errors():
        named = parser.get_table_names(sql)
    sources = [s for s in registry.list_data_sources(project) if s.name in named] if named else []
    datasets = {s.name: tables.dataset(s, "entity SQL") for s in sources}

    def run(session: duckdb.DuckDBPyConnection) -> Rows:
        for name, dataset in datasets.items():
            session.register(name, dataset)
        with _sql_errors():
            table = session.sql(sql).to_arrow_table()
        return timed(table)

    return run


@contextmanager
def _sql_errors() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, AttributeError) as error:  # the latter for a statement that gives no rows
        raise ConfigurationError(
            f"the entity SQL cannot be run: {error}", next_step="give one SELECT for DuckDB"
        ) from error


def _from_range(
    views: Sequence[View], dates: tuple[datetime | None, datetime | None]
) -> Callable[[duckdb.DuckDBPyConnection], Rows]:
    start, end = dates
    if start is None or end is None:
        raise ConfigurationError(
            "without entity rows a retrieval needs start_date and end_date", next_step="give both, in UTC"
        )
    if len({frozenset(name for name, _ in view.keys) for view in views}) != 1:
        raise ConfigurationError(
            "without entity rows all views must have the same join keys",
            next_step="ask for one view at a time",
        )
    low, high = as_utc(start), as_utc(end)

    def run(session: duckdb.DuckDBPyConnection) -> Rows:
        parts = []
        for i, view in enumerate(views):
            session.register(f"range{i}", view.dataset)
            keys = sorted(view.keys)
            select = "".join(f"s.{quote(c)} AS {quote(name)}, " for name, c in keys)
            conditions = [*view.visible(high), *not_null(c for _, c in keys)]
            conditions.append(f"{view.visible_at()} >= {literal(low, INSTANT)}")
            parts.append(
                f"SELECT {select}{view.visible_at()} AS {EVENT_TIMESTAMP} "  # noqa: S608 - names are quoted
                f"FROM range{i} s WHERE {' AND '.join(conditions)}"
            )
        return timed(session.sql(f"{' UNION '.join(parts)} ORDER BY ALL").to_arrow_table())

    return run
