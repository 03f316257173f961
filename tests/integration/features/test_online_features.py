"""What is served equals what training sees: looked up at a moment, and joined point-in-time for that moment."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from tiny_sensors import world
from tiny_sensors.plant import Plant, plant

from airworthy.errors import ConfigurationError
from airworthy.intervals import Interval

__all__ = ["plant"]

DAYS = [f"2024-01-{day:02d}" for day in range(1, 13)]
READING, HISTORY, SENSOR = "tiny_sensors_reading", "tiny_sensors_history", "tiny_sensors_sensor"
HOUR = timedelta(hours=1)


def catch_up(plant: Plant) -> Any:
    from airworthy.features import catch_up as real

    return real(plant.use_case, run="test")


def look_up(plant: Plant, *requests: dict[str, Any], moment: datetime) -> list[Any]:
    from airworthy.features import OnlineFeatures

    return OnlineFeatures(plant.use_case).lookup(list(requests), moment)


def in_history(plant: Plant, asked: list[tuple[dict[str, Any], datetime]]) -> list[dict[str, Any]]:
    """Feature values by the point-in-time join, for requests and their moments."""
    from airworthy.features import feature_columns, historical

    rows = [{**request, "predicted_at": moment} for request, moment in asked]
    types = {"sensor_id": pa.int64(), "starts_at": pa.timestamp("us", "UTC"), "predicted_at": pa.timestamp("us", "UTC")}
    types |= {"site": pa.string(), "load": pa.float64()}
    table = pa.table({n: pa.array([r[n] for r in rows], t) for n, t in types.items()})
    return historical(plant.use_case, table).select(list(feature_columns(plant.use_case))).to_pylist()


def a_request(**fields: Any) -> dict[str, Any]:
    start = Interval.of(DAYS[5]).start
    return {"site": "north", "sensor_id": 3, "load": 0.7, "starts_at": start + 5 * HOUR, **fields}


def a_week(plant: Plant, stand: timedelta = timedelta(hours=3, minutes=30)) -> datetime:
    """Publish five days and stand at 03:30 of the sixth (or at another time); returns that moment."""
    moment = Interval.of(DAYS[5]).start + stand
    plant.now(moment)
    plant.publish(*DAYS[:5])
    catch_up(plant)
    return moment


@pytest.mark.parametrize("seed", [1, 2])
def test_served_vectors_equal_the_point_in_time_join(plant: Plant, seed: int) -> None:
    """Two days are lived hour by hour; in the end the join must find, for each request, exactly what was served."""
    from airworthy.features import OnlineFeatures, push

    rng = random.Random(seed)
    a_week(plant, timedelta(0))  # the jobs of the fifth day are published, and not known before 02:00
    online, asked, served = OnlineFeatures(plant.use_case), [], []
    for key in DAYS[5:7]:
        readings = world.readings_of(key)
        for hour in range(24):
            start = Interval.of(key).start + hour * HOUR
            if hour == 2:
                plant.now(start)
                catch_up(plant)  # what the files of the day before say is known now
            known = start + timedelta(minutes=10)
            plant.now(known)
            outcome = push(plant.use_case, "readings", [r for r in readings if r["read_at"] == start])
            assert outcome.rejected == []
            moment = known + timedelta(minutes=rng.randrange(0, 49))
            plant.now(moment)
            requests = [
                a_request(
                    site=rng.choice([*world.SITES, "nowhere"]), sensor_id=rng.choice([None, 99, *range(world.SENSORS)]),
                    load=rng.random(), starts_at=moment + timedelta(minutes=rng.randrange(300)),
                )
                for _ in range(4)
            ]  # fmt: skip
            served += online.lookup(requests, moment)
            asked += [(request, moment) for request in requests]
        plant.publish(key)
    plant.now(Interval.of(DAYS[8]).start)
    catch_up(plant)

    joined = in_history(plant, asked)

    assert [vector.values for vector in served] == joined
    assert [[type(v) for v in s.values.values()] for s in served] == [[type(v) for v in j.values()] for j in joined]
    for view, columns in {READING: ("mode",), HISTORY: ("jobs_3d",), SENSOR: ("built",)}.items():
        absent = [view in s.missing + s.stale for s in served]
        assert absent == [j[columns[0]] is None for j in joined]
        assert any(absent)
        assert not all(absent)


def test_what_is_learned_later_changes_nothing(plant: Plant) -> None:
    """Wrong on purpose, but known only after the moment: neither the join nor the lookup may see it."""
    moment = a_week(plant)
    requests = [a_request(site=site, sensor_id=n) for n, site in enumerate(world.SITES)]
    before = look_up(plant, *requests, moment=moment)
    joined = in_history(plant, [(r, moment) for r in requests])
    later = moment + timedelta(hours=1)
    hot = [{**r, "heat": 499.0, "mode": "manual"} for r in world.readings_of(DAYS[5]) if r["read_at"] <= moment]
    assert hot
    plant.publish_rows("readings", DAYS[5], hot, known_at=later)
    plant.publish_rows("jobs", DAYS[5], [{**j, "failed": True} for j in world.jobs_of(DAYS[5])], known_at=later)
    plant.decide(DAYS[5])
    assert catch_up(plant).built[READING] == 1

    assert look_up(plant, *requests, moment=moment) == before
    assert in_history(plant, [(r, moment) for r in requests]) == joined

    plant.now(later)
    catch_up(plant)  # nothing new is built, but what was held back is known now
    assert look_up(plant, *requests, moment=later)[0].values["mode"] == "MANUAL"


def test_an_old_interval_that_is_rebuilt_never_replaces_a_newer_value(plant: Plant) -> None:
    moment = a_week(plant)
    before = look_up(plant, a_request(), moment=moment)
    plant.publish_rows("jobs", DAYS[0], world.jobs_of(DAYS[0])[:5])
    plant.publish_rows("readings", DAYS[1], world.readings_of(DAYS[1])[:5])

    outcome = catch_up(plant)

    assert outcome.built == {READING: 1, HISTORY: 3, SENSOR: 0}
    assert outcome.online[HISTORY] > 0
    assert look_up(plant, a_request(), moment=moment) == before


def test_rows_that_nobody_committed_are_not_published(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder is stopped between the lake and the ledger, for good or for a while, and another one publishes."""
    from airworthy.features.publish import publish_online
    from airworthy.ledger import commits

    moment = a_week(plant)
    before = look_up(plant, a_request(), moment=moment)
    plant.publish_rows("jobs", DAYS[4], [{**j, "failed": True} for j in world.jobs_of(DAYS[4])])
    with monkeypatch.context() as patch:
        patch.setattr(commits, "record_commits", stopped)
        with pytest.raises(KeyboardInterrupt):
            catch_up(plant)

    publish_online(plant.use_case, everything=True)
    assert look_up(plant, a_request(), moment=moment) == before

    catch_up(plant)
    assert look_up(plant, a_request(), moment=moment) != before


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_lost_online_store_is_filled_again(plant: Plant) -> None:
    import psycopg

    from airworthy.config import get_settings
    from airworthy.features import publish_online

    moment = a_week(plant)
    before = look_up(plant, a_request(), moment=moment)
    settings = get_settings()
    with psycopg.connect(f"host={settings.online_host} user=postgres dbname={settings.online_database}") as connection:
        connection.execute(f'DELETE FROM "airworthy_{HISTORY}"')
    assert HISTORY in look_up(plant, a_request(), moment=moment)[0].missing

    assert publish_online(plant.use_case) == {READING: 0, HISTORY: 0, SENSOR: 0}
    assert publish_online(plant.use_case, everything=True)[HISTORY] == len(world.SITES)
    assert look_up(plant, a_request(), moment=moment) == before


