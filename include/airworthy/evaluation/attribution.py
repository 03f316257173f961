"""What a version's features are worth: SHAP values of some of the holdout's rows, or permutation importance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from airworthy.errors import AirworthyError
from airworthy.evaluation.records import ImportanceEvidence
from airworthy.evaluation.subject import Subject
from airworthy.records import Worth
from airworthy.training.compiling import RecordedScorer
from airworthy.training.shapley import Attributions, attributions, background, drawn_orders

ROWS, LEAST_ROWS, PAIRS = 100, 20, 2
# Vectors that may be scored for it: some seconds. One row takes rows of the background x features x orders of them.
MOST_SCORED = 400_000


def shap_values(subject: Subject) -> tuple[Attributions | None, str]:
    """SHAP values of rows of the holdout, drawn by the seed; without them, why not."""
    if subject.absent:
        return None, f"the holdout has no {', '.join(subject.absent[:3])}"
    if not subject.holdout.labels.size:
        return None, "the holdout is empty"
    if isinstance(subject.model.scorer, RecordedScorer):
        return None, "the model has no compiled form, and its own is too slow for it"
    try:
        count, features = background(subject.model).shape
        affordable = MOST_SCORED // (count * (features + 1) * 2 * PAIRS)
        if affordable < LEAST_ROWS:
            return None, f"{features} features take too many scores"
        rows = subject.holdout.sample(min(ROWS, affordable), subject.seed).rows
        numbers = subject.model.encoder.numbers(rows)
        return attributions(subject.model, numbers, drawn_orders(features, PAIRS)), ""
    except AirworthyError as error:
        return None, error.what


def worth(found: Attributions | None, fallback: Sequence[ImportanceEvidence], note: str) -> Worth:
    """What each feature is worth, the most first: its mean SHAP value by size, else what shuffling it loses."""
    if found is None:
        shuffled = tuple((i.column, i.mean) for i in fallback if math.isfinite(i.mean))
        return Worth(measure="permutation", features=shuffled, note=note)
    sizes = np.abs(found.effects).mean(axis=0)
    ranked = sorted(zip(found.columns, map(float, sizes), strict=True), key=lambda one: (-one[1], one[0]))
    return Worth(measure="shap", features=tuple(ranked), rows=len(found.scores), base=found.base)
