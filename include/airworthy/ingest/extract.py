"""Rows of a database -> a landed delivery, one interval at a time; after that it is ingested like any file.

A delivery is landed only when the interval is complete and its rows are others than those landed before, whatever their
order: an unchanged re-run is a no-op, a row that changed late makes a new delivery.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow.parquet as pq

from airworthy.config import UseCase
from airworthy.ingest import database
from airworthy.intervals import Interval, days
from airworthy.lake import landing, tables
from airworthy.lake.landing import Manifest
from airworthy.ledger.clock import data_now


@dataclass(frozen=True)
class Extract:
    """A delivery that is not landed yet: its manifest and its data file."""

    manifest: Manifest
    content: bytes


def offered(use_case: UseCase, source: str, interval: Interval) -> Extract | str:
    """What a database holds for an interval now, or why the interval is not complete. Lands nothing.

    Raises:
        ConfigurationError, DataRejectedError, ServiceUnavailableError: see ``database.read``.
    """
    now = data_now(use_case)
    found = database.read(use_case, source, interval, now)
    if isinstance(found, str):
        return found
    # Sorted, so that the same rows are the same bytes: two extractions at once land one delivery, not two.
    rows = found.sort_by([(name, "ascending") for name in found.schema.names])
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    content = buffer.getvalue()
    manifest = landing.manifest_of(
        use_case, source, interval, content, rows.num_rows, now, rows_digest=tables.digest(rows)
    )
    return Extract(manifest, content)


def refresh(use_case: UseCase, interval: Interval, *, still_mine: Callable[[], None]) -> dict[str, str]:
    """Land what the use case's databases hold for an interval, where that is new.

    Args:
        use_case: The use case.
        interval: The interval.
        still_mine: Called before something is landed; raises SupersededError when a newer run took over.

    Returns:
        Why an interval is not complete, by source.
    """
    incomplete = {}
    for name in (name for name, source in use_case.sources.items() if source.sql):
        found = offered(use_case, name, interval)
        if isinstance(found, str):
            incomplete[name] = found
        elif is_news(use_case, found.manifest):
            still_mine()
            landing.deliver(use_case, found.manifest, found.content)
    return incomplete


def ready(use_case: UseCase, interval: Interval) -> bool:
    """Whether an ingest would find every required source: its file, or in a database its complete rows."""
    for name, source in use_case.sources.items():
        if not source.required or landing.landed_manifest(use_case, name, interval):
            continue
        if source.sql is None or database.incomplete(use_case, name, interval, data_now(use_case)):
            return landing.landed(use_case, interval) is not None  # a broken manifest is an arrival too
    return True


def recheck(use_case: UseCase) -> list[str]:
    """Extract the newest complete days again, and land those that changed; returns their keys.

    The days of a replayed world's history are left alone: an operator's backfill takes them.
    """
    data, now, changed = use_case.data, data_now(use_case), set()
    oldest = Interval.of(max(data.first, data.live_from or data.first))
    for name, sql in ((name, source.sql) for name, source in use_case.sources.items() if source.sql):
        complete = database.newest_complete(use_case, name, now)
        newest = min([complete, data.last_interval], key=lambda i: i.start) if complete else oldest.shift(-1)
        for interval in days(max(oldest, newest.shift(1 - sql.recheck_days), key=lambda i: i.start), newest):
            found = offered(use_case, name, interval)
            if isinstance(found, Extract) and is_news(use_case, found.manifest):
                landing.deliver(use_case, found.manifest, found.content)
                changed.add(interval.key)
    return sorted(changed)


def is_news(use_case: UseCase, manifest: Manifest) -> bool:
    """Whether an extract differs from what is landed, or what is landed was damaged.

    An interval that had rows and now has none is no correction: databases forget old rows.
    """
    before = landing.landed_manifest(use_case, manifest.source, Interval.of(manifest.interval))
    if before is None:
        return True
    if before.content != manifest.content:
        return bool(manifest.rows or not before.rows)
    content = landing.read_bytes(landing.data_file(use_case, before))
    return content is None or hashlib.sha256(content).hexdigest() != before.sha256
