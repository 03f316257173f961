"""Online values: each key's newest row, written through the guarded store, with the watermark in the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import func

from airworthy.config import UseCase
from airworthy.features.catalog import INSTANT, CompiledView, catalog
from airworthy.features.definitions import AVAILABLE_AT, EVENT_TIME
from airworthy.features.feast_repo import registered_view, store
from airworthy.features.online_store import OnlineRow, entity_key, proto
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.lake.duck import quote, session
from airworthy.lake.tables import INTERVAL
from airworthy.ledger import commits
from airworthy.ledger.clock import data_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Commit, OnlineWatermark

BATCH = 5_000


def publish_online(use_case: UseCase, *, everything: bool = False) -> dict[str, int]:
    """Write each view's newest values online, from the intervals that were built since the last time.

    The watermark is the newest commit whose values are all online, so that a view without a new commit costs one
    query. Only rows that are the newest of their key are sent; where a newer value is online already, the store keeps
    it. A row that the platform may not know yet by data time (its file came before the source's lag was over, or its
    ``available_at`` is wrong) is held back, and tried again by each later call until its time has come. So are the rows
    of an interval that somebody is just replacing, or died replacing: only what has its ledger row is online.

    Args:
        use_case: The use case.
        everything: Publish as if for the first time, such as after the online store was lost.

    Returns:
        Rows written by view; 0 for a view that was up to date.

    Raises:
        ConfigurationError: the features are not registered with Feast.
        ServiceUnavailableError: the online store does not answer; the watermark stays, so the next call writes all.
    """
    now = data_now(use_case)
    return {view.name: _publish(use_case, view, now, everything) for view in catalog(use_case).views}


def _publish(use_case: UseCase, view: CompiledView, now: datetime, everything: bool) -> int:
    committed = commits.newest_commits(view.table)
    done = 0 if everything else _watermark(view.name)
    changed = {key: commit.id for key, commit in committed.items() if commit.id > done}
    if not changed:
        return 0
    rows = tables.dataset(view.table).to_table(filter=pc.field(INTERVAL).isin(sorted(changed)))
    unsettled = [key for key in sorted(changed) if _differs(rows, committed[key])]
    rows = rows.filter(pc.invert(pc.is_in(rows[INTERVAL], pa.array(unsettled, pa.string()))))
    known = pc.less_equal(rows[AVAILABLE_AT], pa.scalar(now, INSTANT))
    held = {changed[key] for key in [*unsettled, *pc.unique(rows.filter(pc.invert(known))[INTERVAL]).to_pylist()]}
    newest = newest_rows(view, rows.filter(known))
    # Before the values: a model that was trained on another definition must not see the first of them.
    _define(view)
    write(use_case, view, newest)
    # Commits from the first one with a row that was held back are looked at again.
    done = min(held) - 1 if held else max(changed.values())
    with transaction() as ledger:
        finished = [key for key, commit in committed.items() if commit.id not in held]
        event_time = Interval.of(max(finished)).end if finished else Interval.of(min(committed)).start
        ledger.merge(
            OnlineWatermark(
                view=view.name, inputs=str(done), definition=view.definition, event_time=event_time,
                updated_at=func.now(),
            )
        )  # fmt: skip
    return newest.num_rows


def _differs(rows: pa.Table, commit: Commit) -> bool:
    """Whether a table's rows of an interval are not those that the ledger has."""
    own = rows.filter(pc.equal(rows[INTERVAL], commit.interval))
    return tables.digest(own) != commit.digest


def newest_rows(view: CompiledView, rows: pa.Table) -> pa.Table:
    """The newest row of each entity."""
    partition = ", ".join(quote(key) for key in view.keys)
    # Rows of one key and time may differ only by a wrong definition; then the values decide, not the order of files.
    values = ", ".join(f"{quote(name)} DESC NULLS LAST" for name in view.features)
    with session() as connection:
        connection.register("rows", rows)
        return connection.sql(
            f"SELECT * FROM rows QUALIFY row_number() OVER (PARTITION BY {partition} "  # noqa: S608 - quoted names
            f"ORDER BY {EVENT_TIME} DESC, {AVAILABLE_AT} DESC, {values}) = 1"
        ).to_arrow_table()


def write(use_case: UseCase, view: CompiledView, rows: pa.Table) -> None:
    """Write rows of a view online; a value that is newer there stays."""
    feast_store, registered = store(use_case), registered_view(use_case, view.name)
    for batch in rows.to_batches(max_chunksize=BATCH):
        data = online_rows(view, batch.to_pylist())
        feast_store.provider.online_write_batch(feast_store.config, registered, data, None)


def online_rows(view: CompiledView, rows: Iterable[dict[str, Any]]) -> list[OnlineRow]:
    """Rows of a feature table as the online store wants them."""
    return [
        (
            entity_key(tuple(view.keys), tuple(view.keys.values()), [row[key] for key in view.keys]),
            {name: proto(row[name], kind) for name, kind in view.features.items()},
            row[EVENT_TIME],
            row[AVAILABLE_AT],
        )
        for row in rows
    ]


def _define(view: CompiledView) -> None:
    with transaction() as ledger:
        row = ledger.get(OnlineWatermark, view.name)
        if row is not None:
            row.definition = view.definition


def _watermark(view: str) -> int:
    with transaction() as ledger:
        row = ledger.get(OnlineWatermark, view)
    return int(row.inputs) if row else 0
