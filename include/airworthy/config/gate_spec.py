"""``use_case.yaml``: the bounds of the gate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from airworthy.config.spec import Spec


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
    slices: list[str] = Field(default=[])
    min_slice_rows: int = Field(default=300, ge=1)
    min_slice_roc_auc: float = Field(default=0.55, ge=0, le=1)
    max_slice_regression: float = Field(default=0.03, ge=0)
