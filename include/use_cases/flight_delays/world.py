"""The outside world of 2013: what its upstreams land and push, and what its clients ask, in the order of data time."""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from airworthy.config import UseCase
from airworthy.intervals import Interval, days, utc
from airworthy.lake.landing import land
from use_cases.flight_delays.history import Daily, load_history

REQUESTS_PER_DAY = 120
AHEAD = timedelta(hours=2)
CATCH_UP = timedelta(hours=6)
REQUEST_COLUMNS = ("carrier", "flight", "origin", "dest", "tailnum", "distance")


@dataclass(frozen=True)
class Push:
    """Rows of one source, as in its file, that become known at a moment."""

    at: datetime
    source: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Ask:
    """Requests for predictions of flights that leave in two hours."""

    at: datetime
    requests: list[dict[str, Any]]


@dataclass(frozen=True)
class Land:
    """The files of a finished day are published."""

    at: datetime
    key: str


Event = Land | Push | Ask
# At the same moment: what is known at t may be used at t, so files come before pushes and pushes before questions.
_ORDER: dict[type, int] = {Land: 0, Push: 1, Ask: 2}


class World:
    """The year 2013 at the three airports.

    Args:
        use_case: Its sources' lags say when files and pushes come.
    """

    def __init__(self, use_case: UseCase) -> None:
        self.use_case = use_case
        self._history = load_history()
        self._pushed = {"weather": self._history.weather, "airport_state": self._history.airport_state}
        flights = self._history.flights.rows
        self._ask_at = flights["sched_at"].to_numpy() - np.timedelta64(AHEAD)
        self._origins = flights["origin"].combine_chunks().dictionary_encode().indices.to_numpy()
        self._observed = {source: daily.rows["observed"].to_numpy() for source, daily in self._pushed.items()}

    def landing_time(self, key: str) -> datetime:
        """When the files of a day are published: its end and the lag of the flights."""
        return Interval.of(key).end + self.use_case.sources["flights"].lag

    def day_at(self, moment: datetime) -> str:
        """The day that is being played at a moment: the one whose files land next (not at that very moment)."""
        return Interval.containing(moment - self.use_case.sources["flights"].lag).key

    def rows(self, source: str, key: str, known_at: datetime | None = None) -> pa.Table:
        """A source's rows of one UTC day in the columns and values of its file.

        Args:
            source: One of the use case's sources.
            key: The day. An interval without data has no rows: the weather of 31 December is not in the data.
            known_at: What had not happened by then is empty (flights still in the air); the day's landing time by
                default. A later time gives the corrected file.
        """
        columns = list(self.use_case.sources[source].columns)
        if source == "planes":
            planes = self._history.planes
            return (planes if key == self.use_case.data.first_interval.key else planes.slice(0, 0)).select(columns)
        daily: Daily = getattr(self._history, source)
        rows = daily.day(key)
        if source == "flights":
            rows = _as_known(rows, known_at or self.landing_time(key))
        return rows.select(columns)

    def content(self, source: str, key: str, known_at: datetime | None = None) -> bytes:
        """A source's file of one day: CSV with a header, empty for null."""
        return _to_csv(self.rows(source, key, known_at))

    def land_day(self, key: str, known_at: datetime | None = None) -> int:
        """Land the files of one day (planes on the first day only), published at ``known_at`` or the landing time.

        Returns:
            Files landed.
        """
        interval, published_at = Interval.of(key), known_at or self.landing_time(key)
        sources = [s for s in self.use_case.sources if s != "planes" or interval == self.use_case.data.first_interval]
        for source in sources:
            rows = self.rows(source, key, published_at)
            land(self.use_case, source, interval, _to_csv(rows), rows.num_rows, published_at)
        return len(sources)

    def land_history(self, last_key: str) -> int:
        """Land every day from the first of the data to ``last_key``; returns the number of files."""
        return sum(self.land_day(day.key) for day in days(self.use_case.data.first_interval, Interval.of(last_key)))

    def events(
        self, first_day: str | date, last_day: str | date, requests_per_day: int = REQUESTS_PER_DAY, seed: int = 7
    ) -> Iterator[Event]:
        """What happens from the landing of the day before ``first_day`` to the landing of ``last_day``, in order.

        Consecutive ranges join without a gap or an overlap: a world played from 1 to 7 April and then from 8 to 14
        April asks the same questions as one played from 1 to 14. Each range starts with the observations of the last
        six hours, as a service that was away would catch up; pushing them twice changes nothing.

        Args:
            first_day: UTC day.
            last_day: UTC day, included.
            requests_per_day: Flights asked about a UTC day, spread over origins and hours as the schedule is.
            seed: Same seed, same questions.
        """
        first, last = Interval.of(first_day), Interval.of(last_day)
        begin = self.landing_time(first.shift(-1).key)
        for source in self._pushed:
            for push in self._pushes(source, begin - CATCH_UP, begin):
                yield Push(begin, source, push.rows)
        for interval in days(first, last):
            start, stop = self.landing_time(interval.shift(-1).key), self.landing_time(interval.key)
            streams: list[Iterator[Event]] = [self._pushes(source, start, stop) for source in self._pushed]
            streams.append(self._asks(start, stop, requests_per_day, seed))
            yield from heapq.merge(*streams, key=lambda event: (event.at, _ORDER[type(event)]))
            yield Land(stop, interval.key)

    def latest(self, moment: datetime) -> Iterator[Push]:
        """The observations of the last six hours that are known at a moment: what a service needs before it is asked."""
        for source in self._pushed:
            yield from self._pushes(source, moment - CATCH_UP, moment + timedelta(microseconds=1))

    def _pushes(self, source: str, start: datetime, stop: datetime) -> Iterator[Push]:
        """Observations that become known in ``[start, stop)``, one push for each hour."""
        lag, observed, rows = self.use_case.sources[source].lag, self._observed[source], self._pushed[source].rows
        low, high = np.searchsorted(observed, [_naive(start - lag), _naive(stop - lag)])
        limit = np.searchsorted(observed, _naive(self.use_case.data.last_interval.end))
        for hour in np.unique(observed[low : min(high, limit)]):
            at, until = np.searchsorted(observed, hour), np.searchsorted(observed, hour, side="right")
            shown = rows.slice(int(at), int(until - at)).select(list(self.use_case.sources[source].columns))
            yield Push(_aware(hour) + lag, source, shown.to_pylist())

    def _asks(self, start: datetime, stop: datetime, requests_per_day: int, seed: int) -> Iterator[Ask]:
        """Questions asked in ``[start, stop)``, those of one minute together."""
        chosen = np.concatenate(
            [
                self._asked(interval, requests_per_day, seed)
                for interval in days(Interval.containing(start), Interval.containing(stop))
            ]
        )
        times = self._ask_at[chosen]
        chosen = chosen[(times >= _naive(start)) & (times < _naive(stop))]
        for at in np.unique(self._ask_at[chosen]):
            yield Ask(_aware(at), [self._request(int(row)) for row in chosen[self._ask_at[chosen] == at]])

    def _asked(self, day: Interval, count: int, seed: int) -> np.ndarray:
        """Positions of the flights asked about on a UTC day: every n-th one in the order of origin and hour."""
        low, high = np.searchsorted(self._ask_at, [_naive(day.start), _naive(day.end)])
        rows = np.arange(low, high)
        rows = rows[self._ask_at[rows] + np.timedelta64(AHEAD) < _naive(self.use_case.data.last_interval.end)]
        rng = np.random.default_rng([seed, day.start.toordinal()])
        hours = self._ask_at[rows].astype("datetime64[h]")
        shuffled = rows[np.lexsort((rng.random(len(rows)), hours, self._origins[rows]))]
        count = min(count, len(rows))
        picks = ((np.arange(count) + rng.random()) * len(rows) / max(count, 1)).astype(int)
        return np.sort(shuffled[picks])

    def _request(self, row: int) -> dict[str, Any]:
        flight = self._history.flights.rows.slice(row, 1).to_pylist()[0]
        return {
            **{name: flight[name] for name in REQUEST_COLUMNS},
            "sched_dep": f"{flight['sched_at']:%Y-%m-%dT%H:%M:%SZ}",
        }


def _to_csv(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    csv.write_csv(rows, buffer, csv.WriteOptions(quoting_style="needed"))
    return buffer.getvalue()


def _as_known(rows: pa.Table, moment: datetime) -> pa.Table:
    """Flights with everything empty that had not happened by a moment."""
    now = pa.scalar(_naive(moment), pa.timestamp("us"))
    for time, columns in {"dep_at": ["dep_time", "dep_delay"], "arr_at": ["arr_time", "arr_delay", "air_time"]}.items():
        happened = pc.fill_null(pc.less_equal(rows[time], now), fill_value=False)
        for name in columns:
            known = pc.if_else(happened, rows[name], pa.scalar(None, rows.schema.field(name).type))
            rows = rows.set_column(rows.schema.get_field_index(name), name, known)
    return rows


def _naive(moment: datetime) -> np.datetime64:
    return np.datetime64(utc(moment).replace(tzinfo=None), "us")


def _aware(moment: np.datetime64) -> datetime:
    return moment.astype("datetime64[us]").item().replace(tzinfo=UTC)
