"""Catching up: what is built, what waits, what is rebuilt, and that it happens once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from tiny_sensors import world
from tiny_sensors.plant import Plant, plant

from airworthy.errors import ConfigurationError, SupersededError
from airworthy.intervals import Interval
from airworthy.records import CatchUpOutcome

__all__ = ["plant"]

DAYS = [f"2024-01-{day:02d}" for day in range(1, 13)]
READING, HISTORY, SENSOR = "tiny_sensors_reading", "tiny_sensors_history", "tiny_sensors_sensor"


def catch_up(plant: Plant) -> CatchUpOutcome:
    from airworthy.features import catch_up as real

    return real(plant.use_case, run="test")


def history_by_hand(key: str, published: list[str], available: datetime | None = None) -> list[dict[str, Any]]:
    """The rolling view recomputed in plain Python."""
    interval = Interval.of(key)
    window = [interval.shift(-n).key for n in range(3)]
    rows = []
    for site in sorted(world.SITES):
        jobs = [j for k in window if k in published for j in world.jobs_of(k) if j["site"] == site]
        known = [float(j["failed"]) for j in jobs if j["failed"] is not None]
        if jobs:
            rows.append(
                {
                    "site": site, "event_timestamp": interval.end,
                    "available_at": available or interval.end + timedelta(hours=2),
                    "jobs_3d": len(jobs), "failed_share_3d": pytest.approx(sum(known) / len(known)) if known else None,
                    "interval": key,
                }
            )  # fmt: skip
    return rows


def readings_by_hand(key: str) -> list[dict[str, Any]]:
    """The pushed view recomputed in plain Python."""
    rows = []
    for reading in sorted(world.readings_of(key), key=lambda r: (r["site"], r["read_at"])):
        heat = None if reading["heat"] is None else (reading["heat"] - 32) / 1.8
        rows.append(
            {
                "site": reading["site"], "event_timestamp": reading["read_at"],
                "available_at": reading["read_at"] + timedelta(minutes=10),
                "heat": heat if heat is None else pytest.approx(heat),
                "hot": heat is not None and heat > 60, "alarm": reading["alarm"], "mode": reading["mode"].upper(),
                "interval": key,
            }
        )  # fmt: skip
    return rows


def test_everything_is_built_in_one_pass_and_published_in_one_commit(plant: Plant) -> None:
    from airworthy.features import data_versions

    plant.publish(*DAYS[:5])

    outcome = catch_up(plant)

    assert outcome.built == {READING: 5, HISTORY: 5, SENSOR: 1}
    assert outcome.waiting == ()
    assert set(data_versions(plant.use_case).values()) == {1}
    assert catch_up(plant).reason == "features are up to date"
    assert set(data_versions(plant.use_case).values()) == {1}


def test_values_equal_a_recomputation_by_hand(plant: Plant) -> None:
    plant.publish(*DAYS[:6])
    catch_up(plant)

    assert plant.features("history") == [row for key in DAYS[:6] for row in history_by_hand(key, DAYS[:6])]
    assert plant.features("reading") == [row for key in DAYS[:6] for row in readings_by_hand(key)]
    sensors = [(r["sensor_id"], r["built"], r["maker"], r["event_timestamp"]) for r in plant.features("sensor")]
    start = Interval.of(DAYS[0]).start
    assert sensors == [(s["sensor_id"], s["built"], s["maker"], start) for s in world.sensors_of(DAYS[0])]


def test_a_day_that_comes_late_rebuilds_exactly_what_looks_back_on_it(plant: Plant) -> None:
    plant.publish(DAYS[0], DAYS[2])
    catch_up(plant)
    plant.publish(DAYS[1])

    outcome = catch_up(plant)

    assert outcome.built == {READING: 1, HISTORY: 2, SENSOR: 0}
    assert plant.features("history") == [row for key in DAYS[:3] for row in history_by_hand(key, DAYS[:3])]


def test_a_correction_rebuilds_its_window_and_is_not_known_before_it_came(plant: Plant) -> None:
    plant.publish(*DAYS[:8])
    catch_up(plant)
    came = Interval.of(DAYS[8]).start + timedelta(hours=5)
    plant.publish_rows("jobs", DAYS[3], world.jobs_of(DAYS[3])[:10], known_at=came)

    outcome = catch_up(plant)

    assert outcome.built == {READING: 0, HISTORY: 3, SENSOR: 0}
    late = {r["interval"] for r in plant.features("history") if r["available_at"] == came}
    assert late == set(DAYS[3:6])


def test_the_same_content_again_rebuilds_nothing(plant: Plant) -> None:
    plant.publish(*DAYS[:3])
    catch_up(plant)
    plant.publish_rows("jobs", DAYS[1], list(reversed(world.jobs_of(DAYS[1]))))

    assert not any(catch_up(plant).built.values())


def test_an_interval_waits_while_one_in_its_window_is_landed_and_not_decided(plant: Plant) -> None:
    plant.land(DAYS[1])
    plant.publish(DAYS[0], DAYS[2], DAYS[3], DAYS[4])

    outcome = catch_up(plant)

    assert outcome.waiting == (DAYS[1], DAYS[2], DAYS[3])
    assert {r["interval"] for r in plant.features("history")} == {DAYS[0], DAYS[4]}

    plant.publish(DAYS[1])
    assert catch_up(plant).waiting == ()
    assert plant.features("history") == [row for key in DAYS[:5] for row in history_by_hand(key, DAYS[:5])]


def test_a_rejected_interval_is_a_hole_and_nobody_waits_for_it(plant: Plant) -> None:
    plant.land(DAYS[1])
    plant.decide(DAYS[1], "rejected")
    plant.publish(DAYS[0], DAYS[2])

    outcome = catch_up(plant)

    assert outcome.waiting == ()
    held = [DAYS[0], DAYS[2]]
    assert plant.features("history") == [row for key in DAYS[:3] for row in history_by_hand(key, held)]


def test_two_builders_at_the_same_time_build_once(plant: Plant) -> None:
    from airworthy.features import data_versions

    plant.publish(*DAYS[:5])
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: catch_up(plant), range(4)))

    assert sum(o.built[HISTORY] for o in outcomes) == 5
    assert set(data_versions(plant.use_case).values()) == {1}


def test_a_builder_that_was_superseded_publishes_nothing(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from airworthy.features import catchup
    from airworthy.ledger import commits

    plant.publish(*DAYS[:2])
    build = catchup.build

    def overtaken(use_case: Any, view: Any, intervals: Any, at: Any) -> Any:
        commits.claim(view.table, "somebody else")
        return build(use_case, view, intervals, at)

    monkeypatch.setattr(catchup, "build", overtaken)

    with pytest.raises(SupersededError):
        catch_up(plant)
    assert plant.features("reading") == []


def test_a_changed_definition_rebuilds_its_view_and_no_other(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from tiny_sensors import features

    from airworthy.features import catalog, feature_digest

    plant.publish(*DAYS[:3])
    catch_up(plant)
    before = feature_digest(plant.use_case)

    def hotter(tables: Any, spine: Any) -> Any:
        built = features.site_reading(tables, spine)
        return built.mutate(heat=built.heat + 1.0)

    changed = [replace(v, build=hotter) if v.name == READING else v for v in features.VIEWS]
    monkeypatch.setattr(features, "VIEWS", changed)
    catalog.forget()

    assert catch_up(plant).built == {READING: 3, HISTORY: 0, SENSOR: 0}
    assert feature_digest(plant.use_case) != before
    catalog.forget()


def test_a_row_outside_of_its_interval_is_refused(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    import ibis
    from tiny_sensors import features

    from airworthy.features import catalog

    plant.publish(DAYS[0])

    def late(tables: Any, spine: Any) -> Any:
        built = features.site_reading(tables, spine)
        return built.mutate(event_timestamp=built.event_timestamp + ibis.interval(days=2))

    monkeypatch.setattr(features, "VIEWS", [replace(features.VIEWS[0], build=late)])
    catalog.forget()

    with pytest.raises(ConfigurationError, match="tiny_sensors_reading gives a row outside of its interval"):
        catch_up(plant)
    catalog.forget()


def test_rows_without_a_ledger_row_are_not_built_from(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from airworthy.features import catch_up
    from airworthy.ledger import commits

    key = "2024-01-01"
    plant.now(Interval.of("2024-01-05").start)
    plant.publish(key)
    # Given a correction whose writer died between the table and the ledger,
    with monkeypatch.context() as broken:
        broken.setattr(commits, "record_commits", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            plant.publish_rows("jobs", key, world.jobs_of(key)[:3])
    # when the features catch up, then they are of what the ledger says.
    catch_up(plant.use_case, run="test")
    assert sum(row["jobs_3d"] for row in plant.features("history")) == len(world.jobs_of(key))


def test_a_window_waits_while_its_table_shows_rows_that_nobody_committed(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie below a committed version, which cannot be read without them; what the ledger says of them is older."""
    from airworthy.ledger import commits

    plant.publish(*DAYS[:2])
    catch_up(plant)
    # Given a correction whose writer died between the table and the ledger, and a later day that was published on top.
    with monkeypatch.context() as broken:
        broken.setattr(commits, "record_commits", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            plant.publish_rows("jobs", DAYS[1], world.jobs_of(DAYS[1])[:3])
    plant.publish(*DAYS[2:6])

    # When the features catch up, then the windows that see the correction wait, and only they.
    outcome = catch_up(plant)
    assert outcome.waiting == (DAYS[2], DAYS[3])
    assert {r["interval"] for r in plant.features("history")} == {*DAYS[:2], *DAYS[4:6]}

    # And when the rows that the ledger has are published again, the windows are built, of them.
    plant.publish_rows("jobs", DAYS[1], world.jobs_of(DAYS[1]))
    assert catch_up(plant).waiting == ()
    assert plant.features("history") == [row for key in DAYS[:6] for row in history_by_hand(key, DAYS[:6])]
