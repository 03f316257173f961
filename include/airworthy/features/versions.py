"""Feature rows as they were known before and after each correction, so that the past can be joined as it was seen.

A correction that came at moment ``m`` changes clean rows of an interval. Every feature interval that looks back on it is
computed once as it was known just before ``m`` and once with the correction. Of the two rows of one key and event time
the point-in-time join takes the older one for predictions made before ``m``, and the newer one after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa

from airworthy.config import UseCase
from airworthy.features.catalog import INSTANT, CompiledView, relation
from airworthy.features.definitions import AVAILABLE_AT, EVENT_TIME
from airworthy.ingest.schemas import SUPERSEDED, SUPERSEDED_AT
from airworthy.intervals import Interval, days
from airworthy.lake import tables
from airworthy.lake.duck import quote
from airworthy.lake.tables import INTERVAL
from airworthy.ledger import commits

EVERYTHING = "all_"
VERSION, SINCE = "__version", "__since"


@dataclass(frozen=True)
class Version:
    """Rows of some intervals as they were known just before a moment (None: as they are known now)."""

    until: datetime | None
    intervals: Sequence[Interval]
    rows: pa.Table


def committed(use_case: UseCase, sources: Sequence[str]) -> tuple[dict[str, int], set[str]]:
    """The versions to read of the tables of these sources, and the intervals that they do not show as the ledger has them.

    Such an interval was written by somebody who has no ledger row for it (yet, or never: it died), and another interval
    was committed on top. Who builds on it would write down that it read what the ledger says.
    """
    at: dict[str, int] = {}
    unsettled: set[str] = set()
    for table in (use_case.table(layer, source) for source in sources for layer in ("clean", SUPERSEDED)):
        at[table], resources = tables.committed_version(table)
        for key in (r.rpartition("/")[2] for r in resources if r.startswith(f"{use_case.name}/ingest/")):
            interval = Interval.of(key)
            own = commits.newest_commits(table, interval, interval).get(key)
            shown = tables.read(table, interval, interval, version=at[table])
            if shown.num_rows if own is None else tables.digest(shown) != own.digest:
                unsettled.add(key)
    return at, unsettled


def register(
    connection: duckdb.DuckDBPyConnection,
    use_case: UseCase,
    source: str,
    first: Interval,
    last: Interval,
    at: Mapping[str, int],
) -> None:
    """Make the clean rows of a source known to a connection, and those that corrections replaced, at these versions."""
    for layer in ("clean", SUPERSEDED):
        name = f"{EVERYTHING}{layer}_{source}"
        table = use_case.table(layer, source)
        connection.register(f"{name}_files", tables.dataset(table, at[table]))
        # DuckDB hands the condition down to Arrow, which then opens only the files of these intervals.
        connection.execute(
            f"CREATE TEMP VIEW {quote(name)} AS SELECT * FROM {quote(f'{name}_files')} "  # noqa: S608 - quoted names
            f"WHERE {INTERVAL} >= '{first.key}' AND {INTERVAL} <= '{last.key}'"
        )


def show(connection: duckdb.DuckDBPyConnection, source: str, before: datetime | None) -> None:
    """Let ``clean_<source>`` be the rows that were known just before a moment; None for those known now."""
    clean, replaced = quote(f"{EVERYTHING}clean_{source}"), quote(f"{EVERYTHING}{SUPERSEDED}_{source}")
    known, still = "", ""
    if before is not None:
        # A distinct union: a correction that died half way may have left rows here that never went out of use.
        moment = f"TIMESTAMPTZ '{before.isoformat()}'"
        known = f"WHERE {AVAILABLE_AT} < {moment}"
        still = (
            f"UNION BY NAME SELECT * EXCLUDE ({SUPERSEDED_AT}) FROM {replaced} {known} AND {SUPERSEDED_AT} >= {moment}"  # noqa: S608
        )
    rows = f"SELECT * FROM {clean} {known} {still}"  # noqa: S608
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote(relation(source))} AS {rows}")


def newest(connection: duckdb.DuckDBPyConnection, source: str, before: datetime | None) -> dict[str, datetime]:
    """When each interval of ``show`` last changed, by its key: a row came, or one was taken away."""
    clean, replaced = quote(relation(source)), quote(f"{EVERYTHING}{SUPERSEDED}_{source}")
    then = f"WHERE {SUPERSEDED_AT} < TIMESTAMPTZ '{before.isoformat()}'" if before else ""
    query = (
        f"SELECT {INTERVAL}, max(moment) FROM (SELECT {INTERVAL}, {AVAILABLE_AT} AS moment FROM {clean} "  # noqa: S608
        f"UNION ALL SELECT {INTERVAL}, {SUPERSEDED_AT} FROM {replaced} {then}) GROUP BY ALL"
    )
    return dict(connection.sql(query).fetchall())


def corrections(
    connection: duckdb.DuckDBPyConnection, use_case: UseCase, sources: Sequence[str]
) -> dict[datetime, set[str]]:
    """Keys of the intervals that were corrected, by the moment at which the correction came, oldest first.

    A correction leaves a replaced row, or one that was known later than its source declares, or both.
    """
    found: dict[datetime, set[str]] = {}
    for source in sources:
        clean, replaced = quote(f"{EVERYTHING}clean_{source}"), quote(f"{EVERYTHING}{SUPERSEDED}_{source}")
        late = f"WHERE {AVAILABLE_AT} > {_declared(use_case, source)}"
        query = (
            f"SELECT {INTERVAL}, {SUPERSEDED_AT} AS moment FROM {replaced} "  # noqa: S608 - quoted names
            f"UNION SELECT {INTERVAL}, {AVAILABLE_AT} FROM {clean} {late} "
            f"UNION SELECT {INTERVAL}, {AVAILABLE_AT} FROM {replaced} {late}"
        )
        for key, moment in connection.sql(query).fetchall():
            found.setdefault(moment, set()).add(key)
    return dict(sorted(found.items()))


def affected(
    compiled: CompiledView, intervals: Sequence[Interval], corrected: set[str], moment: datetime
) -> list[Interval]:
    """The intervals that look back on a corrected one and hold anything that was known before."""
    lookback = compiled.view.lookback_days
    return [
        i for i in intervals if i.start < moment and any(w.key in corrected for w in days(i.shift(-lookback), i))
    ]  # fmt: skip


def combine(connection: duckdb.DuckDBPyConnection, compiled: CompiledView, versions: Sequence[Version]) -> pa.Table:
    """One table of all versions: a row only where something changed.

    A row that a correction took away is followed by one without values, known from the correction on; online, where
    nothing can be deleted, it overwrites the old one.

    Args:
        connection: Where to compute.
        compiled: The view.
        versions: Oldest first; the last one is what is known now.
    """
    connection.register("versions", pa.concat_tables([_numbered(v, n) for n, v in enumerate(versions)]))
    connection.register("chain", _chain(versions))
    keys = [INTERVAL, *map(quote, compiled.keys), EVENT_TIME]
    features = [quote(name) for name in compiled.features]
    same = ", ".join([*keys, "twin"])
    values = f"row({', '.join(features)})"
    return connection.sql(f"""
        WITH v AS (
            SELECT *, row_number() OVER (PARTITION BY {", ".join(keys)}, {VERSION}
                                         ORDER BY {AVAILABLE_AT}, {", ".join(features)}) AS twin FROM versions
        ), filled AS (
            SELECT {same}, c.{VERSION}, c.{SINCE}, v.{AVAILABLE_AT}, {", ".join(features)},
                v.{VERSION} IS NOT NULL AS present, {values} AS now
            FROM (SELECT DISTINCT {same} FROM v) JOIN chain c USING ({INTERVAL}) LEFT JOIN v USING ({same}, {VERSION})
        ), compared AS (
            SELECT *, lag(present) OVER w AS had, lag(now) OVER w AS before FROM filled
            WINDOW w AS (PARTITION BY {same} ORDER BY {VERSION})
        )
        SELECT * EXCLUDE (twin, {VERSION}, {SINCE}, {AVAILABLE_AT}, present, now, had, before),
            CASE WHEN present THEN {AVAILABLE_AT} ELSE {SINCE} END AS {AVAILABLE_AT}
        FROM compared WHERE CASE WHEN present THEN had IS NOT TRUE OR before IS DISTINCT FROM now ELSE had END
        ORDER BY {", ".join(keys)}, {AVAILABLE_AT}, {", ".join(features)}
    """).to_arrow_table()  # noqa: S608 - quoted names


def _numbered(version: Version, number: int) -> pa.Table:
    return version.rows.append_column(VERSION, pa.array([number] * version.rows.num_rows, pa.int64()))


def _chain(versions: Sequence[Version]) -> pa.Table:
    """The versions of each interval, and the moment from which on each of them is known."""
    since: dict[str, datetime | None] = {}
    links: dict[str, list[object]] = {INTERVAL: [], VERSION: [], SINCE: []}
    for number, version in enumerate(versions):
        for interval in version.intervals:
            for name, value in zip(links, (interval.key, number, since.get(interval.key)), strict=True):
                links[name].append(value)
            since[interval.key] = version.until
    return pa.table(links, schema=pa.schema([(INTERVAL, pa.string()), (VERSION, pa.int64()), (SINCE, INSTANT)]))


def _declared(use_case: UseCase, source: str) -> str:
    """SQL: when a row is known by what its source declares."""
    spec = use_case.sources[source]
    start = f"CAST({INTERVAL} AS TIMESTAMPTZ)"
    observed: Mapping[str, str] = {"interval_start": start, "interval_end": f"{start} + INTERVAL 24 HOURS"}
    lag = f"to_microseconds({spec.lag // timedelta(microseconds=1)})"
    return f"({observed.get(spec.observed, quote(spec.observed))} + {lag})"
