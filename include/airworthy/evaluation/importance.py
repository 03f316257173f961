"""Permutation importance: how much ROC AUC is lost when one column is shuffled (Breiman, 2001)."""

from __future__ import annotations

import numpy as np

from airworthy.config.gate_spec import Gate
from airworthy.errors import AirworthyError
from airworthy.evaluation import metrics
from airworthy.evaluation.records import ImportanceEvidence
from airworthy.evaluation.subject import Subject
from airworthy.training.encoder import Encoder


def importance(subject: Subject, gate: Gate) -> tuple[ImportanceEvidence, ...]:
    """Loss of ROC AUC by column on a sample of the holdout, the most important first; empty when it cannot be measured.

    Each repeat draws rows with replacement and shuffles the column among them, so that the interval (Student's t over
    the repeats) holds the chance of the rows as well as that of the shuffling. Columns that say the same stand in for
    each other: each may look idle while both together are not.
    """
    from scipy import stats

    if subject.absent or not subject.holdout.labels.size:
        return ()
    holdout = subject.holdout.sample(gate.importance_rows, subject.seed)
    try:
        encoded = subject.model.encoder.transform(holdout.rows)
    except AirworthyError:
        return ()
    rng, repeats = np.random.default_rng(subject.seed), gate.importance_repeats
    losses: dict[str, list[float]] = {name: [] for name in subject.model.columns}
    for _ in range(repeats):
        picks = rng.integers(0, holdout.labels.size, holdout.labels.size)
        matrix, labels = encoded[picks], holdout.labels[picks]
        whole = _auc(subject, matrix, labels)
        order = rng.permutation(picks.size)
        for name, columns in _columns_of(subject.model.encoder).items():
            shuffled = matrix.copy()
            shuffled[:, columns] = matrix[order][:, columns]
            without = _auc(subject, shuffled, labels)
            if whole is None or without is None:
                return ()
            losses[name].append(whole - without)
    quantile = float(stats.t.ppf((1 + gate.confidence) / 2, repeats - 1))
    found = []
    for name, values in losses.items():
        mean, half = float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / repeats**0.5
        found.append(ImportanceEvidence(column=name, mean=mean, low=mean - half, high=mean + half))
    return tuple(sorted(found, key=lambda i: (-i.mean, i.column)))


def _columns_of(encoder: Encoder) -> dict[str, list[int]]:
    """Columns of the matrix that each input fills, in both halves where there are two."""
    found: dict[str, list[int]] = {column.name: [] for column in encoder.columns}
    at = 0
    if encoder.style in ("codes", "both"):
        for column in encoder.columns:
            found[column.name].append(at)
            at += 1
    if encoder.style in ("dense", "both"):
        for column in encoder.columns:
            found[column.name] += range(at, at + column.width)
            at += column.width
    return found


def _auc(subject: Subject, matrix: np.ndarray, labels: np.ndarray) -> float | None:
    # The recorded estimator: it answers in bulk, and was held against the serving form.
    try:
        scores = subject.estimator.predict_proba(matrix)[:, 1]
    except ValueError:
        return None
    return metrics.roc_auc(labels, scores)