def test_a_value_is_stale_only_after_its_ttl(plant: Plant) -> None:
    a_week(plant)
    rows = [r for r in plant.features("reading") if r["site"] == "north"]
    observed = rows[-1]["event_timestamp"]

    last, past = (
        look_up(plant, a_request(), moment=observed + timedelta(hours=3) + more)[0]
        for more in (timedelta(0), HOUR / 3600)
    )

    assert READING not in last.stale
    assert last.values["mode"] == rows[-1]["mode"]
    assert past.stale == (READING,)
    assert [past.values[name] for name in ("heat", "hot", "alarm", "mode")] == [None] * 4


def test_unknown_and_absent_entities_are_missing_and_never_an_error(plant: Plant) -> None:
    moment = a_week(plant)

    unknown, null, absent = look_up(
        plant, a_request(site="nowhere", sensor_id=10**12), a_request(sensor_id=None),
        {"site": "north", "load": 0.2, "starts_at": moment}, moment=moment,
    )  # fmt: skip

    assert set(unknown.missing) == {READING, HISTORY, SENSOR}
    assert unknown.values["built"] is None
    assert SENSOR in null.missing
    assert null.values["built"] is None
    assert null.values["jobs_3d"] is not None
    assert SENSOR in absent.missing


def test_a_value_from_after_the_moment_is_not_served(plant: Plant) -> None:
    a_week(plant)

    vector = look_up(plant, a_request(), moment=Interval.of(DAYS[2]).start)[0]

    assert HISTORY in vector.missing
    assert vector.values["jobs_3d"] is None


