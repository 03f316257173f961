"""``use_case.yaml``: how a candidate is made."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from airworthy.config.spec import Spec


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
    parameters: dict[str, Any] = Field(default={})
    seed: int = 7
    holdout_days: int = Field(default=28, ge=1)
    min_train_days: int = Field(default=28, ge=1)
    new_data_intervals: int = Field(default=28, ge=1)
    cooldown_days: int = Field(default=7, ge=0)
    max_age_days: int = Field(default=90, ge=1)
