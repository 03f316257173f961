"""How much hangs on the seed: the same recipe fitted again with others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from airworthy.config.gate_spec import Gate
from airworthy.errors import AirworthyError
from airworthy.evaluation import metrics
from airworthy.evaluation.records import StabilityEvidence
from airworthy.evaluation.subject import Subject, picked


def stability(subject: Subject, gate: Gate) -> StabilityEvidence:
    """ROC AUC of refits with other seeds, on the same rows; two with equal scores end it.

    Args:
        subject: The candidate.
        gate: How many seeds, and on how many rows.
    """
    picks = picked(subject.train.num_rows, gate.stability_rows, subject.seed)
    rows, labels = subject.train.take(pa.array(picks)), subject.train_labels()[picks]
    holdout = subject.holdout.sample(gate.stability_rows, subject.seed)
    found: list[float] = []
    first: np.ndarray | None = None
    for number in range(1, gate.stability_seeds + 1):
        try:
            estimator, encoder, _ = subject.refit(rows, labels, subject.seed + number)
            scores = np.asarray(estimator.predict_proba(encoder.transform(holdout.rows))[:, 1], dtype=np.float64)
        except (AirworthyError, ValueError, IndexError) as error:
            return StabilityEvidence(roc_auc=tuple(found), rows=picks.size, note=str(error)[:300])
        auc = metrics.roc_auc(holdout.labels, scores)
        found.append(float("nan") if auc is None else auc)
        if first is not None and number == 2 and np.array_equal(first, scores):
            return StabilityEvidence(roc_auc=tuple(found), deterministic=True, rows=picks.size)
        first = scores if first is None else first
    return StabilityEvidence(roc_auc=tuple(found), rows=picks.size)
