"""What a user writes for one prediction problem: ``use_case.yaml`` as frozen models, unknown keys refused."""

from __future__ import annotations

import importlib
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from airworthy.config.settings import get_settings
from airworthy.config.sql_source import SqlSource
from airworthy.errors import ConfigurationError
from airworthy.intervals import Interval

ColumnType = Literal["string", "int64", "float64", "timestamp", "bool"]
Tag = Literal["personal", "secret"]
Name = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)


class Spec(BaseModel):
    """Base of the specification: frozen, strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    """

    first: date
    last: date
    live_from: date | None = None

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
    optional: list[str] = []
    example: dict[str, Any]


class Training(Spec):
    """How a candidate is made.

    Attributes:
        feature_service: Name ``<use_case>_v<N>``.
        algorithm: Import path of a scikit-learn estimator with ``predict_proba``.
        parameters: Its arguments.
        seed: Seed of everything random.
        holdout_days: Newest days with labels, kept for the gate.
        min_train_days: Fewer days before the holdout refuse to train.
        new_data_intervals: So many intervals published since the champion's data ask for a training.
        cooldown_days: Days of data time between two trainings that were not asked for by a person.
        max_age_days: Older champions (data time) ask for a training.
    """

    feature_service: str
    algorithm: str = "sklearn.ensemble.HistGradientBoostingClassifier"
    parameters: dict[str, Any] = {}
    seed: int = 7
    holdout_days: int = Field(default=28, ge=1)
    min_train_days: int = Field(default=28, ge=1)
    new_data_intervals: int = Field(default=28, ge=1)
    cooldown_days: int = Field(default=7, ge=0)
    max_age_days: int = Field(default=90, ge=1)


