"""What the world lands and pushes is the year as it was, and never more than was known."""

from __future__ import annotations

import io
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow.csv as csv
import pytest

from airworthy.config import UseCase
from airworthy.config.settings import Settings
from airworthy.intervals import Interval, days
from airworthy.lake.landing import landed
from use_cases.flight_delays.world import World

NEW_YORK = ZoneInfo("America/New_York")
CLOCKS_CHANGE = ["2013-03-10", "2013-11-03"]
SAMPLED = ["2013-01-01", "2013-02-08", "2013-07-04", "2013-12-31", *CLOCKS_CHANGE]
AFTER_THE_RANGE = 88  # the last evening of the year in New York is 2014 in UTC


def test_every_flight_of_the_range_is_in_the_file_of_its_utc_day(
    world: World, year: pd.DataFrame, case: UseCase
) -> None:
    counts = {
        d.key: world.rows("flights", d.key).num_rows for d in days(case.data.first_interval, case.data.last_interval)
    }

    assert sum(counts.values()) == len(year) - AFTER_THE_RANGE
    assert counts == year[year.key <= "2013-12-31"].groupby("key").size().to_dict()


@pytest.mark.parametrize("key", SAMPLED)
def test_a_day_has_the_sources_values(world: World, year: pd.DataFrame, key: str) -> None:
    identity = ["carrier", "flight", "origin", "sched_dep"]
    rows = world.rows("flights", key, known_at=datetime(2015, 1, 1, tzinfo=UTC)).to_pandas().sort_values(identity)

    expected = (
        year[year.key == key].assign(sched_dep=lambda t: t.local.dt.strftime("%Y-%m-%dT%H:%M:%S")).sort_values(identity)
    )
    for column in [
        "sched_dep",
        "flight",
        "dest",
        "distance",
        "sched_arr_time",
        "dep_time",
        "dep_delay",
        "arr_delay",
        "air_time",
        "tailnum",
    ]:
        assert rows[column].fillna(-999).tolist() == expected[column].fillna(-999).tolist(), column


@pytest.mark.parametrize("key", CLOCKS_CHANGE)
def test_the_day_on_which_clocks_change_holds_its_own_24_utc_hours(world: World, key: str) -> None:
    local = [datetime.fromisoformat(text) for text in world.rows("flights", key)["sched_dep"].to_pylist()]

    moments = [t.replace(tzinfo=NEW_YORK).astimezone(UTC) for t in local]
    assert {Interval.containing(m).key for m in moments} == {key}
    assert len({m - t.replace(tzinfo=UTC) for m, t in zip(moments, local, strict=True)}) == 2  # both offsets occur
    assert world.rows("airport_state", key).num_rows == 72


def test_the_file_is_the_rows(world: World) -> None:
    for source in ("flights", "weather", "airport_state"):
        rows = world.rows(source, "2013-02-12")

        read = csv.read_csv(
            io.BytesIO(world.content(source, "2013-02-12")),
            convert_options=csv.ConvertOptions(
                column_types=rows.schema, strings_can_be_null=True, timestamp_parsers=[]
            ),
        )
        assert read.equals(rows), source


def test_a_file_says_nothing_that_had_not_happened_when_it_was_published(world: World, year: pd.DataFrame) -> None:
    known_at = world.landing_time("2013-04-19")
    rows = world.rows("flights", "2013-04-19").to_pandas()
    later = world.rows("flights", "2013-04-19", known_at + timedelta(days=2)).to_pandas()

    day = year[year.key == "2013-04-19"]
    landed_by = day.left + pd.to_timedelta(day.air_time, "min")
    in_the_air, here = named(day[landed_by > known_at]), named(day[day.left > known_at])
    assert in_the_air
    assert here  # the day was chosen for both
    assert not in_the_air & named(rows[rows.arr_delay.notna() | rows.air_time.notna() | rows.arr_time.notna()])
    assert named(rows[rows.dep_delay.notna()]) == named(day[day.left <= known_at]) == named(rows[rows.dep_time.notna()])
    assert named(later[later.arr_delay.notna()]) == named(day[day.arr_delay.notna()])


