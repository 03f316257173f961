"""Skew: a day is lived through the real online store and prediction log; then every vector is recomputed offline."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tiny_sensors import features as definitions
from tiny_sensors import world as plant_world
from tiny_sensors.plant import Plant, plant

from airworthy.config import get_settings
from airworthy.intervals import Interval
from airworthy.ledger.database import transaction
from airworthy.ledger.models import SkewCheck
from airworthy.records import SkewOutcome

__all__ = ["plant"]

DAYS = [f"2024-01-{day:02d}" for day in range(1, 9)]
LIVE = DAYS[5]
READING = {"heat", "hot", "alarm", "mode"}
HISTORY = {"jobs_3d", "failed_share_3d"}
HOUR = timedelta(hours=1)
Rows = list[dict[str, Any]]


def live(plant: Plant, *, feed: Callable[[int], Rows] | None = None, catches_up: bool = True) -> None:
    """Five days are history; the sixth is lived hour by hour, with a correction of the fifth at noon.

    Args:
        plant: The plant.
        feed: Readings that are pushed in an hour; the true ones by default.
        catches_up: Whether the features catch up in the night, when the jobs of the day before are known.
    """
    from airworthy import monitoring
    from airworthy.features import OnlineFeatures, catch_up, push
    from airworthy.lake import tables
    from airworthy.serving.spool import Spool

    for name, schema in monitoring.table_schemas(plant.use_case).items():
        tables.create(name, schema)
    rng, start = random.Random(5), Interval.of(LIVE).start
    plant.now(start)
    plant.publish(*DAYS[:5])
    catch_up(plant.use_case, run="test")
    online, spool = OnlineFeatures(plant.use_case), Spool(get_settings().spool, plant.use_case.name, "test")
    for hour in range(24):
        begins = start + hour * HOUR
        plant.now(begins)
        if hour == 2 and catches_up:
            catch_up(plant.use_case, run="test")
        if hour == 12 and catches_up:
            plant.publish_rows("jobs", DAYS[4], plant_world.jobs_of(DAYS[4])[:7], known_at=begins)
            catch_up(plant.use_case, run="test")
        known = begins + timedelta(minutes=10)
        plant.now(known)
        assert push(plant.use_case, "readings", (feed or readings)(hour)).rejected == []
        moment = known + timedelta(minutes=rng.randrange(49))
        plant.now(moment)
        requests = [
            {"site": rng.choice([*plant_world.SITES, "nowhere"]), "sensor_id": rng.choice([None, 99, 3, 4]),
             "load": rng.random(), "starts_at": moment + HOUR}
            for _ in range(3)
        ]  # fmt: skip
        vectors = online.lookup(requests, moment)
        spool.append([record(plant, *pair, moment) for pair in zip(requests, vectors, strict=True)])
    spool.close()
    plant.publish(LIVE)
    plant.now(Interval.of(DAYS[7]).start)
    catch_up(plant.use_case, run="test")


def readings(hour: int) -> Rows:
    """What the sensors really read in an hour of the live day."""
    moment = Interval.of(LIVE).start + hour * HOUR
    return [r for key in (DAYS[4], LIVE) for r in plant_world.readings_of(key) if r["read_at"] == moment]


def in_celsius(hour: int) -> Rows:
    """The feed forgot that the landed files are in degrees Fahrenheit."""
    return [{**r, "heat": None if r["heat"] is None else (r["heat"] - 32) / 1.8} for r in readings(hour)]


def an_hour_behind(hour: int) -> Rows:
    """The feed gives the readings of the hour before as those of this one."""
    return [{**r, "read_at": r["read_at"] + HOUR} for r in readings(hour - 1)]


def record(plant: Plant, request: dict[str, Any], vector: Any, moment: datetime) -> dict[str, Any]:
    """What the prediction service writes into its log."""
    from airworthy.features import feature_digest

    return {
        "prediction_id": uuid.uuid4().hex, "use_case": plant.use_case.name, "feature_service": "tiny_sensors_v1",
        "feature_digest": feature_digest(plant.use_case), "at": "2026-01-01T00:00:00+00:00",
        "prediction_time": moment.isoformat(), "id": {"job_id": None},
        "request": {**request, "starts_at": request["starts_at"].isoformat()}, "features": dict(vector.values),
        "probability": 0.5, "decision": False, "model_digest": "m", "release": "r", "generation": 1,
        "missing": list(vector.missing), "stale": list(vector.stale), "latency_ms": 1.0,
    }  # fmt: skip


def look(plant: Plant, last: str = LIVE, days: int = 1) -> SkewOutcome:
    from airworthy.monitoring import skew

    return skew(plant.use_case, Interval.of(last), days, run="test")


def test_what_was_served_is_recomputed_equal_in_spite_of_a_late_correction(plant: Plant) -> None:
    live(plant)

    outcome = look(plant)

    assert outcome.mismatches == ()
    assert (outcome.predictions, outcome.vectors, outcome.left_out) == (72, 72, 0)
    assert outcome.reason == "no skew: all 72 served vectors recomputed, equal"
    with transaction() as session:
        row = session.get(SkewCheck, (plant.use_case.name, f"{LIVE}_{LIVE}"))
        assert (row.vectors, row.violates) == (72, False)
        assert SkewOutcome.model_validate(row.record) == outcome
    assert "no skew" in (Path(get_settings().docs_url) / f"skew/tiny_sensors/{LIVE}_{LIVE}.html").read_text()


@pytest.mark.parametrize(
    ("plant_it", "named"),
    [
        ({"feed": in_celsius}, {"heat", "hot"}),
        ({"feed": an_hour_behind}, READING),
        ({"catches_up": False}, HISTORY),
    ],
    ids=["wrong unit", "shifted hour", "stale view"],
)
def test_planted_skew_is_found_and_named(plant: Plant, plant_it: dict[str, Any], named: set[str]) -> None:
    live(plant, **plant_it)

    outcome = look(plant)

    found = {s.feature for s in outcome.mismatches}
    assert found
    assert found <= named
    assert {s.view for s in outcome.mismatches} == {
        "tiny_sensors_history" if named == HISTORY else "tiny_sensors_reading"
    }
    worst = outcome.mismatches[0]
    assert outcome.reason.startswith(f"SKEW in {worst.feature} ({worst.mismatches} of 72, {worst.view})")
    assert 0 < len(worst.examples) <= 3
    assert "served" in worst.examples[0]
    with transaction() as session:
        assert session.get(SkewCheck, (plant.use_case.name, f"{LIVE}_{LIVE}")).violates
    page = (Path(get_settings().docs_url) / f"skew/tiny_sensors/{LIVE}_{LIVE}.html").read_text()
    assert all(s.feature in page for s in outcome.mismatches)

    # The week's note says it, and it is no reason for a training.
    from airworthy.monitoring import monitor

    noted = monitor(plant.use_case, Interval.of(LIVE), 1, run="test")
    assert noted.reason.startswith(outcome.reason)
    assert noted.metrics["skewed_features"] == len(outcome.mismatches)
    assert noted.requested == ()


def test_vectors_whose_observations_never_landed_are_left_out_and_counted(plant: Plant) -> None:
    live(plant)
    plant.decide(LIVE, "rejected")

    outcome = look(plant)

    assert (outcome.vectors, outcome.left_out) == (0, 72)
    assert outcome.reason == (
        "no skew measured: no vector that can be recomputed; 72 left out: their observations are not published"
    )


def test_vectors_of_other_definitions_are_left_out_counted_and_no_skew(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airworthy.features import catalog

    live(plant)
    reading, *others = definitions.VIEWS

    def doubled(tables: Any, spine: Any) -> Any:
        return reading.build(tables, spine).mutate(heat=lambda rows: rows.heat * 2)

    monkeypatch.setattr(definitions, "VIEWS", [replace(reading, build=doubled), *others])
    catalog.forget()
    try:
        outcome = look(plant)
    finally:
        monkeypatch.undo()
        catalog.forget()

    assert outcome.mismatches == ()
    assert (outcome.predictions, outcome.vectors, outcome.left_out, outcome.other_definitions) == (72, 0, 0, 72)
    assert outcome.reason.endswith("72 left out: served with other feature definitions than the present ones")


def test_a_large_window_is_sampled_evenly_and_says_so(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from airworthy.monitoring import skew_check as stage

    assert stage.VECTORS >= 1_000
    live(plant)
    monkeypatch.setattr(stage, "VECTORS", 24)

    outcome = look(plant)

    assert (outcome.predictions, outcome.vectors) == (72, 24)
    assert outcome.reason == "no skew: 24 of 72 served vectors recomputed, equal"


def test_the_values_of_a_tagged_column_are_not_shown(plant: Plant) -> None:
    from airworthy.config import UseCase
    from airworthy.monitoring import skew

    live(plant, feed=in_celsius)
    spec = plant.use_case.model_dump()
    spec["sources"]["readings"]["columns"]["heat"]["tags"] = ["secret"]

    outcome = skew(UseCase.model_validate(spec), Interval.of(LIVE), 1, run="test")

    (heat,) = [s for s in outcome.mismatches if s.feature == "heat"]
    assert heat.examples[0].endswith("served [secret], should be [secret]")