def test_no_request_and_many_requests(plant: Plant) -> None:
    moment = a_week(plant)
    requests = [a_request(site=world.SITES[n % 4], sensor_id=n % 12, load=n / 300) for n in range(300)]

    vectors = look_up(plant, *requests, moment=moment)

    assert look_up(plant, moment=moment) == []
    assert [v.values["load"] for v in vectors] == [r["load"] for r in requests]
    assert vectors[17] == look_up(plant, requests[17], moment=moment)[0]


def test_threads_get_the_answers_to_their_own_questions(plant: Plant) -> None:
    from airworthy.features import OnlineFeatures

    moment = a_week(plant)
    online = OnlineFeatures(plant.use_case)
    requests = [a_request(site=world.SITES[n % 4], sensor_id=n % 12, load=n / 12) for n in range(12)]
    expected = online.lookup(requests, moment)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: online.lookup([requests[n % 12]], moment)[0], range(400)))

    assert found == [expected[n % 12] for n in range(400)]


@pytest.mark.parametrize("patience", [None, 10.0])
def test_an_event_loop_gets_what_a_thread_gets(plant: Plant, patience: float | None) -> None:
    from airworthy.features import OnlineFeatures

    moment = a_week(plant)
    online = OnlineFeatures(plant.use_case, patience)
    # Entities that come again, that nobody knows, and a request whose key is null, in one group.
    requests = [a_request(site=site, sensor_id=n % 12) for n, site in enumerate([*world.SITES, "nowhere"] * 9)]
    requests[7] = {**requests[7], "site": None}

    async def ask() -> list[Any]:
        return [*await online.alookup(requests[:3], moment), *await online.alookup(requests[3:], moment)]

    found = asyncio.run(ask())

    assert found == [online.lookup([request], moment)[0] for request in requests] == online.lookup(requests, moment)
    assert {READING in vector.missing for vector in found} == {True, False}
    with pytest.raises(ConfigurationError, match="request field"):
        asyncio.run(online.alookup([a_request(load="much")], moment))


def test_a_field_of_the_wrong_type_is_named(plant: Plant) -> None:
    moment = a_week(plant)

    wrong = [("load", "much"), ("starts_at", "tomorrow"), ("starts_at", "2024-01-06T05:00:00"), ("sensor_id", 2**70)]
    for field, value in wrong:
        with pytest.raises(ConfigurationError, match=r"request field|time zone"):
            look_up(plant, a_request(**{field: value}), moment=moment)


