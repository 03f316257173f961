"""The small frozen records that travel between stages, as JSON through XCom. Data never does."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from airworthy.intervals import Interval


class Record(BaseModel):
    """Base of the records: frozen, unknown keys refused, JSON both ways."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values, as it travels through XCom."""
        return self.model_dump(mode="json")


class PartitionRef(Record):
    """One published interval of one table.

    Attributes:
        table: ``<use_case>/<layer>/<name>``.
        interval: The interval.
        data_version: Delta version that published it.
        rows: Rows in the interval.
        digest: Digest of the interval's content, independent of row order.
    """

    table: str
    interval: Interval
    data_version: int
    rows: int
    digest: str


class ExpectationResult(Record):
    """What one expectation found. ``severity`` is GX's: critical, warning or info."""

    expectation: str
    column: str | None
    severity: str
    success: bool
    unexpected: int
    examples: tuple[str, ...] = ()


class ValidationReport(Record):
    """What validation found in rows of one table.

    Attributes:
        table: ``<use_case>/<layer>/<name>``.
        interval: The interval; the last one of a range.
        first: First interval of a range.
        rejected: Rows that go to quarantine.
        engine: ``compiled`` where the compiled form of every expectation held and GX was not asked; ``airworthy`` for
            checks of ours that are no expectations.
        data_docs: Address of the page.
    """

    table: str
    interval: Interval
    first: Interval | None = None
    suite: str
    rows: int
    rejected: int
    passed: bool
    results: tuple[ExpectationResult, ...]
    engine: Literal["great_expectations", "compiled", "airworthy"] = "great_expectations"
    data_docs: str | None = None


class IngestOutcome(Record):
    """How one interval fared.

    Attributes:
        status: ``published``, ``already`` (same digest published before) or ``rejected``.
        landed_digest: Digest over the landed files.
        partitions: What was published (clean tables).
        rows_in: Rows in the landed files, by source.
        rows_rejected: Rows put into quarantine, by source.
        reason: One line for the run's note.
        links: Name to URL, for the task's links.
    """

    use_case: str
    interval: Interval
    status: Literal["published", "already", "rejected"]
    landed_digest: str
    partitions: tuple[PartitionRef, ...] = ()
    rows_in: dict[str, int] = {}
    rows_rejected: dict[str, int] = {}
    reason: str = ""
    links: dict[str, str] = {}


class OverdueOutcome(Record):
    """Intervals that did not land by their deadline in data time.

    Attributes:
        overdue: What each of them lacks, by key.
        new: Those that no earlier report named.
        arrived: Those of earlier reports that came since.
    """

    use_case: str
    overdue: dict[str, list[str]] = {}
    new: tuple[str, ...] = ()
    arrived: tuple[str, ...] = ()
    reason: str = ""


class ReleaseOutcome(Record):
    """What became of an interval's quarantine after an operator asked to release it.

    Attributes:
        status: ``released`` when something passed and was published, ``kept`` when nothing did.
        released: Rows that came out of quarantine, by source.
        kept: Rows that stay in quarantine, by source.
        reason: One line for people.
        links: Name to URL.
    """

    use_case: str
    interval: Interval
    status: Literal["released", "kept"]
    released: dict[str, int] = {}
    kept: dict[str, int] = {}
    reason: str = ""
    links: dict[str, str] = {}


class CatchUpOutcome(Record):
    """What a feature catch-up built: intervals and rows by view, online rows written by view; links of the task.

    ``recomputed`` are those of the built intervals that had been built before, such as after a late correction.
    """

    use_case: str
    built: dict[str, int] = {}
    recomputed: dict[str, int] = {}
    rows: dict[str, int] = {}
    online: dict[str, int] = {}
    waiting: tuple[str, ...] = ()
    reason: str = ""
    links: dict[str, str] = {}


class Check(Record):
    """One check, of a verdict or of a training set.

    Attributes:
        name: Such as ``roc_auc`` or ``slice origin=LGA``.
        value: The measured number (None when it is missing).
        bound: The number it is held against.
        reason: Why there is such a bound.
        passed: True only when measured, finite and within the bound.
        words: The check in plain words.
    """

    name: str
    value: float | None
    bound: float | None
    reason: str
    passed: bool
    words: str


