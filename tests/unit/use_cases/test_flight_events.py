"""Events come in the order of data time, the same for the same seed, and say no more than the files."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from airworthy.config import UseCase
from use_cases.flight_delays.world import Ask, Event, Land, Push, World

FIRST, LAST = "2013-04-01", "2013-04-07"


@pytest.fixture(scope="module")
def week(world: World) -> list[Event]:
    return list(world.events(FIRST, LAST))


def asked(events: list[Event]) -> list[tuple[datetime, dict]]:
    return [(e.at, request) for e in events if isinstance(e, Ask) for request in e.requests]


def test_data_time_never_goes_back_and_what_is_known_comes_before_what_is_asked(week: list[Event]) -> None:
    order = [(e.at, (Land, Push, Ask).index(type(e))) for e in week]
    assert order == sorted(order)
    assert week[0].at == datetime(2013, 4, 1, 8, tzinfo=UTC)
    assert week[-1] == Land(datetime(2013, 4, 8, 8, tzinfo=UTC), LAST)
    assert [e.key for e in week if isinstance(e, Land)] == [f"2013-04-0{n}" for n in range(1, 8)]


def test_same_seed_same_events_and_another_seed_other_questions(world: World, week: list[Event]) -> None:
    assert list(world.events(FIRST, LAST)) == week

    other = list(world.events(FIRST, LAST, seed=8))
    assert asked(other) != asked(week)
    assert [e for e in other if not isinstance(e, Ask)] == [e for e in week if not isinstance(e, Ask)]


def test_ranges_join_without_a_gap_or_an_overlap(world: World, week: list[Event]) -> None:
    parts = [*world.events("2013-04-01", "2013-04-03"), *world.events("2013-04-04", "2013-04-07")]

    assert asked(parts) == asked(week)
    pushes = Counter(
        (e.source, row["origin"], row.get("time_hour") or row["observed_at"])
        for e in parts
        if isinstance(e, Push)
        for row in e.rows
    )
    whole = {
        (e.source, row["origin"], row.get("time_hour") or row["observed_at"])
        for e in week
        if isinstance(e, Push)
        for row in e.rows
    }
    assert set(pushes) == whole
    assert sorted(Counter(pushes.values())) == [1, 2]  # twice: the catch-up of the second range


def test_questions_are_of_real_flights_two_hours_before_they_should_leave(
    week: list[Event], year: pd.DataFrame, case: UseCase
) -> None:
    flights = year.set_index(["carrier", "flight", "origin", "sched"]).sort_index()
    for at, request in asked(week):
        assert set(request) == set(case.prediction.request)
        sched = pd.Timestamp(request["sched_dep"])
        assert at == sched - timedelta(hours=2)
        found = flights.loc[(request["carrier"], request["flight"], request["origin"], sched)]
        assert (found.dest, found.distance) == (request["dest"], request["distance"])
        assert request["tailnum"] == (found.tailnum if isinstance(found.tailnum, str) else None)
    assert len({(r["carrier"], r["flight"], r["origin"], r["sched_dep"]) for _, r in asked(week)}) == len(asked(week))


def test_questions_are_spread_as_the_schedule_is(week: list[Event], year: pd.DataFrame) -> None:
    requests = pd.DataFrame([r for _, r in asked(week)])
    hours = pd.to_datetime(requests.sched_dep).dt.tz_convert(ZoneInfo("America/New_York")).dt.hour
    schedule = year[(year.key >= FIRST) & (year.key <= LAST)]

    assert 7 * 100 <= len(requests) <= 7 * 140
    assert (
        requests.origin.value_counts(normalize=True) - schedule.origin.value_counts(normalize=True)
    ).abs().max() < 0.02
    assert set(range(6, 22)) <= set(hours)


def test_as_many_questions_as_asked_for_and_never_more_than_flights(world: World) -> None:
    few = asked(list(world.events("2013-05-02", "2013-05-02", requests_per_day=10)))
    everything = asked(list(world.events("2013-05-02", "2013-05-02", requests_per_day=10**6)))

    assert 5 <= len(few) <= 15
    assert 900 < len(everything) < 1100
    assert asked(list(world.events("2013-05-02", "2013-05-02", requests_per_day=0))) == []


def test_pushed_rows_are_the_rows_that_land(world: World, week: list[Event]) -> None:
    for source, time in (("weather", "time_hour"), ("airport_state", "observed_at")):
        pushed = [row for e in week if isinstance(e, Push) and e.source == source for row in e.rows]
        days = [f"2013-04-0{n}" for n in range(1, 9)] + ["2013-03-31"]
        landed = [row for key in days for row in world.rows(source, key).to_pylist()]

        assert len({(r["origin"], r[time]) for r in pushed}) == len(pushed)
        assert all(row in landed for row in pushed)


def test_a_push_comes_when_its_rows_are_known(week: list[Event], case: UseCase) -> None:
    for source, time in (("weather", "time_hour"), ("airport_state", "observed_at")):
        late = [
            e.at - datetime.fromisoformat(row[time]) - case.sources[source].lag
            for e in week
            if isinstance(e, Push) and e.source == source
            for row in e.rows
        ]
        # Only the catch-up at the start brings older rows, and not older than six hours.
        assert min(late) == timedelta(0)
        assert max(late) <= timedelta(hours=6)
        assert sum(x > timedelta(0) for x in late) <= 3 * 6


@pytest.mark.parametrize("key", ["2013-03-10", "2013-11-03"])
def test_the_day_on_which_clocks_change_has_24_hours_of_everything(world: World, key: str) -> None:
    events = list(world.events(key, key))
    state = {
        row["observed_at"] for e in events if isinstance(e, Push) and e.source == "airport_state" for row in e.rows
    }

    assert len(state) >= 24
    assert all(at == datetime.fromisoformat(r["sched_dep"]) - timedelta(hours=2) for at, r in asked(events))
    assert 100 <= len(asked(events)) <= 140


def test_nothing_happens_after_the_last_interval(world: World) -> None:
    events = list(world.events("2013-12-31", "2013-12-31"))

    assert max(datetime.fromisoformat(r["sched_dep"]) for _, r in asked(events)) < datetime(2014, 1, 1, tzinfo=UTC)
    assert events[-1] == Land(datetime(2014, 1, 1, 8, tzinfo=UTC), "2013-12-31")


def test_the_day_that_is_played(world: World) -> None:
    assert world.day_at(datetime(2013, 4, 2, 7, 59, tzinfo=UTC)) == "2013-04-01"
    assert world.day_at(world.landing_time("2013-04-01")) == "2013-04-02"


def test_the_newest_observations_are_those_of_six_hours_with_the_one_known_just_now(world: World) -> None:
    """Before its first client a service gets what the first questions of the day would find."""
    moment = datetime(2013, 4, 1, 8, tzinfo=UTC)

    latest = list(world.latest(moment))

    weather = [e for e in latest if e.source == "weather"]
    assert [e.at for e in weather] == [moment - timedelta(hours=n) for n in range(6, -1, -1)]
    assert {e.source for e in latest} == {"weather", "airport_state"}
    assert max(e.at for e in latest) == moment
