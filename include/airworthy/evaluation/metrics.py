"""Metrics of a binary classifier's probabilities. What cannot be computed is None, never a silent number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from airworthy.records import Record

Labels = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]
Metrics = dict[str, float | None]

REQUIRED = ("roc_auc", "average_precision", "log_loss", "brier", "expected_cost", "calibration_error")
CALIBRATION_BINS = 10
CHUNK = 25
TINY = 1e-15


class GainInterval(Record):
    """A confidence interval of ROC AUC of the candidate minus that of the champion, on the same rows.

    Attributes:
        low, high: Its ends.
        confidence: Such as 0.95, two-sided.
        resamples: Resamples that had both classes.
    """

    low: float
    high: float
    confidence: float
    resamples: int


def finite(scores: npt.ArrayLike) -> bool:
    """Whether there are scores and every one is a finite number."""
    values = np.asarray(scores, dtype=np.float64)
    return values.size > 0 and bool(np.isfinite(values).all())


def roc_auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Area under the ROC curve; ties count half. None without both classes or with a score that is not finite."""
    truth, values = _arrays(labels, scores)
    if not _usable(truth, values) or truth.all() or not truth.any():
        return None
    return float(_auc_of_weights(truth, values, np.ones((1, truth.size)))[0])


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Area under precision over recall as a step function; tied scores are one threshold."""
    truth, values = _arrays(labels, scores)
    if not _usable(truth, values) or not truth.any():
        return None
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(truth[order])
    ends = np.append(np.flatnonzero(np.diff(values[order])), truth.size - 1)
    recall = hits[ends] / truth.sum()
    precision = hits[ends] / (ends + 1)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def log_loss(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Mean negative log likelihood, in nats; probabilities of 0 and 1 are clipped by 1e-15."""
    truth, values = _arrays(labels, scores)
    if not _probabilities(truth, values):
        return None
    clipped = np.clip(values, TINY, 1 - TINY)
    return float(-np.mean(np.where(truth, np.log(clipped), np.log1p(-clipped))))