def test_before_the_features_are_registered_the_error_says_what_to_do(plant: Plant) -> None:
    from airworthy.features import OnlineFeatures

    other = plant.use_case.model_copy(
        update={"training": plant.use_case.training.model_copy(update={"feature_service": "tiny_sensors_v9"})}
    )
    with pytest.raises(ConfigurationError, match=r"tiny_sensors_v9 .* is not registered"):
        OnlineFeatures(other)


def test_a_view_may_declare_that_nothing_is_predicted_without_it(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing and stale have a fallback each: null by default, or no prediction; the error names view and entity."""
    from dataclasses import replace

    from tiny_sensors import features

    from airworthy.errors import ServiceUnavailableError
    from airworthy.features import apply, catalog

    moment = a_week(plant)
    reading, *others = features.VIEWS
    stale = max(r["event_timestamp"] for r in plant.features("reading") if r["site"] == "north") + 4 * HOUR
    for declared, refused, served in (
        (
            {"on_stale": "refuse"},
            ("north", stale, "no value younger than 3:00:00 for site 'north'"),
            ("nowhere", moment),
        ),
        ({"on_missing": "refuse"}, ("nowhere", moment, "no value for site 'nowhere'"), ("north", stale)),
    ):
        monkeypatch.setattr(features, "VIEWS", [replace(reading, **declared), *others])
        catalog.forget()
        apply(plant.use_case)
        site, when, words = refused
        with pytest.raises(ServiceUnavailableError, match=f"feature view {READING} has {words}"):
            look_up(plant, a_request(site=site), moment=when)
        site, when = served
        vector = look_up(plant, a_request(site=site), moment=when)[0]
        assert READING in vector.missing + vector.stale
        assert vector.values["mode"] is None
    monkeypatch.setattr(features, "VIEWS", [replace(reading, on_stale="guess"), *others])
    catalog.forget()
    with pytest.raises(ConfigurationError, match="on_outage is 'guess'"):
        look_up(plant, a_request(), moment=moment)
    catalog.forget()


def test_reads_while_values_are_published_are_whole_and_never_fail(plant: Plant) -> None:
    """Older, newer and the same values are written over and over; a reader sees a row of then or of now, never a mix."""
    from airworthy.features import OnlineFeatures

    moment = a_week(plant, HOUR)
    online, request = OnlineFeatures(plant.use_case), a_request()
    later = moment + HOUR / 2
    before = online.lookup([request], later)[0]
    row = next(r for r in plant.features("reading") if r["site"] == "north")
    plant.publish_rows(
        "readings", DAYS[5], [{**_raw(row), "read_at": moment.replace(minute=0), "heat": 32.0, "mode": "manual"}]
    )
    plant.now(later)

    def read() -> list[dict[str, Any]]:
        return [online.lookup([request], later)[0].values for _ in range(40)]

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        for write in (publish_all, catch_up, publish_all, publish_all):
            pool.submit(write, plant).result()
        seen = [reader.result() for reader in readers]
    after = online.lookup([request], later)[0].values

    assert (after["heat"], after["mode"]) == (0.0, "MANUAL")
    assert before.values["mode"] is not None
    then = {name: before.values[name] for name in ("heat", "hot", "alarm", "mode")}
    now = {name: after[name] for name in then}
    assert then != now
    for one_after_the_other in seen:
        found = [{name: values[name] for name in then} for values in one_after_the_other]
        assert all(each in (then, now) for each in found)
        changes = [each == now for each in found]
        assert changes == sorted(changes)  # and never backwards


def publish_all(plant: Plant) -> None:
    from airworthy.features import publish_online

    publish_online(plant.use_case, everything=True)


def _raw(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("site", "alarm")}