class Window(Record):
    """Which days a training part has, of those before the holdout; the holdout itself is everyone's.

    Attributes:
        first, last: First and last day by prediction time (UTC), both included.
        days: At most so many of the newest days.
    """

    first: date | None = None
    last: date | None = None
    days: int | None = Field(default=None, ge=1)


class TrainingSetRef(Record):
    """A training set, kept as a file, with all that is needed to read the same data again.

    Attributes:
        digest: Digest of its rows and columns; its identity.
        url: Parquet file with keys, prediction times, features, label and ``part`` (train | holdout).
        data_versions: Delta version of each table read.
        feature_service: Feast feature service.
        feature_digest: Digest of the feature definitions.
        view_digests: Digest of each feature view's definition by its name, and of the request features as ``request``.
        columns: Model inputs in order, name to type.
        train_rows, holdout_rows: Rows in each part.
        train_start, train_end, holdout_start, holdout_end: Bounds by prediction time, UTC, half-open.
        data_time: The data clock when it was built.
        label_rate: Share of positive labels in the training part.
        window: What the training part was narrowed to.
        checks: What the checks of the set measured, all passed.
        column_order: The names of ``columns`` once more, since their order does not survive every storage.
    """

    use_case: str
    digest: str
    url: str
    data_versions: dict[str, int]
    feature_service: str
    feature_digest: str
    view_digests: dict[str, str] = {}
    columns: dict[str, str]
    train_rows: int
    holdout_rows: int
    train_start: datetime
    train_end: datetime
    holdout_start: datetime
    holdout_end: datetime
    data_time: datetime
    label_rate: float
    window: Window = Window()
    checks: tuple[Check, ...] = ()
    column_order: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _in_order(cls, values: Any) -> Any:
        # PostgreSQL's jsonb (the ledger, XCom) sorts the keys of an object; a model reads its inputs by their place.
        if isinstance(values, dict) and isinstance(values.get("columns"), dict):
            columns, order = values["columns"], values.get("column_order") or ()
            names = tuple(order) if set(order) == set(columns) else tuple(columns)
            return {**values, "columns": {name: columns[name] for name in names}, "column_order": names}
        return values


class CandidateRef(Record):
    """A fitted model that no gate has judged yet.

    Attributes:
        run_id: MLflow run.
        model_digest: Digest over the model's files; what the verdict is about.
        folder: Where those files are staged (a URL under the release store).
    """

    use_case: str
    run_id: str
    model_digest: str
    folder: str
    training_set: TrainingSetRef
    algorithm: str
    label_note: str = ""


class Worth(Record):
    """What the features of a version are worth to it, the most first.

    Attributes:
        measure: ``shap``: mean size of the SHAP value, in probability; ``permutation``: loss of ROC AUC when the feature
            is shuffled, where SHAP values could not be had.
        features: Name and worth.
        rows: Holdout rows that SHAP values were computed for.
        base: Mean probability of the background, from which SHAP values count; None without them.
        note: Why there are no SHAP values.
    """

    measure: Literal["shap", "permutation"]
    features: tuple[tuple[str, float], ...]
    rows: int = 0
    base: float | None = None
    note: str = ""


class GroupShare(Record):
    """How one group is treated: shares of its rows, its positives and its negatives that are acted on."""

    column: str
    value: str
    rows: int
    selection: float | None
    hits: float | None
    false_alarms: float | None


