"""Feature vectors recomputed from the clean tables alone: what should have been served at moments of the past.

Neither the feature tables nor the online store are read, so that a view that was not built, not published, or pushed
with wrong values cannot vouch for itself. It is the offline path: the definitions' SQL over the clean tables (as they
were known then, corrections apart) and the point-in-time join of the offline store.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from airworthy.config import UseCase
from airworthy.features.build import build
from airworthy.features.catalog import ARROW, INSTANT, CompiledView, catalog
from airworthy.features.definitions import AVAILABLE_AT, EVENT_TIME
from airworthy.features.history import request_columns, request_table
from airworthy.features.offline_entities import Rows
from airworthy.features.offline_join import as_of
from airworthy.features.offline_view import View
from airworthy.intervals import Interval, contiguous, days
from airworthy.lake.duck import session
from airworthy.ledger import commits


def recompute(use_case: UseCase, requests: pa.Table, moments: pa.ChunkedArray) -> pa.Table:
    """The model's inputs for requests that were answered at moments of the past.

    Args:
        use_case: The use case.
        requests: Every field of the request, and the prediction's time as the request gave it (else the moment).
        moments: When each was answered, data time, UTC.

    Returns:
        One row for each request, in order: every column of ``feature_columns``.

    Raises:
        ConfigurationError: a column is missing or has a wrong type, or a definition fails.
    """
    compiled = catalog(use_case)
    request = request_table(use_case, compiled, requests)
    found = dict(request_columns(compiled, request))
    if requests.num_rows:
        rows = Rows(request, moments.cast(INSTANT))
        for view in compiled.views:
            joined = _joined(use_case, view, rows)
            found |= {name: joined[name] for name in view.features}
    else:
        found |= {name: pa.chunked_array([], ARROW[kind]) for name, kind in compiled.columns.items()}
    return pa.table({name: found[name] for name in compiled.columns})


def _joined(use_case: UseCase, view: CompiledView, rows: Rows) -> pa.Table:
    parts = [view.schema.empty_table()]
    for first, last in contiguous(_intervals(use_case, view, rows)):
        parts += build(use_case, view, list(days(first, last))).parts.values()
    asked = View(
        label=view.name, dataset=ds.dataset(pa.concat_tables(parts)), keys=_same(view.keys),
        features=_same(view.features), event_time=EVENT_TIME, known_time=AVAILABLE_AT, ttl=view.view.ttl,
    )  # fmt: skip
    with session() as connection:
        return as_of(connection, asked, rows)


def _same(names: Sequence[str] | dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, name) for name in names)


def _intervals(use_case: UseCase, view: CompiledView, rows: Rows) -> list[Interval]:
    """The intervals whose rows some request may see, as catching up would build them."""
    bounds = pc.min_max(rows.times).as_py()
    last = Interval.containing(bounds["max"]).key
    # A row at the end of an interval has its time on the day after it.
    first = Interval.containing(bounds["min"] - view.view.ttl).shift(-1).key if view.view.ttl else ""
    published = {key for source in view.view.sources for key in commits.newest_commits(use_case.table("clean", source))}
    known = sorted(key for key in published | set(commits.decided_intervals(use_case.name)) if first <= key <= last)
    return [
        interval
        for interval in map(Interval.of, known)
        if any(w.key in published for w in days(interval.shift(-view.view.lookback_days), interval))
    ]
