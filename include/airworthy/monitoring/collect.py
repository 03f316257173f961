"""The prediction log: spool files become rows of one Delta table, each exactly once.

Delta itself keeps the account: every append carries, for each spool file, the offset that it reached, as an
application transaction. The next collection goes on from there, and of two collectors that read the same frames
Delta lets one commit. The ledger's batch rows are written after it and repaired when a crash came between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from airworthy.config import UseCase, get_settings
from airworthy.errors import AirworthyError, CheckFailure, DataRejectedError
from airworthy.intervals import Interval, utc
from airworthy.lake import tables
from airworthy.ledger.database import exclusive, transaction
from airworthy.ledger.models import PredictionBatch
from airworthy.serving import spool

UTC_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("at", UTC_TIME),
        ("prediction_time", UTC_TIME),
        ("use_case", pa.string()),
        ("release", pa.string()),
        ("model_digest", pa.string()),
        ("feature_service", pa.string()),
        ("feature_digest", pa.string()),
        ("generation", pa.int64()),
        ("probability", pa.float64()),
        ("decision", pa.bool_()),
        ("latency_ms", pa.float64()),
        ("missing", pa.list_(pa.string())),
        ("stale", pa.list_(pa.string())),
        ("id", pa.string()),
        ("request", pa.string()),
        ("features", pa.string()),
        ("features_from", pa.string()),
        ("role", pa.string()),
        ("spool_file", pa.string()),
        ("spool_offset", pa.int64()),
    ]
)
AS_JSON = ("id", "request", "features")
LATER = ("feature_service", "feature_digest", "features_from", "role")  # frames of older services lack them
AS_TIME = ("at", "prediction_time")
# Of one commit: bounds the memory of a collection after a long pause.
MAX_ROWS = 100_000

Part = tuple[str, int, int, int]
"""(spool file, start offset, end offset, rows)"""


def as_judged(rows: pa.Table) -> pa.Table:
    """Rows of the log as its suite judges them: lists as texts, a space between members, for there are no rules of lists."""
    for field in SCHEMA:
        if pa.types.is_list(field.type):
            texts = pc.binary_join(rows[field.name], " ")
            rows = rows.set_column(rows.schema.get_field_index(field.name), field.name, texts)
    return rows


def table_schemas(use_case: UseCase) -> dict[str, pa.Schema]:
    """The tables of this stage, for migrations."""
    return {log_table(use_case): SCHEMA}


def log_table(use_case: UseCase) -> str:
    """Name of the prediction log, ``<use_case>/log/predictions``."""
    return use_case.table("log", "predictions")


def collect(use_case: UseCase) -> int:
    """Move every complete frame of the spool into the prediction log; returns the number of new rows.

    Safe to repeat, to interrupt and to run twice at once.

    Raises:
        DataRejectedError: a frame is no prediction record; the message names file and offset, and nothing after it in
            that file is moved.
    """
    with exclusive("collect", use_case.name):
        _repair_ledger(use_case)
        moved = 0
        while rows := _collect_once(use_case):
            moved += rows
        return moved


def _collect_once(use_case: UseCase) -> int:
    lost: list[Part] | None = None
    while True:
        handle = tables.open_table(log_table(use_case))
        rows, parts = _read_spool(use_case, handle)
        if not parts:
            return 0
        try:
            write_deltalake(
                handle, _to_table(rows), mode="append",
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(file, end) for file, _, end, _ in parts],
                    custom_metadata={"parts": json.dumps(parts)},
                ),
            )  # fmt: skip
        except CommitFailedError:
            # Another collector moved some of these frames since the handle was loaded: look again what is left. When
            # nobody did, the commit fails for a reason of its own.
            if parts == lost:
                raise
            lost = parts
            continue
        _record(use_case, parts, int(handle.version()))
        return len(rows)


def _read_spool(use_case: UseCase, handle: DeltaTable) -> tuple[list[dict[str, Any]], list[Part]]:
    rows: list[dict[str, Any]] = []
    parts: list[Part] = []
    for path in spool.files(get_settings().spool, use_case.name):
        name = f"{use_case.name}/{path.name}"
        start = handle.transaction_version(name) or 0
        if path.stat().st_size <= start:
            continue
        end, before = start, len(rows)
        for row, offset in _rows_of(path, name, start):
            rows.append(row)
            end = offset
            if len(rows) >= MAX_ROWS:
                break
        if end > start:
            parts.append((name, start, end, len(rows) - before))
        if len(rows) >= MAX_ROWS:
            break
    return rows, parts


def _rows_of(path: Path, name: str, start: int) -> Iterator[tuple[dict[str, Any], int]]:
    offset = start
    for record, end in spool.read(path, start):
        try:
            row: dict[str, Any] = {
                n: record.get(n) if n in LATER else record[n] for n in SCHEMA.names if not n.startswith("spool_")
            }
            row |= {n: json.dumps(row[n], separators=(",", ":")) for n in AS_JSON}
            row |= {n: utc(datetime.fromisoformat(row[n])) for n in AS_TIME}
        except (KeyError, TypeError, ValueError, AirworthyError) as error:
            raise DataRejectedError(
                f"spool file {path} at byte {offset}",
                [CheckFailure(f"not a prediction record: {type(error).__name__} {error}")],
                next_step="find out who wrote it; move the file out of the spool folder to go on without it",
            ) from error
        row |= {"spool_file": name, "spool_offset": offset}
        yield row, end
        offset = end


def _to_table(rows: list[dict[str, Any]]) -> pa.Table:
    keys = pa.array([Interval.containing(r["prediction_time"]).key for r in rows], pa.string())
    return pa.Table.from_pylist(rows, schema=SCHEMA).append_column(
        pa.field(tables.INTERVAL, pa.string(), nullable=False), keys
    )


def _record(use_case: UseCase, parts: list[Part], version: int) -> None:
    values = [
        {
            "spool_file": f,
            "start_offset": start,
            "end_offset": end,
            "use_case": use_case.name,
            "rows": rows,
            "data_version": version,
        }
        for f, start, end, rows in parts
    ]
    with transaction() as session:
        session.execute(insert(PredictionBatch).values(values).on_conflict_do_nothing())


def _repair_ledger(use_case: UseCase) -> None:
    """Write the batch rows of commits that a crash left without them, by the parts in the table's history."""
    with transaction() as session:
        known = session.scalar(
            select(func.max(PredictionBatch.data_version)).where(PredictionBatch.use_case == use_case.name)
        )
    handle = tables.open_table(log_table(use_case))
    unknown = int(handle.version()) - (-1 if known is None else int(known))
    if unknown <= 0:
        return
    for commit in reversed(handle.history(unknown)):
        if "parts" in commit:
            _record(
                use_case,
                [(f, start, end, n) for f, start, end, n in json.loads(commit["parts"])],
                int(commit["version"]),
            )


def predictions(use_case: UseCase, first: Interval, last: Interval) -> pa.Table:
    """What was answered, by the interval of its prediction time, both ends included, in the order of asking.

    Without what a challenger scored in shadow mode: nobody saw it.
    """
    rows = tables.read(log_table(use_case), first, last)
    rows = rows.filter(pc.fill_null(pc.not_equal(rows["role"], "shadow"), True))
    return rows.take(
        pc.sort_indices(rows, sort_keys=[("prediction_time", "ascending"), ("prediction_id", "ascending")])
    )
