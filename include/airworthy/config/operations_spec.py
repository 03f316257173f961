"""``use_case.yaml``: how a champion is watched and how a challenger is delivered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from airworthy.config.spec import Spec


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
