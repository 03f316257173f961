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
    names = ", ".join(f'"{name}"' for name in schema.names if name != SUPERSEDED_AT)
    table = use_case.table(SUPERSEDED, source)
    with session() as connection:
        connection.register("before", before)
        connection.register("after", clean)
        connection.register("kept", tables.read(table, interval, interval))
        connection.register("moment", pa.table({SUPERSEDED_AT: pa.array([now], schema.field(SUPERSEDED_AT).type)}))
        replaced = connection.sql(f"SELECT {names} FROM before EXCEPT SELECT {names} FROM after").to_arrow_table()  # noqa: S608 - our own, quoted names
        if not replaced.num_rows:
            return 0
        connection.register("replaced", replaced)
        # Once more after a crash, a row may be here already: the later moment is when it was really replaced.
        rows = connection.sql(
            f"SELECT {names}, max({SUPERSEDED_AT}) AS {SUPERSEDED_AT} FROM ("  # noqa: S608 - as above
            f"SELECT {names}, {SUPERSEDED_AT} FROM kept UNION ALL SELECT {names}, {SUPERSEDED_AT} FROM replaced, moment"
            f") GROUP BY ALL HAVING {AVAILABLE_AT} < max({SUPERSEDED_AT})"
        ).to_arrow_table()
    tables.publish(
        table, {interval.key: rows.cast(schema)}, resource=resource, token=token, inputs={interval.key: inputs}
    )
    return int(replaced.num_rows)
