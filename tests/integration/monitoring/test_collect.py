"""The spool becomes the prediction log exactly once, whatever is interrupted, repeated or run twice at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from sqlalchemy import delete, select

from airworthy.config import get_settings
from airworthy.errors import DataRejectedError
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger.database import transaction
from airworthy.ledger.models import PredictionBatch
from airworthy.monitoring import collect
from airworthy.monitoring.collect import log_table, predictions
from airworthy.serving import spool
from airworthy.serving.spool import Spool, frame

DAY = "2024-03-11"


def logged(world) -> list[str]:
    return tables.read(log_table(world.use_case))["prediction_id"].to_pylist()


def batches() -> list[PredictionBatch]:
    with transaction() as session:
        return list(
            session.scalars(select(PredictionBatch).order_by(PredictionBatch.spool_file, PredictionBatch.start_offset))
        )


def test_records_arrive_whole_and_in_their_partition(world):
    given = world.predict(DAY, 5) + world.predict("2024-03-12", 3)
    assert collect(world.use_case) == 8
    rows = predictions(world.use_case, Interval.of(DAY), Interval.of(DAY)).to_pylist()
    assert [r["prediction_id"] for r in rows] == [g["prediction_id"] for g in given[:5]]
    for row, record in zip(rows, given, strict=False):
        assert row["prediction_time"].isoformat() == record["prediction_time"]
        assert {n: json.loads(row[n]) for n in ("id", "request", "features")} == {
            n: record[n] for n in ("id", "request", "features")
        }
        assert {n: row[n] for n in ("probability", "decision", "release", "generation", "missing", "latency_ms")} == {
            n: record[n] for n in ("probability", "decision", "release", "generation", "missing", "latency_ms")
        }
        assert row["interval"] == DAY
    assert len(predictions(world.use_case, Interval.of(DAY), Interval.of("2024-03-12"))) == 8
    [batch] = batches()
    assert (batch.start_offset, batch.rows, batch.use_case) == (0, 8, "tiny_orders")
    assert batch.end_offset == spool.files(get_settings().spool, "tiny_orders")[0].stat().st_size


def test_collecting_again_adds_only_what_is_new(world):
    given = world.predict(DAY, 4)
    assert collect(world.use_case) == 4
    assert collect(world.use_case) == 0
    given += world.predict(DAY, 3)
    other = Spool(get_settings().spool, world.use_case.name, "other")
    more = world.records(DAY, 2)
    other.append(more)
    assert collect(world.use_case) == 5
    assert sorted(logged(world)) == sorted(r["prediction_id"] for r in given + more)
    assert [(b.start_offset > 0, b.rows) for b in batches()] in (
        [(False, 4), (True, 3), (False, 2)],
        [(False, 2), (False, 4), (True, 3)],
    )


def test_a_crash_between_table_and_ledger_neither_doubles_nor_loses(world, monkeypatch):
    module = sys.modules["airworthy.monitoring.collect"]
    given = world.predict(DAY, 6)

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_record", dies)
        with pytest.raises(KeyboardInterrupt):
            collect(world.use_case)
    assert batches() == []
    assert collect(world.use_case) == 0
    assert sorted(logged(world)) == sorted(r["prediction_id"] for r in given)
    # The ledger was mended from the table's history.
    [batch] = batches()
    assert (batch.start_offset, batch.rows) == (0, 6)


def test_a_lost_ledger_does_not_lead_to_doubles(world):
    given = world.predict(DAY, 6)
    collect(world.use_case)
    with transaction() as session:
        session.execute(delete(PredictionBatch))
    assert collect(world.use_case) == 0
    assert len(logged(world)) == len(given)
    assert [b.rows for b in batches()] == [6]


def test_kill_9_at_any_moment_leaves_every_prediction_once(world):
    given = [r for _ in range(40) for r in world.predict(DAY, 25)]
    script = (
        "from airworthy.monitoring import collect as f\nimport sys\nc = sys.modules['airworthy.monitoring.collect']\n"
        "c.MAX_ROWS = 50\nfrom airworthy.config import get_use_case\nprint('go', flush=True)\n"
        "c.collect(get_use_case('tiny_orders'))\n"
    )
    kills = 0
    for wait in (0.05, 0.2, 0.4):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=dict(os.environ))
        process.stdout.readline()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert kills > 0
    collect(world.use_case)
    assert sorted(logged(world)) == sorted(r["prediction_id"] for r in given)
    assert sum(b.rows for b in batches()) == len(given)


def test_two_collectors_at_once_without_the_lock_move_every_frame_once(world, monkeypatch):
    module = sys.modules["airworthy.monitoring.collect"]
    # The lock only saves work: a holder whose connection was cut goes on without it.
    monkeypatch.setattr(module, "exclusive", lambda *_: nullcontext())
    monkeypatch.setattr(module, "MAX_ROWS", 20)
    given = [r for _ in range(10) for r in world.predict(DAY, 20)]
    with ThreadPoolExecutor(4) as pool:
        moved = list(pool.map(lambda _: collect(world.use_case), range(4)))
    assert sum(moved) == len(given)
    assert sorted(logged(world)) == sorted(r["prediction_id"] for r in given)


def test_a_torn_tail_waits_for_its_rest(world):
    given = world.predict(DAY, 2)
    path = spool.files(get_settings().spool, world.use_case.name)[0]
    late = world.records(DAY, 1)
    whole = frame(late[0])
    with path.open("ab") as file:
        file.write(whole[:-7])
    assert collect(world.use_case) == 2
    with path.open("ab") as file:
        file.write(whole[-7:])
    assert collect(world.use_case) == 1
    assert sorted(logged(world)) == sorted(r["prediction_id"] for r in given + late)


def test_a_frame_that_is_no_prediction_is_named(world):
    bad = world.records(DAY, 1)[0]
    del bad["probability"]
    world.spool.append([bad])
    with pytest.raises(DataRejectedError, match=r"(?s)spool file .* at byte 0.*probability"):
        collect(world.use_case)
    assert logged(world) == []


def test_a_log_of_the_time_before_definitions_were_logged_gets_the_columns(world):
    import shutil

    import pyarrow as pa

    from airworthy import monitoring

    # Given a log as an older platform made it, with a row, and frames of an older service.
    table = log_table(world.use_case)
    shutil.rmtree(tables.url(table))
    new = monitoring.table_schemas(world.use_case)[table]
    tables.create(table, pa.schema([f for f in new if f.name not in ("feature_service", "feature_digest")]))
    world.predict(DAY, 2)
    # When it is migrated.
    tables.create(table, new)
    tables.create(table, new)
    # Then both kinds of frames are collected, and the old ones tell nothing of their definitions.
    (record,) = world.records(DAY, 1)
    world.spool.append([{**record, "feature_service": "tiny_orders_v1", "feature_digest": "d" * 64}])
    assert collect(world.use_case) == 3
    rows = tables.read(table)
    assert sorted(str(digest) for digest in rows["feature_digest"].to_pylist()) == ["None", "None", "d" * 64]
