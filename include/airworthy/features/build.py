"""Building feature intervals: one columnar pass over the clean tables for a range of intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.features import versions
from airworthy.features.catalog import INSTANT, SPINE, SPINE_ARROW, CompiledView
from airworthy.features.definitions import AVAILABLE_AT, EVENT_TIME
from airworthy.features.versions import Version
from airworthy.intervals import Interval, days, utc
from airworthy.lake.duck import quote, session
from airworthy.lake.tables import INTERVAL


@dataclass(frozen=True)
class Built:
    """Rows of a feature table, without the column ``interval``.

    Attributes:
        parts: By interval key, as they are known now and as they were before corrections; empty where there are none.
        now: Those that are known now: what the definition gives.
    """

    parts: dict[str, pa.Table]
    now: pa.Table


def build(
    use_case: UseCase, compiled: CompiledView, intervals: Sequence[Interval], at: Mapping[str, int] | None = None
) -> Built:
    """The rows of a feature table for a range of intervals, as they are known now and as they were before corrections.

    Args:
        use_case: The use case.
        compiled: The view.
        intervals: Sorted, without a gap.
        at: Version of each table that it is built from; by default the newest that is committed.

    Raises:
        ConfigurationError: the definition gives a row outside of its interval, or fails.
    """
    first, last = intervals[0].shift(-compiled.view.lookback_days), intervals[-1]
    sources = compiled.view.sources
    at = versions.committed(use_case, sources)[0] if at is None else at
    with session() as connection:
        for source in sources:
            versions.register(connection, use_case, source, first, last, at)
        known = []
        for moment, corrected in versions.corrections(connection, use_case, sources).items():
            if touched := versions.affected(compiled, intervals, corrected, moment):
                known.append(_version(connection, use_case, compiled, touched, moment))
        known.append(_version(connection, use_case, compiled, intervals, None))
        rows = versions.combine(connection, compiled, known) if len(known) > 1 else known[0].rows
    return Built(_split(rows, compiled, intervals), known[-1].rows.select(compiled.schema.names).cast(compiled.schema))


def _version(
    connection: duckdb.DuckDBPyConnection,
    use_case: UseCase,
    compiled: CompiledView,
    intervals: Sequence[Interval],
    before: datetime | None,
) -> Version:
    for source in compiled.view.sources:
        versions.show(connection, source, before)
    connection.register(SPINE, _spine(connection, use_case, compiled, intervals, before))
    rows = run(connection, compiled)
    if before is not None:
        # What a definition built before it could be known was not known then.
        rows = rows.filter(pc.less(rows[AVAILABLE_AT], pa.scalar(before, INSTANT)))
    return Version(before, intervals, rows)


def run(connection: duckdb.DuckDBPyConnection, compiled: CompiledView) -> pa.Table:
    """Run a view's SQL on the relations that are registered, and check what it gives.

    Raises:
        ConfigurationError: a row lies outside of its interval, or the SQL fails; the message names the view.
    """
    order = ", ".join(quote(name) for name in (INTERVAL, *compiled.keys, EVENT_TIME, AVAILABLE_AT))
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE built AS {compiled.sql}")
        outside = connection.sql(_OUTSIDE).to_arrow_table().to_pylist()
        rows = connection.sql(f"SELECT * FROM built ORDER BY {order}").to_arrow_table()  # noqa: S608 - quoted names
    except duckdb.Error as error:
        raise ConfigurationError(
            f"feature view {compiled.name} cannot be computed: {error}", next_step="correct its build function"
        ) from error
    if outside:
        raise ConfigurationError(
            f"feature view {compiled.name} gives a row outside of its interval: "
            + ", ".join(f"{name} {value}" for name, value in outside[0].items()),
            next_step="a row built for an interval carries its key, and an event time from its start to its end",
        )
    return rows


_OUTSIDE = f"""
    SELECT b.{INTERVAL}, b.{EVENT_TIME}, b.{AVAILABLE_AT}
    FROM built b LEFT JOIN {SPINE} s ON b.{INTERVAL} = s.{INTERVAL}
    WHERE (b.{EVENT_TIME} BETWEEN s.start AND s."end" AND b.{AVAILABLE_AT} IS NOT NULL) IS NOT TRUE LIMIT 1
"""  # noqa: S608 - our own names


def spine(
    use_case: UseCase,
    compiled: CompiledView,
    intervals: Sequence[Interval],
    known: Mapping[str, datetime] | None = None,
) -> pa.Table:
    """The spine: one row for each interval, with the time at which all that it is built from is known.

    Args:
        use_case: The use case.
        compiled: The view, with its sources.
        intervals: The intervals to build.
        known: When what each interval (key) sees last changed; corrections are later than declared.
    """
    rows = []
    for interval in intervals:
        moments = [declared(use_case, s, interval) for s in compiled.view.sources]
        if known and interval.key in known:
            moments.append(known[interval.key])
        available = max(moments)
        rows.append({INTERVAL: interval.key, "start": interval.start, "end": interval.end, AVAILABLE_AT: available})
    return pa.Table.from_pylist(rows, schema=SPINE_ARROW)


def declared(use_case: UseCase, name: str, interval: Interval) -> datetime:
    """When a source's interval is known at the earliest, by what its specification declares."""
    source = use_case.sources[name]
    observed = interval.start if source.observed == "interval_start" else interval.end
    return utc(observed) + source.lag


def _spine(
    connection: duckdb.DuckDBPyConnection,
    use_case: UseCase,
    compiled: CompiledView,
    intervals: Sequence[Interval],
    before: datetime | None,
) -> pa.Table:
    newest: dict[str, datetime] = {}
    for source in compiled.view.sources:
        for key, moment in versions.newest(connection, source, before).items():
            newest[key] = max(newest.get(key, moment), moment)
    # A correction of yesterday is part of every window that holds yesterday, and was not known before it came.
    known = {}
    for interval in intervals:
        window = days(interval.shift(-compiled.view.lookback_days), interval)
        if moments := [newest[i.key] for i in window if i.key in newest]:
            known[interval.key] = max(moments)
    return spine(use_case, compiled, intervals, known)


def _split(rows: pa.Table, compiled: CompiledView, intervals: Sequence[Interval]) -> dict[str, pa.Table]:
    keys = [interval.key for interval in intervals]
    column = rows[INTERVAL].to_numpy(zero_copy_only=False).astype(str)
    starts = np.searchsorted(column, keys, side="left")
    ends = np.searchsorted(column, keys, side="right")
    plain = rows.select(compiled.schema.names).cast(compiled.schema)
    return {k: plain.slice(int(a), int(b - a)) for k, a, b in zip(keys, starts, ends, strict=True)}
