"""Intervals: half-open, UTC, one day each; an interval's key is its day, such as ``2013-01-31``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

from pydantic import BaseModel, ConfigDict, model_validator

from airworthy.errors import ConfigurationError

DAY = timedelta(days=1)


def utc(moment: datetime) -> datetime:
    """The moment in UTC. Raises ConfigurationError when it is naive: a clock without a zone is a guess."""
    if moment.tzinfo is None:
        raise ConfigurationError(
            f"{moment} has no time zone", next_step="give the time in UTC, such as 2013-01-01T00:00:00Z"
        )
    return moment.astimezone(UTC)


class Interval(BaseModel):
    """One day of data time, ``[start, end)``, both midnight UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: datetime
    end: datetime

    @model_validator(mode="after")
    def _one_utc_day(self) -> Interval:
        if utc(self.start).time() != time(0) or self.end - self.start != DAY:
            raise ValueError(f"an interval is one UTC day, not {self.start} to {self.end}")
        return self

    @property
    def key(self) -> str:
        """The day, ``YYYY-MM-DD``: the partition key in Airflow and in every table."""
        return self.start.astimezone(UTC).strftime("%Y-%m-%d")

    @classmethod
    def of(cls, key: str | date) -> Interval:
        """The interval of a day. Raises ConfigurationError when the key is no ``YYYY-MM-DD``."""
        try:
            day = date.fromisoformat(key) if isinstance(key, str) else key
        except ValueError as error:
            raise ConfigurationError(
                f"{key!r} is not the key of an interval", next_step="give a day as YYYY-MM-DD, such as 2013-01-31"
            ) from error
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return cls(start=start, end=start + DAY)

    @classmethod
    def containing(cls, moment: datetime) -> Interval:
        """The interval that holds a moment (which must have a time zone)."""
        return cls.of(utc(moment).date())

    def shift(self, days: int) -> Interval:
        """The interval so many days later (earlier when negative)."""
        return Interval(start=self.start + days * DAY, end=self.end + days * DAY)

    def __str__(self) -> str:
        return self.key


def days(first: Interval, last: Interval) -> Iterator[Interval]:
    """Every interval from the first to the last, both included; empty when the last is earlier."""
    current = first
    while current.start <= last.start:
        yield current
        current = current.shift(1)


def contiguous(intervals: list[Interval]) -> list[tuple[Interval, Interval]]:
    """Group sorted intervals into runs without a gap, each as (first, last)."""
    runs: list[tuple[Interval, Interval]] = []
    for interval in intervals:
        if runs and runs[-1][1].end == interval.start:
            runs[-1] = (runs[-1][0], interval)
        else:
            runs.append((interval, interval))
    return runs