class Gate(Spec):
    """Bounds of the gate. Every check has one.

    Attributes:
        mode: ``dry_run`` judges and never promotes; ``disabled`` refuses everything.
        min_holdout_rows: Fewer rows are no evidence.
        min_roc_auc: Absolute bound.
        min_gain_over_prior: Log loss must be below the prior's by this share of it.
        min_gain_over_linear: ROC AUC minus that of a logistic regression on the same inputs (may be negative: a tie
            with the linear model is reported, not refused).
        min_gain_over_champion: ROC AUC minus the champion's on the same holdout; a tie keeps the champion.
        confidence: Of the paired bootstrap interval, whose lower end must be above ``-tolerated_loss``.
        tolerated_loss: See ``confidence``.
        bootstrap: Resamples.
        max_calibration_error: Expected calibration error over ten equal-count bins.
        slices: Columns whose values are judged one by one.
        min_slice_rows: Smaller slices are reported, not judged.
        min_slice_roc_auc: Absolute bound in each judged slice.
        max_slice_regression: Largest loss of ROC AUC against the champion in a judged slice.
    """

    mode: Literal["enabled", "dry_run", "disabled"] = "enabled"
    min_holdout_rows: int = Field(default=500, ge=1)
    min_roc_auc: float = Field(default=0.6, ge=0.5, le=1)
    min_gain_over_prior: float = Field(default=0.01, ge=0)
    min_gain_over_champion: float = Field(default=0.001, gt=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    tolerated_loss: float = Field(default=0.005, ge=0)
    bootstrap: int = Field(default=200, ge=50)
    max_calibration_error: float = Field(default=0.1, gt=0)
    slices: list[str] = []
    min_slice_rows: int = Field(default=300, ge=1)
    min_slice_roc_auc: float = Field(default=0.55, ge=0, le=1)
    max_slice_regression: float = Field(default=0.03, ge=0)


class Monitoring(Spec):
    """When the platform asks for a retraining.

    Attributes:
        drift_threshold: Effect size (normed Wasserstein, Jensen-Shannon) from which a feature counts as drifted.
        drift_share: Share of drifted features from which a window violates.
        max_metric_loss: Loss of ROC AUC against the verdict's from which a window violates (decay).
        min_labelled: Fewer labelled predictions in a window give no quality figure.
        violations, of_windows: Ask when so many of the last windows violate, the newest among them.
        reference_rows: Rows sampled from the training set as the reference.
    """

    drift_threshold: float = Field(default=0.1, gt=0)
    drift_share: float = Field(default=0.5, gt=0, le=1)
    max_metric_loss: float = Field(default=0.03, gt=0)
    min_labelled: int = Field(default=300, ge=1)
    violations: int = Field(default=2, ge=1)
    of_windows: int = Field(default=3, ge=1)
    reference_rows: int = Field(default=5000, ge=100)


class Delivery(Spec):
    """Bounds of the staging check. The latency bound allows for a staging instance that shares two cores with everything else."""

    approval: Literal["auto"] = "auto"
    max_p99_ms: float = Field(default=1000.0, gt=0)
    switch_timeout_s: float = Field(default=30.0, gt=0)


class UseCase(Spec):
    """One prediction problem.

    Attributes:
        name: ``flight_delays``; prefix of its DAGs, tables, feature views and models.
        package: Import path of the package that holds the YAML, ``source.py`` and ``features.py``.
    """

    name: str = Name
    title: str
    owner: str
    problem: Problem
    data: DataRange
    sources: dict[str, Source]
    prediction: Prediction
    training: Training
    gate: Gate = Gate()
    monitoring: Monitoring = Monitoring()
    delivery: Delivery = Delivery()
    package: str = ""

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        if self.prediction.source not in self.sources:
            raise ValueError(
                f"prediction.source {self.prediction.source!r} is not one of the sources {sorted(self.sources)}"
            )
        if not self.training.feature_service.startswith(f"{self.name}_v"):
            raise ValueError(f"training.feature_service must be named {self.name}_v<N>")
        shown = sorted(set(self.gate.slices) & set(self.sources[self.prediction.source].masks))
        if shown:
            raise ValueError(f"gate.slices names {shown}, which is tagged: a verdict shows the values of a slice")
        missing = set(self.prediction.request) - set(self.prediction.optional) - set(self.prediction.example)
        if missing:
            raise ValueError(f"prediction.example lacks {sorted(missing)}")
        return self

    def source_module(self) -> ModuleType:
        """``source.py``: one function ``clean_<source>(raw: ibis.Table) -> ibis.Table`` for each source."""
        return importlib.import_module(f"{self.package}.source")

    def features_module(self) -> ModuleType:
        """``features.py``: ``VIEWS``, a list of FeatureView, and ``request_features(request) -> ibis.Table``."""
        return importlib.import_module(f"{self.package}.features")

    def suite_path(self, table: str) -> Path:
        """The GX suite of a table: beside the package in ``expectations/`` or in the project's suites folder."""
        package_file = importlib.import_module(self.package).__file__
        own = Path(str(package_file)).parent / "expectations" / f"{table}.json"
        return own if own.exists() else get_settings().expectations / self.name / f"{table}.json"

    def table(self, layer: str, name: str) -> str:
        """A table's name, ``<use_case>/<layer>/<name>``."""
        return f"{self.name}/{layer}/{name}"


def load_use_case(package: str) -> UseCase:
    """Read the ``use_case.yaml`` of a package.

    Raises:
        ConfigurationError: no such package or file, or a key or value that the schema refuses; the message names it.
    """
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise ConfigurationError(
            f"use case package {package!r} cannot be imported: {error}", next_step="correct AIRWORTHY_USE_CASES"
        ) from error
    path = Path(str(module.__file__)).parent / "use_case.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return UseCase.model_validate({**content, "package": package})
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}", next_step="write a use_case.yaml; `airworthy schema` prints its schema"
        ) from error
    except ValidationError as error:
        lines = [f"- {'.'.join(str(p) for p in e['loc']) or 'use case'}: {e['msg']}" for e in error.errors()[:10]]
        raise ConfigurationError(
            f"{path} does not fit the schema:\n" + "\n".join(lines),
            next_step="correct the keys; `airworthy schema` prints the schema",
        ) from error


@lru_cache(maxsize=1)
def use_cases() -> dict[str, UseCase]:
    """All configured use cases by name. Raises ConfigurationError for the first that cannot be read."""
    packages = [p.strip() for p in get_settings().use_cases.split(",") if p.strip()]
    return {case.name: case for case in map(load_use_case, packages)}


def get_use_case(name: str) -> UseCase:
    """A use case by name. Raises ConfigurationError, with the names there are."""
    try:
        return use_cases()[name]
    except KeyError:
        raise ConfigurationError(
            f"there is no use case {name!r}",
            next_step=f"choose one of {', '.join(sorted(use_cases()))}, or add its package to AIRWORTHY_USE_CASES",
        ) from None
