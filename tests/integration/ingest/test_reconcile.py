"""What ``.arrivals`` takes: corrections of any day, live days that are over, never a replayed world's history."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from parcels import world
from sqlalchemy import select

from airworthy.config import UseCase
from airworthy.config.data_spec import SCHEDULE_WAIT
from airworthy.errors import DataRejectedError
from airworthy.ingest import arrivals, ingest_interval, overdue, report_overdue, time_to_wait, wakes
from airworthy.intervals import Interval
from airworthy.lake import landing
from airworthy.ledger import clock
from airworthy.ledger.database import transaction
from airworthy.ledger.models import OverdueInterval

HISTORY, LIVE, LATER = "2013-10-20", "2013-11-05", "2013-11-06"


def ingest(use_case: UseCase, key: str) -> None:
    ingest_interval(use_case, Interval.of(key), run="test")


def test_live_days_are_taken_when_they_are_over_and_history_never(parcels: UseCase) -> None:
    for key in (LATER, LIVE, HISTORY):
        world.land_day(parcels, key)
    assert wakes(parcels) == []
    clock.advance(parcels, Interval.of(LIVE).end - timedelta(seconds=1))
    assert wakes(parcels) == []
    clock.advance(parcels, Interval.of(LIVE).end)
    assert wakes(parcels) == [LIVE]
    clock.advance(parcels, Interval.of(LATER).end)
    assert arrivals(parcels) == [Interval.of(LIVE), Interval.of(LATER)]
    ingest(parcels, LIVE)
    assert wakes(parcels) == [LATER]


def test_a_day_that_lacks_a_source_is_not_taken(parcels: UseCase) -> None:
    clock.advance(parcels, Interval.of(LATER).end)
    world.land_parcels(parcels, LIVE)
    assert wakes(parcels) == []
    world.land_depots(parcels, LIVE)
    assert wakes(parcels) == [LIVE]


def test_a_correction_is_taken_on_any_day_even_of_history(parcels: UseCase) -> None:
    world.land_day(parcels, HISTORY)
    ingest(parcels, HISTORY)
    assert wakes(parcels) == []
    world.land_parcels(parcels, HISTORY, world.parcels(HISTORY, 39))
    assert wakes(parcels) == [HISTORY]
    ingest(parcels, HISTORY)
    assert wakes(parcels) == []


def test_a_refused_file_is_taken_again_only_when_it_was_corrected(parcels: UseCase) -> None:
    clock.advance(parcels, Interval.of(LIVE).end)
    world.land_parcels(parcels, LIVE, content=b"")
    world.land_depots(parcels, LIVE)
    assert wakes(parcels) == [LIVE]
    with pytest.raises(DataRejectedError):
        ingest(parcels, LIVE)
    assert wakes(parcels) == []
    world.land_parcels(parcels, LIVE)
    assert wakes(parcels) == [LIVE]


def test_a_damaged_upload_is_taken_again_when_the_same_bytes_are_landed_once_more(parcels: UseCase) -> None:
    clock.advance(parcels, Interval.of(LIVE).end)
    world.land_depots(parcels, LIVE)
    for _ in range(2):
        path = Path(landing.data_file(parcels, world.land_parcels(parcels, LIVE)))
        path.write_bytes(path.read_bytes()[:-9])
        assert wakes(parcels) == [LIVE]
        with pytest.raises(DataRejectedError, match="truncated"):
            ingest(parcels, LIVE)
        assert wakes(parcels) == []
    world.land_parcels(parcels, LIVE)
    assert wakes(parcels) == [LIVE]
    ingest(parcels, LIVE)
    assert wakes(parcels) == []


def test_on_a_schedule_only_what_its_run_missed_is_taken(parcels: UseCase) -> None:
    scheduled = parcels.model_copy(update={"data": parcels.data.model_copy(update={"live_from": None})})
    # An hour late: its run waits, and takes it.
    clock.advance(scheduled, Interval.of(LIVE).end + timedelta(hours=1))
    world.land_day(scheduled, LIVE)
    assert wakes(scheduled) == []
    # However late that run, or a try of it, began, it gives up at the moment at which somebody else may take it.
    assert time_to_wait(scheduled, Interval.of(LIVE)) == SCHEDULE_WAIT - timedelta(hours=1)
    clock.advance(scheduled, Interval.of(LIVE).end + SCHEDULE_WAIT)
    assert time_to_wait(scheduled, Interval.of(LIVE)) == timedelta(0)
    assert time_to_wait(scheduled, Interval.of(LIVE).shift(9)) == SCHEDULE_WAIT  # where the clock stands still
    assert wakes(scheduled) == []
    # Three days late: nobody waits any more.
    clock.advance(scheduled, Interval.of(LIVE).end + timedelta(days=3))
    assert wakes(scheduled) == [LIVE]


def test_a_day_that_never_lands_is_reported_once_and_until_it_comes(parcels: UseCase) -> None:
    # Given a day of which one of two required sources lands, and the day before, which is published.
    before = Interval.of(LIVE).shift(-1).key
    live = parcels.model_copy(
        update={"data": parcels.data.model_copy(update={"live_from": Interval.of(before).start.date()})}
    )
    world.land_day(live, before)
    ingest(live, before)
    world.land_parcels(live, LIVE)
    # When its deadline comes: two hours of lag and six of grace after its end.
    clock.advance(live, Interval.of(LIVE).end + timedelta(hours=8, seconds=-1))
    assert report_overdue(live).reason == "parcels: nothing is overdue"
    clock.advance(live, Interval.of(LIVE).end + timedelta(hours=8))
    found = report_overdue(live)
    # Then it is named, with what it lacks, and is new once.
    assert (found.overdue, found.new) == ({LIVE: ["no depots"]}, (LIVE,))
    assert "1 of them new: 2013-11-05 (no depots)" in found.reason
    assert report_overdue(live).new == ()
    with transaction() as session:
        (row,) = session.scalars(select(OverdueInterval)).all()
    assert (row.interval, row.lacks["lacks"], row.arrived) == (LIVE, ["no depots"], None)
    # And one that landed and that nobody took is no less overdue, until it is published once.
    world.land_depots(live, LIVE)
    assert report_overdue(live).overdue == {LIVE: ["landed, not ingested"]}
    ingest(live, LIVE)
    late = report_overdue(live)
    assert (late.overdue, late.arrived) == ({}, (LIVE,))
    with transaction() as session:
        assert session.scalars(select(OverdueInterval)).one().arrived is not None


def test_the_history_of_a_replayed_world_is_never_overdue(parcels: UseCase) -> None:
    clock.advance(parcels, Interval.of("2013-11-01").start + timedelta(hours=9))
    assert overdue(parcels) == {}


def test_looking_is_cheap_and_uses_no_table(parcels: UseCase) -> None:
    for day in range(1, 29):
        world.land_day(parcels, f"2013-11-{day:02d}")
    clock.advance(parcels, Interval.of("2013-12-01").start)
    assert len(wakes(parcels)) == 28
    start = time.process_time()
    for _ in range(10):
        wakes(parcels)
    assert (time.process_time() - start) / 10 < 0.05


def test_the_watcher_loads_no_great_expectations(parcels: UseCase) -> None:
    code = "import sys, airworthy.ingest; print('great_expectations' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
