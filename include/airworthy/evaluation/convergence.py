"""Whether the fit came to its end: the loss falls, the solver stopped by itself, a tiny batch is learned by heart."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from airworthy.config.gate_spec import Gate
from airworthy.errors import AirworthyError
from airworthy.evaluation import metrics
from airworthy.evaluation.records import ConvergenceEvidence
from airworthy.evaluation.subject import SAMPLE_STREAM, Subject, picked

LOSS_ROWS = 2000
STAGES = 50


def convergence(subject: Subject, gate: Gate) -> ConvergenceEvidence:
    """What the recorded estimator says about its fit, and whether its recipe can overfit a batch of a few rows.

    Args:
        subject: The candidate.
        gate: Rows of the batch.
    """
    losses, note = _losses(subject)
    iterations, allowed = _solver(subject.estimator)
    rows, gain, why = _tiny_batch(subject, gate.tiny_batch_rows)
    return ConvergenceEvidence(
        losses=losses, iterations=iterations, allowed=allowed, batch_rows=rows, batch_gain=gain,
        note="; ".join(n for n in (note, why) if n),
    )  # fmt: skip


def _losses(subject: Subject) -> tuple[tuple[float, ...], str]:
    """Training log loss by stage, of the member of an ensemble that falls least; nothing when there are no stages."""
    staged = [m for m in members(subject.estimator) if hasattr(m.model, "staged_predict_proba")]
    if not staged or not subject.train.num_rows:
        return (), ""
    picks = picked(subject.train.num_rows, LOSS_ROWS, subject.seed)
    labels = subject.train_labels()[picks]
    try:
        matrix = subject.model.encoder.transform(subject.train.take(pa.array(picks)))
        curves = [_curve(m.model, matrix[:, m.columns], labels) for m in staged]
    except (AirworthyError, ValueError) as error:
        return (), str(error)[:300]
    return min(curves, key=lambda c: c[0] - c[-1]), ""


def _curve(estimator: Any, matrix: np.ndarray, labels: np.ndarray) -> tuple[float, ...]:
    probabilities = [p[:, 1] for p in estimator.staged_predict_proba(matrix)]
    at = np.unique(np.linspace(0, len(probabilities) - 1, STAGES).astype(int))
    losses = [metrics.log_loss(labels, probabilities[i]) for i in at]
    return tuple(float("nan") if loss is None else loss for loss in losses)


class Member(NamedTuple):
    """A fitted model and the columns of the matrix that it reads."""

    model: Any
    columns: slice


def members(estimator: Any) -> list[Member]:
    """The members of a voting ensemble or of a calibrated model; any other estimator is its own only member."""
    found = []
    if hasattr(estimator, "calibrated_classifiers_"):
        return [Member(fitted.estimator, slice(None)) for fitted in estimator.calibrated_classifiers_]
    for fitted in estimator.estimators_ if type(estimator).__name__ == "VotingClassifier" else [estimator]:
        if hasattr(fitted, "steps"):  # the columns that it takes, then the model
            found.append(Member(fitted[-1], fitted[0].transformers_[0][2]))
        else:
            found.append(Member(fitted, slice(None)))
    return found


def _solver(estimator: Any) -> tuple[int | None, int | None]:
    """Iterations that a linear model's solver took, and how many it was allowed; the worst of an ensemble."""
    models = [m.model for m in members(estimator)]
    linear = [m for m in models if hasattr(m, "coef_") and hasattr(m, "n_iter_") and hasattr(m, "max_iter")]
    if not linear:
        return None, None
    worst = max(linear, key=lambda m: float(np.max(m.n_iter_)) / m.max_iter)
    return int(np.max(worst.n_iter_)), int(worst.max_iter)


def _tiny_batch(subject: Subject, wanted: int) -> tuple[int, float | None, str]:
    """Fit on a few rows, half of them positive; the share by which the loss on them falls below the prior's."""
    labels, rng = subject.train_labels(), np.random.default_rng((subject.seed, SAMPLE_STREAM))
    # A leaf that must hold many rows needs more of them: four leaves' worth.
    leaves = [getattr(m.model, "min_samples_leaf", 1) for m in members(subject.estimator)]
    half = max([wanted, *(4 * leaf for leaf in leaves if isinstance(leaf, int))]) // 2
    sides = [rng.permutation(np.flatnonzero(labels == side))[:half] for side in (True, False)]
    picks = np.sort(np.concatenate(sides))
    if not all(side.size for side in sides):
        return picks.size, None, "the training rows have one class only"
    batch = labels[picks]
    try:
        # A calibration is made on rows that the model did not see: it forgets what was learned by heart.
        estimator, _, matrix = subject.refit(subject.train.take(pa.array(picks)), batch, subject.seed, calibrate=False)
        loss = metrics.log_loss(batch, estimator.predict_proba(matrix)[:, 1])
    except (AirworthyError, ValueError) as error:
        return picks.size, None, str(error)[:300]
    prior = metrics.log_loss(batch, np.full(picks.size, float(batch.mean())))
    return picks.size, (prior - loss) / prior if loss is not None and prior else None, ""
