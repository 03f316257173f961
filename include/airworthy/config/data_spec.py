"""``use_case.yaml``: the problem, the data range, the sources and what one prediction is about."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from airworthy.config.spec import ColumnType, Spec, Tag
from airworthy.config.sql_source import SqlSource
from airworthy.intervals import Interval

SCHEDULE_WAIT = timedelta(hours=12)
"""So long after the end of an interval its scheduled run waits for it; what comes later is for ``.arrivals``."""


class Problem(Spec):
    """The decision that the model serves, in words and costs.

    Attributes:
        type: Only binary classification for now.
        decision: What someone does differently because of a prediction.
        users: Who they are.
        label: What a positive label means.
        metric: The metric of the gate's comparison.
        cost_false_alarm, cost_miss: Cost of each mistake, in any one currency.
    """

    type: Literal["binary_classification"]
    decision: str
    users: str
    label: str
    metric: Literal["roc_auc"] = "roc_auc"
    cost_false_alarm: float = Field(gt=0)
    cost_miss: float = Field(gt=0)

    @property
    def threshold(self) -> float:
        """Probability above which acting is cheaper: cost_false_alarm / (cost_false_alarm + cost_miss)."""
        return self.cost_false_alarm / (self.cost_false_alarm + self.cost_miss)


class DataRange(Spec):
    """First and last interval that exist, and from which one on the world is live.

    Attributes:
        first, last: Days, both included.
        live_from: First live day of a replayed world: earlier intervals are history, taken by a backfill and not by
            ``.arrivals``. None for a use case on the wall clock, whose schedule takes intervals as they end.
        overdue_after: So long after its sources' lag an interval that has not landed is reported as overdue.
    """

    first: date
    last: date
    live_from: date | None = None
    overdue_after: timedelta = timedelta(hours=6)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"data.last {self.last} is before data.first {self.first}")
        return self

    @property
    def first_interval(self) -> Interval:
        """The first interval."""
        return Interval.of(self.first)

    @property
    def last_interval(self) -> Interval:
        """The last interval."""
        return Interval.of(self.last)


class Column(Spec):
    """A column of a landed file: its type and whether it may be empty. Its domain is in the GX suite.

    Attributes:
        type: Its type.
        nullable: Whether it may be empty.
        tags: ``personal`` or ``secret``: its values are then shown nowhere, neither in reports nor in error texts nor
            in logs, and neither are those of columns that are made from it.
    """

    type: ColumnType
    nullable: bool = False
    tags: tuple[Tag, ...] = ()


class Source(Spec):
    """One source: landed files, or a database whose rows are landed as files.

    Attributes:
        format: File format; rows of a database are landed as Parquet.
        sql: Where the rows are, for a database.
        required: Whether an interval is complete only with this source (a snapshot source is not).
        timezone: Zone of naive timestamps; without it naive timestamps are refused. An hour that was twice (clocks
            went back) is the first of the two; an hour that never was (clocks went forward) puts its row into quarantine.
        columns: Every column of the file; more or fewer is schema skew.
        key: Columns of the clean table that identify a row.
        observed: ``interval_start``, ``interval_end`` or a timestamp column of the clean table: when the row's
            facts happened.
        lag: From observation until the platform can know it: ``available_at`` = observed + lag.
        max_rejected_share: Share of rows outside the domain above which the whole interval is refused.
        pushed: Whether observations are also pushed as they happen.
    """

    format: Literal["csv", "parquet", "jsonl"] = "csv"
    sql: SqlSource | None = None
    required: bool = True
    timezone: str | None = None
    columns: dict[str, Column]
    key: list[str] = Field(min_length=1)
    observed: str
    lag: timedelta = timedelta(0)
    max_rejected_share: float = Field(default=0.02, ge=0, le=1)
    pushed: bool = False

    @property
    def masks(self) -> dict[str, str]:
        """What is shown instead of the values of each tagged column, such as ``[secret]``."""
        return {name: f"[{max(column.tags)}]" for name, column in self.columns.items() if column.tags}

    @model_validator(mode="before")
    @classmethod
    def _rows_are_landed_as_parquet(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("sql") is not None:
            return {"format": "parquet", **values}
        return values

    @model_validator(mode="after")
    def _zone_exists(self) -> Self:
        if self.timezone is not None:
            ZoneInfo(self.timezone)
        if self.sql is not None and self.format != "parquet":
            raise ValueError("rows of a database are landed as Parquet: leave format out")
        return self


class Prediction(Spec):
    """What one prediction is about, as columns of one clean table.

    Attributes:
        source: The source whose clean table holds one row for each thing to predict.
        id: Columns that identify the thing.
        time: Timestamp column: when the prediction is made. Nothing known later may be used.
        label: Column with the outcome: true, false, or empty where there is none.
        request: What a request gives, name to type; columns of the same name in the clean table.
        examples: One request that works, for the docs and the smoke test.
    """

    source: str
    id: list[str] = Field(min_length=1)
    time: str
    label: str
    request: dict[str, ColumnType]
    optional: list[str] = Field(default=[])
    example: dict[str, Any]
