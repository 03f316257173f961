"""The evidence of a verdict as frozen records."""

from __future__ import annotations

from datetime import datetime

from airworthy.evaluation.metrics import GainInterval, Metrics
from airworthy.records import Record


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
        note: Why there are no scores, when there are none.
    """

    digest: str
    trained_until: datetime | None
    metrics: Metrics
    scored: int
    finite: bool
    parity: float | None = None
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


class Evidence(Record):
    """All that the gate decides on.

    Attributes:
        candidate, champion: What was measured; no champion before the first promotion.
        candidate_asked: Model digest that the verdict was asked for (the candidate's record).
        champion_asked: Model digest of the champion by the promotion log, read after scoring.
        champion_release: Release that was scored as champion.
        champion_in_log: Release that is champion by the promotion log, read after scoring.
        prior, linear: Metrics of the constant prediction and of a logistic regression fitted on the same training rows.
        gain: Interval of ROC AUC of the candidate minus the champion's.
        slices: Slice by slice.
        holdout_rows, holdout_start, holdout_end: The holdout; bounds by prediction time, UTC, half-open.
    """

    candidate: ModelEvidence
    champion: ModelEvidence | None
    candidate_asked: str
    champion_asked: str | None
    champion_release: str | None
    champion_in_log: str | None
    prior: Metrics
    linear: Metrics
    gain: GainInterval | None = None
    slices: tuple[SliceEvidence, ...] = ()
    holdout_rows: int
    holdout_start: datetime
    holdout_end: datetime