def brier(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Mean squared difference of probability and outcome."""
    truth, values = _arrays(labels, scores)
    return float(np.mean((values - truth) ** 2)) if _probabilities(truth, values) else None


def expected_cost(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, cost_false_alarm: float, cost_miss: float
) -> float | None:
    """Mean cost of one prediction when one acts from the threshold on that the two costs imply.

    Args:
        labels: Outcomes, shape [n].
        scores: Probabilities, shape [n].
        cost_false_alarm: In the use case's currency, which is the unit of the result.
        cost_miss: In the same currency.
    """
    truth, values = _arrays(labels, scores)
    if not _probabilities(truth, values):
        return None
    act = values >= cost_false_alarm / (cost_false_alarm + cost_miss)
    return float(np.mean(cost_false_alarm * (act & ~truth) + cost_miss * (~act & truth)))


def calibration_bins(labels: npt.ArrayLike, scores: npt.ArrayLike) -> list[tuple[float, float, int]]:
    """(mean probability, rate of positives, rows) of ten equal-count bins; equal probabilities share a bin."""
    truth, values = _arrays(labels, scores)
    if not _probabilities(truth, values):
        return []
    edges = np.unique(np.quantile(values, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, values, side="left")
    return [
        (float(values[bins == b].mean()), float(truth[bins == b].mean()), int((bins == b).sum()))
        for b in np.unique(bins)
    ]


def calibration_error(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Expected calibration error: mean gap of probability and rate over the bins, weighted by rows."""
    bins = calibration_bins(labels, scores)
    rows = sum(n for _, _, n in bins)
    return sum(abs(p - rate) * n for p, rate, n in bins) / rows if rows else None


def measure(labels: npt.ArrayLike, scores: npt.ArrayLike, *, cost_false_alarm: float, cost_miss: float) -> Metrics:
    """Every metric of one model on one set of rows, by name; ``REQUIRED`` lists the names."""
    return {
        "roc_auc": roc_auc(labels, scores),
        "average_precision": average_precision(labels, scores),
        "log_loss": log_loss(labels, scores),
        "brier": brier(labels, scores),
        "expected_cost": expected_cost(labels, scores, cost_false_alarm=cost_false_alarm, cost_miss=cost_miss),
        "calibration_error": calibration_error(labels, scores),
    }


def gain_interval(
    labels: npt.ArrayLike,
    candidate: npt.ArrayLike,
    champion: npt.ArrayLike,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> GainInterval | None:
    """Paired percentile bootstrap of the difference in ROC AUC (Efron and Tibshirani, 1993, chapters 13 and 16).

    Both models are measured on the same resampled rows, so that what is hard for both cancels out. A resample is a
    vector of row counts: scores are sorted once, and not again for each resample.

    Args:
        labels: Outcomes, shape [n].
        candidate: Its scores of these rows, shape [n].
        champion: Its scores of the same rows, shape [n].
        resamples: How often rows are drawn.
        confidence: Of the two-sided interval.
        seed: Of the draws.

    Returns:
        The interval, or None when the scores cannot be compared (not finite, other lengths, one class).
    """
    truth, first = _arrays(labels, candidate)
    second = np.asarray(champion, dtype=np.float64)
    if roc_auc(truth, first) is None or roc_auc(truth, second) is None:
        return None
    rng = np.random.default_rng(seed)
    gains: list[npt.NDArray[np.float64]] = []
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        picks = rng.integers(0, truth.size, size=(size, truth.size))
        counts = np.stack([np.bincount(row, minlength=truth.size) for row in picks]).astype(np.float64)
        gains.append(_auc_of_weights(truth, first, counts) - _auc_of_weights(truth, second, counts))
    gain = np.concatenate(gains)
    gain = gain[np.isfinite(gain)]
    if gain.size < resamples / 2:
        return None
    low, high = np.quantile(gain, [(1 - confidence) / 2, (1 + confidence) / 2])
    return GainInterval(low=float(low), high=float(high), confidence=confidence, resamples=int(gain.size))


def intervals(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    cost_false_alarm: float,
    cost_miss: float,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap of each metric of one model over its rows; a metric that a resample does not have is left out.

    The calibration error has none: a resample's lies above the one that it is drawn for.

    Args:
        labels, scores: Outcomes and probabilities, shape [n].
        cost_false_alarm, cost_miss: See :func:`expected_cost`.
        resamples, confidence, seed: Of the draws, and of the two-sided intervals.
    """
    truth, values = _arrays(labels, scores)
    rng, found = np.random.default_rng(seed), dict[str, list[float | None]]()
    if not _usable(truth, values):
        return {}
    for _ in range(resamples):
        picks = rng.integers(0, truth.size, truth.size)
        drawn = measure(truth[picks], values[picks], cost_false_alarm=cost_false_alarm, cost_miss=cost_miss)
        for name, value in drawn.items():
            found.setdefault(name, []).append(value)
    del found["calibration_error"]
    ends: dict[str, tuple[float, float]] = {}
    for name, drawn_values in found.items():
        known = [v for v in drawn_values if v is not None]
        if len(known) == resamples:
            low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
            ends[name] = (float(low), float(high))
    return ends


def roc_curve(labels: npt.ArrayLike, scores: npt.ArrayLike, points: int = 200) -> list[tuple[float, float]]:
    """(false alarm rate, hit rate) from (0, 0) to (1, 1), thinned to so many points; empty when there is no curve."""
    truth, values = _arrays(labels, scores)
    if roc_auc(truth, values) is None:
        return []
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), truth.size - 1)
    hits = np.cumsum(truth[order])[ends] / truth.sum()
    alarms = np.cumsum(~truth[order])[ends] / (~truth).sum()
    keep = np.unique(np.linspace(0, ends.size - 1, min(points, ends.size)).astype(int))
    return [(0.0, 0.0), *((float(alarms[i]), float(hits[i])) for i in keep)]


def _auc_of_weights(truth: Labels, values: Scores, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """ROC AUC under row weights, shape [resamples, n] -> [resamples]; NaN where a resample lacks a class."""
    order = np.argsort(values, kind="stable")
    starts = np.append(0, np.flatnonzero(np.diff(values[order])) + 1)
    sorted_weights = weights[:, order]
    positive = np.add.reduceat(sorted_weights * truth[order], starts, axis=1)
    negative = np.add.reduceat(sorted_weights * ~truth[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sum(positive * (below + negative / 2), axis=1) / pairs)


def _arrays(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Labels, Scores]:
    return np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)


def _usable(truth: Labels, values: Scores) -> bool:
    return truth.ndim == 1 and truth.shape == values.shape and finite(values)


def _probabilities(truth: Labels, values: Scores) -> bool:
    return _usable(truth, values) and bool(((values >= 0) & (values <= 1)).all())