def named(flights: pd.DataFrame) -> set[tuple[str, int, str]]:
    """Which flights of a day."""
    return set(zip(flights.carrier, flights.flight, flights.origin, strict=True))


def test_few_labels_are_lost_by_waiting_no_longer(world: World, case: UseCase, year: pd.DataFrame) -> None:
    keys = [d.key for d in days(case.data.first_interval, case.data.last_interval)]
    labels = sum(len(c) - c.null_count for c in (world.rows("flights", k)["arr_delay"] for k in keys))

    arrived = int(year[year.key <= "2013-12-31"].arr_delay.notna().sum())
    assert 0 < arrived - labels < arrived * 0.0015


def test_weather_is_complete_and_kept_as_it_is(world: World, case: UseCase) -> None:
    keys = [d.key for d in days(case.data.first_interval, case.data.last_interval)]
    counts = {k: world.rows("weather", k).num_rows for k in keys}

    assert sum(counts.values()) == 26115
    assert [k for k, n in counts.items() if n == 0] == ["2013-12-31"]
    assert max(world.rows("weather", "2013-02-12")["wind_speed"].to_pylist()) == 1048.36058


def brute_force(year: pd.DataFrame, origin: str, hour: pd.Timestamp) -> dict[str, object]:
    """The counters by their words, from flights that had left and flights that should have."""
    here = year[year.origin == origin]
    gone = here[here.left <= hour]

    def last(hours: int) -> pd.Series:
        return gone[gone.left > hour - pd.Timedelta(hours=hours)].dep_delay

    def mean(values: pd.Series) -> float | None:
        return float(values.mean()) if len(values) else None

    should = here[(here.sched <= hour) & (here.sched > hour - pd.Timedelta(hours=6))]
    return {
        "departures_1h": len(last(1)),
        "departures_3h": len(last(3)),
        "dep_delay_1h": mean(last(1)),
        "dep_delay_3h": mean(last(3)),
        "dep_delay_6h": mean(last(6)),
        "late_share_3h": mean(last(3) >= 15),
        "overdue": int((~(should.left <= hour)).sum()),
    }


def test_the_airports_state_is_what_could_be_counted_at_the_hour(
    world: World, year: pd.DataFrame, case: UseCase
) -> None:
    rng = random.Random(5)
    keys = (
        rng.sample([d.key for d in days(case.data.first_interval, case.data.last_interval)], 25)
        + CLOCKS_CHANGE
        + ["2013-01-01"]
    )

    for key in keys:
        rows = world.rows("airport_state", key).to_pylist()
        assert len(rows) == 72
        for row in rng.sample(rows, 4):
            expected = brute_force(year, row["origin"], pd.Timestamp(row["observed_at"]))
            for name, value in expected.items():
                assert row[name] == pytest.approx(value, abs=0.0051 if "delay" in name else 0.000051), (key, row, name)


def test_planes_are_landed_once(world: World) -> None:
    assert world.rows("planes", "2013-01-01").num_rows == 3322
    assert world.rows("planes", "2013-01-02").num_rows == 0


def test_landing_a_day_makes_a_complete_interval_and_a_later_file_another(
    platform_env: Settings, world: World, case: UseCase
) -> None:
    interval = Interval.of("2013-03-08")
    files = world.land_day(interval.key)
    first = landed(case, interval)

    world.land_day(interval.key, world.landing_time(interval.key) + timedelta(days=2))
    second = landed(case, interval)

    assert files == 3
    assert first is not None
    assert second is not None
    assert first.manifests["flights"].rows == world.rows("flights", interval.key).num_rows
    assert first.manifests["flights"].published_at == datetime(2013, 3, 9, 8, tzinfo=UTC)
    assert first.digest != second.digest
    assert first.manifests["weather"].sha256 == second.manifests["weather"].sha256


def test_history_is_every_day_with_the_planes_first(platform_env: Settings, world: World, case: UseCase) -> None:
    assert world.land_history("2013-01-03") == 3 * 3 + 1
    assert landed(case, Interval.of("2013-01-03")) is not None
    assert "planes" in landed(case, Interval.of("2013-01-01")).manifests  # type: ignore[union-attr]
    assert landed(case, Interval.of("2013-01-04")) is None
