"""The evidence of a verdict as frozen records. What is None was not measured, and fails its check."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from airworthy.evaluation.metrics import GainInterval, Metrics
from airworthy.records import GroupShare, Record, Worth


class ModelEvidence(Record):
    """What was measured of one model on the holdout.

    Attributes:
        digest: Digest of the model whose scores these are, as it was loaded.
        trained_until: End (exclusive, prediction time, UTC) of the rows that it learned from; None when unknown.
        metrics: By name; None for what could not be computed.
        scored: Rows that it was scored on.
        finite: Whether every score was a finite number.
        parity: Largest difference between the form that will serve and the recorded model, on a sample; None when it
            was not compared.
        uncompiled: Why there is no form that could serve, and what to do; empty when there is one.
        note: Why there are no scores, when there are none.
    """

    digest: str
    trained_until: datetime | None
    metrics: Metrics
    scored: int
    finite: bool
    parity: float | None = None
    uncompiled: str = ""
    note: str = ""


class SliceEvidence(Record):
    """ROC AUC of both models on the rows where a column has one value."""

    column: str
    value: str
    rows: int
    candidate: float | None
    champion: float | None = None

    @property
    def name(self) -> str:
        """Such as ``origin=LGA``."""
        return f"{self.column}={self.value}"


class CostEvidence(Record):
    """Mean cost of one prediction, in the currency of the spec's costs, when one acts from the threshold on.

    Attributes:
        threshold: Probability that the costs imply.
        candidate, champion: Of the models; no champion before the first promotion.
        nothing, everything: Of acting on no row and on every row.
        low, high: Interval of the candidate's cost minus the champion's, paired.
    """

    threshold: float
    candidate: float | None
    champion: float | None
    nothing: float | None
    everything: float | None
    low: float | None = None
    high: float | None = None


class StabilityEvidence(Record):
    """ROC AUC of refits with other seeds.

    Attributes:
        roc_auc: Of each refit, on the same holdout rows.
        deterministic: Whether two seeds gave the same scores: then no more were tried.
        rows: Training rows of each refit.
        note: Why there is none, when there is none.
    """

    roc_auc: tuple[float, ...] = ()
    deterministic: bool = False
    rows: int = 0
    note: str = ""


class ConvergenceEvidence(Record):
    """Whether the fit came to its end.

    Attributes:
        losses: Training log loss of a sample of rows by iteration, thinned; empty for what has no iterations.
        iterations, allowed: Of a solver that stops by itself; None for others.
        batch_rows: Rows of the batch to be learned by heart.
        batch_gain: Share by which the log loss on it fell below the prior's.
        note: Why something could not be measured.
    """

    losses: tuple[float, ...] = ()
    iterations: int | None = None
    allowed: int | None = None
    batch_rows: int = 0
    batch_gain: float | None = None
    note: str = ""


class BehaviourEvidence(Record):
    """What one behaviour test found.

    Attributes:
        name: As in the spec.
        rows: Rows whose input was changed.
        violations: Share of them that broke it; None when it could not be tried.
        effect: Mean change of the probability.
        note: Why it could not be tried, or that the column is no input.
    """

    name: str
    rows: int
    violations: float | None
    effect: float | None
    note: str = ""


class ServingEvidence(Record):
    """The candidate loaded from its folder by a process of its own.

    Attributes:
        form: Name of the compiled form.
        mismatches: Requirements of the model that the process does not have, such as ``numpy 2.1 is 2.4``.
        requirements: How many it has.
        difference: Largest difference of its predictions from those of the recorded estimator in this process.
        rows: Rows compared.
        model_bytes: Size of the files.
        row_ms, batch_row_ms: Median time of one row; time of a row in a batch, milliseconds.
        memory_mb: Peak resident memory (VmHWM) of the process, MiB.
        refused: Altered inputs and whether they were refused: ``missing``, ``renamed``, ``permuted``.
        note: Why there is no more, when the process failed.
    """

    form: str = ""
    mismatches: tuple[str, ...] | None = None
    requirements: int = 0
    difference: float | None = None
    rows: int = 0
    model_bytes: int | None = None
    row_ms: float | None = None
    batch_row_ms: float | None = None
    memory_mb: float | None = None
    refused: dict[str, bool] = Field(default={})
    note: str = ""


class ImportanceEvidence(Record):
    """Loss of ROC AUC when one column is shuffled, with an interval over the repeats."""

    column: str
    mean: float
    low: float
    high: float

    @property
    def adds_nothing(self) -> bool:
        """Whether the interval does not lie above zero."""
        return self.low <= 0


class Evidence(Record):
    """All that the gate decides on.

    Attributes:
        candidate, champion: What was measured; no champion before the first promotion.
        candidate_asked: Model digest that the verdict was asked for (the candidate's record).
        champion_asked: Model digest of the champion by the promotion log, read after scoring.
        champion_release: Release that was scored as champion.
        champion_in_log: Release that is champion by the promotion log, read after scoring.
        champion_rows: How the champion's inputs were found, when its features are not the candidate's.
        prior, rule, linear: Metrics of the constant prediction, of the rule and of a logistic regression, all fitted on
            the same training rows.
        rule_columns: What the rule looks at.
        candidate_is_linear: Whether the candidate is a linear model itself.
        gain: Interval of ROC AUC of the candidate minus the champion's.
        intervals: Of the candidate's metrics.
        calibration: Mean probability, rate of positives and rows of bins.
        cost: Expected costs.
        slices, groups: Value by value.
        not_finite: Where parameters of the serving form are no finite numbers; None when nobody looked.
        stability, convergence, behaviours, serving, importance: See their records.
        worth: What the features are worth, by SHAP values where they can be had.
        holdout_rows, holdout_start, holdout_end: The holdout; bounds by prediction time, UTC, half-open.
        seconds: What each part of the measuring took.
    """

    candidate: ModelEvidence
    champion: ModelEvidence | None
    candidate_asked: str
    champion_asked: str | None
    champion_release: str | None
    champion_in_log: str | None
    champion_rows: str = ""
    prior: Metrics
    rule: Metrics = Field(default={})
    rule_columns: tuple[str, ...] = ()
    linear: Metrics
    candidate_is_linear: bool = False
    gain: GainInterval | None = None
    intervals: dict[str, tuple[float, float]] = Field(default={})
    calibration: tuple[tuple[float, float, int], ...] = ()
    cost: CostEvidence | None = None
    slices: tuple[SliceEvidence, ...] = ()
    groups: tuple[GroupShare, ...] = ()
    not_finite: tuple[str, ...] | None = None
    stability: StabilityEvidence | None = None
    convergence: ConvergenceEvidence | None = None
    behaviours: tuple[BehaviourEvidence, ...] = ()
    serving: ServingEvidence | None = None
    importance: tuple[ImportanceEvidence, ...] = ()
    worth: Worth | None = None
    holdout_rows: int
    holdout_start: datetime
    holdout_end: datetime
    seconds: dict[str, float] = Field(default={})
