"""What a prediction costs when one acts from the threshold on that the spec's costs imply."""

from __future__ import annotations

import numpy as np

from airworthy.config.data_spec import Problem
from airworthy.evaluation import metrics
from airworthy.evaluation.metrics import Labels, Scores
from airworthy.evaluation.records import CostEvidence


def threshold_of(problem: Problem) -> float:
    """The probability from which on acting is cheaper: false alarm / (false alarm + miss) (Elkan, 2001)."""
    return problem.cost_false_alarm / (problem.cost_false_alarm + problem.cost_miss)


def cost(
    problem: Problem,
    labels: Labels,
    candidate: Scores | None,
    champion: Scores | None,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> CostEvidence:
    """Mean cost of a prediction for both models and for acting always or never, with a paired interval.

    Args:
        problem: Holds the costs.
        labels: Outcomes, shape [n].
        candidate, champion: Their probabilities of the same rows, shape [n]; None for what could not be scored.
        resamples, confidence, seed: Of the paired percentile bootstrap of the difference.
    """
    ours, theirs = _per_row(problem, labels, candidate), _per_row(problem, labels, champion)
    rate = float(labels.mean()) if labels.size else None
    low = high = None
    if ours is not None and theirs is not None:
        low, high = _interval(ours - theirs, resamples, confidence, seed)
    return CostEvidence(
        threshold=threshold_of(problem),
        candidate=None if ours is None else float(ours.mean()),
        champion=None if theirs is None else float(theirs.mean()),
        nothing=None if rate is None else problem.cost_miss * rate,
        everything=None if rate is None else problem.cost_false_alarm * (1 - rate),
        low=low,
        high=high,
    )


def _per_row(problem: Problem, labels: Labels, scores: Scores | None) -> np.ndarray | None:
    if scores is None or scores.shape != labels.shape or not metrics.finite(scores):
        return None
    act = scores >= threshold_of(problem)
    return np.asarray(
        problem.cost_false_alarm * (act & ~labels) + problem.cost_miss * (~act & labels), dtype=np.float64
    )


def _interval(difference: np.ndarray, resamples: int, confidence: float, seed: int) -> tuple[float, float]:
    # The difference takes few values, so a resample is one draw of how often each occurs.
    values, counts = np.unique(difference, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(difference.size, counts / difference.size, size=resamples)
    means = drawn @ values / difference.size
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
