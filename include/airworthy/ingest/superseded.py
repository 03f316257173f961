"""What corrections replaced: rows that were known once, with the moment from which on they no longer counted.

The clean table says what is known now. A prediction made before a correction came saw the rows of before, so whoever
recomputes the past (features, skew) needs both: at moment ``t`` a row counts if ``available_at <= t < superseded_at``.
"""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from airworthy.config import UseCase
from airworthy.ingest.schemas import AVAILABLE_AT, SUPERSEDED, SUPERSEDED_AT, superseded_schema
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.lake.duck import session
from airworthy.ledger.commits import newest_commits


def keep_superseded(
    use_case: UseCase,
    source: str,
    interval: Interval,
    *,
    before: pa.Table,
    clean: pa.Table,
    now: datetime,
    resource: str,
    token: int,
    inputs: str,
) -> int:
    """Keep the rows of an interval that new clean rows are about to replace; safe to repeat.

    Args:
        use_case: The use case.
        source: The source.
        interval: The interval.
        before: Its clean rows as published until now.
        clean: Its new clean rows, with ``available_at``.
        now: Data time, when the correction came.
        resource, token: The claim under which this runs.
        inputs: Digest of what the new rows were made from.

    Returns:
        Rows that this correction replaced.

    Raises:
        SupersededError: a newer claim exists; nothing was published.
    """
    schema = superseded_schema(use_case, source)
    names = _names(use_case, source)
    table = use_case.table(SUPERSEDED, source)
    kept = tables.read(table, interval, interval)
    with session() as connection:
        connection.register("before", before)
        connection.register("after", clean)
        connection.register("kept", kept)
        connection.register("moment", pa.table({SUPERSEDED_AT: pa.array([now], schema.field(SUPERSEDED_AT).type)}))
        replaced = connection.sql(f"SELECT {names} FROM before EXCEPT SELECT {names} FROM after").to_arrow_table()  # noqa: S608 - our own, quoted names
        connection.register("replaced", replaced)
        # A correction that died may have left rows here. What is replaced once more has the later moment, when it really was;
        # what counts on, since another delivery came instead, was never replaced.
        rows = (
            connection.sql(
                f"SELECT {names}, max({SUPERSEDED_AT}) AS {SUPERSEDED_AT} FROM ("  # noqa: S608 - as above
                f"SELECT {names}, {SUPERSEDED_AT}, false AS counts FROM kept "
                f"UNION ALL SELECT {names}, {SUPERSEDED_AT}, false FROM replaced, moment "
                f"UNION ALL SELECT {names}, NULL, true FROM after"
                f") GROUP BY {names} HAVING NOT bool_or(counts) AND {AVAILABLE_AT} < max({SUPERSEDED_AT})"
            )
            .to_arrow_table()
            .cast(schema)
        )
    if tables.digest(kept) != tables.digest(rows) or not _is_committed(table, interval, rows):
        tables.publish(table, {interval.key: rows}, resource=resource, token=token, inputs={interval.key: inputs})
    return int(replaced.num_rows)


def says_too_much(use_case: UseCase, source: str, interval: Interval) -> bool:
    """Whether a correction that died left replaced rows of an interval that count, or that the ledger does not know."""
    table = use_case.table(SUPERSEDED, source)
    kept = tables.read(table, interval, interval)
    if not _is_committed(table, interval, kept):
        return True
    names = _names(use_case, source)
    with session() as connection:
        connection.register("kept", kept)
        connection.register("clean", tables.read(use_case.table("clean", source), interval, interval))
        both = connection.sql(f"SELECT {names} FROM kept INTERSECT SELECT {names} FROM clean LIMIT 1")  # noqa: S608 - our own, quoted names
        return bool(both.fetchall())


def _names(use_case: UseCase, source: str) -> str:
    """The columns that make a row what it is, for SQL."""
    return ", ".join(f'"{name}"' for name in superseded_schema(use_case, source).names if name != SUPERSEDED_AT)


def _is_committed(table: str, interval: Interval, rows: pa.Table) -> bool:
    """Whether the ledger has these rows of an interval; none may have no commit."""
    commit = newest_commits(table, interval, interval).get(interval.key)
    return commit.digest == tables.digest(rows) if commit else not rows.num_rows
