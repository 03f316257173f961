"""Reading one interval's rows from a database, over any SQLAlchemy URL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from airworthy.config import UseCase
from airworthy.config.sql_source import SqlSource
from airworthy.errors import MAX_EXAMPLES, CheckFailure, ConfigurationError, DataRejectedError, ServiceUnavailableError
from airworthy.ingest.schemas import ARROW_TYPES, UTC_TIMESTAMP
from airworthy.intervals import Interval

BATCH = 50_000
MARGIN = timedelta(seconds=1)
WATERMARK = "__watermark"
TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "string": sa.Text(), "int64": sa.BigInteger(), "float64": sa.types.NullType(), "bool": sa.Boolean(),
    "timestamp": sa.DateTime(timezone=True),
}  # fmt: skip


def read(use_case: UseCase, source: str, interval: Interval, now: datetime) -> pa.Table | str:
    """The rows with ``interval.start <= watermark < interval.end``, or why the interval is not complete.

    Args:
        use_case: The use case.
        source: A source with ``sql``.
        interval: The interval.
        now: Data time, UTC.

    Returns:
        The declared columns; naive timestamps as they stand in the database (ingest knows their zone).

    Raises:
        ConfigurationError: the URL's variable is not set, there is no such table or column, the watermark is no
            timestamp, naive without a declared zone, or empty in a row.
        DataRejectedError: a column's values are not of the declared type.
        ServiceUnavailableError: the database does not answer.
    """
    spec = use_case.sources[source]
    with _connected(use_case, source) as (connection, rows, sql):
        newest = _newest(use_case, source, connection, rows, sql)
        if why := _why_incomplete(use_case, source, interval, newest, now):
            return why
        watermark = rows.c[sql.watermark]
        naive = newest is not None and newest.tzinfo is None
        # A little more, and then exactly by the values: where times are texts (SQLite), 00:00:00 is before 00:00:00.000.
        lower, upper = interval.start - MARGIN, interval.end + MARGIN
        if naive:
            zone = ZoneInfo(str(spec.timezone))
            lower, upper = (moment.astimezone(zone).replace(tzinfo=None) for moment in (lower, upper))
        kind = sa.DateTime(timezone=not naive)
        query = sa.select(*(rows.c[name] for name in spec.columns), watermark.label(WATERMARK)).where(
            watermark >= sa.literal(lower, kind), watermark < sa.literal(upper, kind)
        )
        found = _fetch(use_case, source, connection, query)
    return _inside(found, interval, spec.timezone).drop_columns([WATERMARK])


def _inside(found: pa.Table, interval: Interval, zone: str | None) -> pa.Table:
    moments = found[WATERMARK].combine_chunks()
    if moments.type.tz is None:
        # A time that never was lies just before the gap that it fell into: in one interval, where ingest names it.
        moments = pc.assume_timezone(moments, zone or "UTC", ambiguous="earliest", nonexistent="earliest")
    moments = moments.cast(UTC_TIMESTAMP)
    start, end = pa.scalar(interval.start, UTC_TIMESTAMP), pa.scalar(interval.end, UTC_TIMESTAMP)
    return found.filter(pc.and_(pc.greater_equal(moments, start), pc.less(moments, end)))


def incomplete(use_case: UseCase, source: str, interval: Interval, now: datetime) -> str:
    """Why an interval is not complete in a database; empty when it is. Raises as ``read`` does."""
    with _connected(use_case, source) as (connection, rows, sql):
        return _why_incomplete(use_case, source, interval, _newest(use_case, source, connection, rows, sql), now)


def newest_complete(use_case: UseCase, source: str, now: datetime) -> Interval | None:
    """The newest interval that is complete in a database; None when it has no rows. Raises as ``read`` does."""
    with _connected(use_case, source) as (connection, rows, sql):
        reached = _reached(use_case, source, _newest(use_case, source, connection, rows, sql), now)
    return None if reached is None else Interval.containing(reached - sql.lag).shift(-1)


@contextmanager
def _connected(use_case: UseCase, source: str) -> Iterator[tuple[sa.Connection, sa.FromClause, SqlSource]]:
    sql = _sql(use_case, source)
    what = f"the database of source {source} of {use_case.name}"
    url = os.environ.get(sql.url_env)
    if not url:
        raise ConfigurationError(f"{what}: {sql.url_env} is not set", next_step="set it to the SQLAlchemy URL")
    try:
        # The URL holds a secret: it is in no message of ours, and SQLAlchemy hides what is bound.
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool, hide_parameters=True)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise ConfigurationError(
            f"{what}: {sql.url_env} is no SQLAlchemy URL that can be used here ({type(error).__name__})",
            next_step="give dialect+driver://user:password@host/database, with a driver that is installed",
        ) from None
    try:
        with engine.connect() as connection:
            yield connection, _relation(use_case, source, sql), sql
    except (OperationalError, InterfaceError) as error:
        raise ServiceUnavailableError(
            f"{what} does not answer: {_words(error)}", next_step="see that it runs"
        ) from error
    except (SQLAlchemyError, ValueError) as error:  # ValueError: a text that is to be a timestamp, in SQLite
        raise ConfigurationError(
            f"{what} cannot be read: {_words(error)}",
            next_step="make the table, query, watermark and columns in use_case.yaml agree with the database",
        ) from error


def _words(error: Exception) -> str:
    return str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()[0][:300]


def _relation(use_case: UseCase, source: str, sql: SqlSource) -> sa.FromClause:
    kinds = {name: column.type for name, column in use_case.sources[source].columns.items()}
    kinds.setdefault(sql.watermark, "timestamp")
    # The declared types, so that a dialect without a type of its own (SQLite has no timestamps) gives the right values.
    columns = [sa.column(name, TYPES[kind]) for name, kind in kinds.items()]
    if sql.query is None:
        *schema, name = str(sql.table).split(".")
        return sa.table(name, *columns, schema=schema[0] if schema else None)
    inner = sa.text(sql.query.strip().rstrip(";")).columns().subquery("given")
    return sa.select(*columns).select_from(inner).subquery("extracted")


def _newest(
    use_case: UseCase, source: str, connection: sa.Connection, rows: sa.FromClause, sql: SqlSource
) -> datetime | None:
    """The newest watermark as the database has it; None in an empty table."""
    watermark = rows.c[sql.watermark]
    what, cure = f"watermark {sql.watermark} of source {source} of {use_case.name}", "choose another column"
    newest: datetime | None = connection.scalar(sa.select(sa.func.max(watermark)))
    if newest is not None and not isinstance(newest, datetime):
        raise ConfigurationError(f"{what} is no timestamp ({type(newest).__name__})", next_step=cure)
    if newest is not None and newest.tzinfo is None and use_case.sources[source].timezone is None:
        raise ConfigurationError(
            f"{what} has no time zone", next_step="declare the source's timezone in use_case.yaml (UTC, if it is that)"
        )
    if connection.scalar(sa.select(sa.exists().where(watermark.is_(None)))):
        raise ConfigurationError(f"{what} is empty in some rows, which are in no interval then", next_step=cure)
    return newest


def _why_incomplete(use_case: UseCase, source: str, interval: Interval, newest: datetime | None, now: datetime) -> str:
    reached, needed = _reached(use_case, source, newest, now), interval.end + _sql(use_case, source).lag
    if reached is None:
        return f"{source} has no rows yet"
    sql = _sql(use_case, source)
    what = "data time" if sql.complete == "clock" else f"the newest {sql.watermark} of {source}"
    return "" if reached >= needed else f"{what} is {reached:%Y-%m-%d %H:%M} UTC, complete from {needed:%Y-%m-%d %H:%M}"


def _reached(use_case: UseCase, source: str, newest: datetime | None, now: datetime) -> datetime | None:
    """Up to when a source is told, UTC; None when it has no rows."""
    if _sql(use_case, source).complete == "clock":
        return now
    if newest is not None and newest.tzinfo is None:
        newest = newest.replace(tzinfo=ZoneInfo(str(use_case.sources[source].timezone)))
    return None if newest is None else newest.astimezone(UTC)


def _sql(use_case: UseCase, source: str) -> SqlSource:
    sql = use_case.sources[source].sql
    if sql is None:
        raise ConfigurationError(f"source {source} of {use_case.name} is no database", next_step="declare `sql` for it")
    return sql


def _fetch(use_case: UseCase, source: str, connection: sa.Connection, query: sa.Select[Any]) -> pa.Table:
    kinds = {name: column.type for name, column in use_case.sources[source].columns.items()} | {WATERMARK: "timestamp"}
    parts: dict[str, list[pa.Array]] = {name: [] for name in kinds}
    for batch in connection.execution_options(yield_per=BATCH).execute(query).partitions():
        for (name, kind), values in zip(kinds.items(), zip(*batch, strict=True), strict=True):
            parts[name].append(_array(use_case, source, name, kind, values))
    whole = {}
    for name, arrays in parts.items():
        # Nothing but empty values says nothing about the zone: then the other batches do.
        told = [a.type for a in arrays if a.null_count < len(a)] or [a.type for a in arrays]
        arrow = told[0] if told else ARROW_TYPES[kinds[name]]
        whole[name] = pa.chunked_array([a.cast(arrow) for a in arrays], arrow)
    return pa.table(whole)


def _array(use_case: UseCase, source: str, name: str, kind: str, values: Sequence[Any]) -> pa.Array:
    arrow = ARROW_TYPES[kind]
    if kind == "timestamp" and all(getattr(value, "tzinfo", None) is None for value in values if value is not None):
        arrow = pa.timestamp("us")
    if kind == "float64":
        values = [float(value) if isinstance(value, Decimal) else value for value in values]
    try:
        return pa.array(values, arrow)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        mask = use_case.sources[source].masks.get(name)
        examples = (mask,) if mask else tuple(value for value in values if value is not None)[:MAX_EXAMPLES]
        raise DataRejectedError(
            f"{use_case.name}: rows of {source}",
            [CheckFailure(f"not of type {kind} in the database", name, 0, examples)],
            next_step="declare the column's type in use_case.yaml, or cast it in a query",
        ) from error