class Verdict(Record):
    """The gate's record. ``decision`` is ``pass`` only when every check passed.

    Attributes:
        intervals: Low and high end of the candidate's metrics, by name, over resamples of the holdout's rows.
        confidence: Of these, such as 0.95; None on a verdict from before they were kept.
        calibration: Mean probability, rate of positives and rows of bins of the holdout.
        groups: How each group that the spec names is treated.
        notes: What the figures say besides, and refused nobody for.
        worth: What the features are worth; None on a verdict from before this was kept.
    """

    id: str
    use_case: str
    model_digest: str
    champion_digest: str | None
    decision: Literal["pass", "refuse"]
    mode: Literal["enabled", "dry_run", "disabled"]
    checks: tuple[Check, ...]
    metrics: dict[str, float]
    champion_metrics: dict[str, float]
    holdout_rows: int
    training_set_digest: str
    summary: str
    data_time: datetime
    notes: tuple[str, ...] = ()
    worth: Worth | None = None
    intervals: dict[str, tuple[float, float]] = {}
    confidence: float | None = None
    calibration: tuple[tuple[float, float, int], ...] = ()
    groups: tuple[GroupShare, ...] = ()


class Release(Record):
    """A content-addressed folder in the release store that may serve.

    Attributes:
        digest: Digest of its manifest; the folder's name.
        version: Version of the registered model in MLflow.
    """

    use_case: str
    digest: str
    model_digest: str
    version: int | None
    verdict_id: str
    champion_digest: str | None
    run_id: str


class DeliveryOutcome(Record):
    """Where a delivery stands.

    Attributes:
        delivery: Its number in the ledger; None when there was nothing to deliver.
        release: Digest; empty when there was nothing to deliver.
        status: Its state: ``done`` is the good end.
        generation: Row of the promotion log that it wrote last.
    """

    use_case: str
    delivery: int | None
    release: str
    status: Literal[
        "staging", "approval", "shadow", "canary", "promote", "watch",
        "done", "refused", "aborted", "stale", "inconclusive",
    ]  # fmt: skip
    generation: int | None
    reason: str
    figures: dict[str, Any] = {}

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in ("done", "refused", "aborted", "stale", "inconclusive")


class MonitorOutcome(Record):
    """What one window's monitoring found and decided."""

    use_case: str
    window_start: datetime
    window_end: datetime
    predictions: int
    labelled: int
    drifted: tuple[str, ...] = ()
    drift_share: float | None = None
    metrics: dict[str, float] = {}
    requested: tuple[str, ...] = ()
    reason: str = ""
    links: dict[str, str] = {}


class ScoreOutcome(Record):
    """What came of scoring one interval.

    Attributes:
        status: ``scored``, or ``already`` when this champion has scored the same rows and features before.
        release: The champion's release.
        partition: The interval of the table of scores.
        in_sample: Whether the champion was trained on days from this interval on.
        reason: One line for people.
        links: Name to URL.
    """

    use_case: str
    interval: Interval
    status: Literal["scored", "already"]
    release: str
    partition: PartitionRef
    in_sample: bool
    reason: str
    links: dict[str, str] = {}


class FeatureSkew(Record):
    """A feature that was served with other values than it should have been.

    Attributes:
        feature: The feature.
        view: Its feature view; ``request`` for a feature of the request itself.
        compared: Vectors in which it was compared.
        mismatches: Vectors in which it differs.
        served_nothing: Those of them that were served without a value where there was one.
        examples: A few of them: prediction, moment, served, recomputed.
    """

    feature: str
    view: str
    compared: int
    mismatches: int
    served_nothing: int
    examples: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the compared vectors that differ."""
        return self.mismatches / self.compared


class SkewOutcome(Record):
    """What came of recomputing the served vectors of one window.

    Attributes:
        window_start, window_end: By prediction time, UTC, half-open.
        predictions: Vectors in the prediction log.
        vectors: Vectors that were recomputed and compared.
        left_out: Vectors that cannot be recomputed: their day's observations are not published.
        other_definitions: Vectors that were served with other feature definitions than the present ones: not compared.
        not_logged: Features that no compared vector has: the definitions changed since.
        tolerance: Relative and absolute, of floating-point numbers; everything else must be equal.
        mismatches: Features that differ, worst first.
    """

    use_case: str
    window_start: datetime
    window_end: datetime
    predictions: int
    vectors: int
    left_out: int
    other_definitions: int = 0
    tolerance: float
    not_logged: tuple[str, ...] = ()
    mismatches: tuple[FeatureSkew, ...] = ()
    reason: str = ""
    links: dict[str, str] = {}
