"""Metrics against scikit-learn and by hand; what cannot be computed is None."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from airworthy.evaluation import metrics

COSTS = {"cost_false_alarm": 1.0, "cost_miss": 3.0}


@st.composite
def scored(draw):
    """Labels with both classes and probabilities, many of them tied."""
    n = draw(st.integers(2, 60))
    labels = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda x: 0 < sum(x) < len(x)))
    scores = draw(st.lists(st.integers(0, 20).map(lambda i: i / 20), min_size=n, max_size=n))
    return np.array(labels), np.array(scores)


@settings(max_examples=200, deadline=None)
@given(scored())
def test_every_metric_agrees_with_scikit_learn(case):
    labels, scores = case
    assert metrics.roc_auc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.average_precision(labels, scores) == pytest.approx(
        reference.average_precision_score(labels, scores), abs=1e-12
    )
    clipped = np.clip(scores, 1e-15, 1 - 1e-15)
    assert metrics.log_loss(labels, scores) == pytest.approx(
        reference.log_loss(labels, clipped, labels=[False, True]), rel=1e-6
    )
    assert metrics.brier(labels, scores) == pytest.approx(reference.brier_score_loss(labels, scores), abs=1e-12)


def test_expected_cost_by_hand():
    # Acting pays from 1 / (1 + 3) = 0.25 on: one hit, one false alarm (1), one miss (3), one rightly left alone.
    assert metrics.expected_cost([True, False, True, False], [0.9, 0.25, 0.24, 0.1], **COSTS) == pytest.approx(
        (1 + 3) / 4
    )


def test_calibration_error_by_hand():
    labels = np.array([False] * 80 + [True] * 20)
    assert metrics.calibration_error(labels, np.full(100, 0.2)) == pytest.approx(0.0)
    assert metrics.calibration_error(labels, np.full(100, 0.5)) == pytest.approx(0.3)
    # Ten bins of ten: the upper half of the scores says 0.9 and is right in 20 of 50 cases, the lower is exact.
    scores = np.concatenate([np.linspace(0, 1e-9, 50), 0.9 + np.linspace(0, 1e-9, 50)])
    assert metrics.calibration_error(labels, scores) == pytest.approx((0.9 * 30 + 0.1 * 20) / 100, abs=1e-6)
    assert len(metrics.calibration_bins(labels, scores)) == 10


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ([], []),
        ([True, False], [0.5, np.nan]),
        ([True, False], [0.5, np.inf]),
        ([True, False], [0.5, -np.inf]),
        ([True, False], [0.5]),
        ([True, False, True], [0.5, 0.1]),
    ],
)
def test_what_cannot_be_measured_is_none(labels, scores):
    assert set(metrics.measure(labels, scores, **COSTS).values()) == {None}
    assert metrics.roc_curve(labels, scores) == []
    assert metrics.calibration_bins(labels, scores) == []


def test_one_class_has_no_ranking_but_has_a_loss():
    measured = metrics.measure([False, False], [0.1, 0.2], **COSTS)
    assert measured["roc_auc"] is None
    assert measured["average_precision"] is None
    assert measured["log_loss"] is not None


def test_scores_outside_zero_and_one_are_no_probabilities():
    measured = metrics.measure([True, False], [1.2, -0.1], **COSTS)
    assert measured["roc_auc"] == 1.0
    assert {n for n, v in measured.items() if v is None} == {"log_loss", "brier", "expected_cost", "calibration_error"}


def test_every_required_metric_is_measured():
    assert set(metrics.measure([True, False], [0.9, 0.1], **COSTS)) == set(metrics.REQUIRED)


def models(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.25
    signal = labels + rng.normal(size=n)
    first = 1 / (1 + np.exp(-(signal + rng.normal(size=n) * 0.3)))
    second = 1 / (1 + np.exp(-(signal + rng.normal(size=n) * 1.0)))
    return labels, first, second


def test_bootstrap_is_fast_seeded_and_paired():
    labels, first, second = models(25_000)
    started = time.process_time()
    interval = metrics.gain_interval(labels, first, second, resamples=200, confidence=0.95, seed=7)
    seconds = time.process_time() - started
    gain = metrics.roc_auc(labels, first) - metrics.roc_auc(labels, second)
    assert interval is not None
    assert interval.low < gain < interval.high
    assert interval.low > 0
    assert seconds < 10  # a loop over rows takes minutes
    again = metrics.gain_interval(labels, first, second, resamples=200, confidence=0.95, seed=7)
    assert again == interval
    # A model against itself differs nowhere, in any resample: only a paired bootstrap says so.
    same = metrics.gain_interval(labels, first, first, resamples=60, confidence=0.95, seed=7)
    assert (same.low, same.high) == (0.0, 0.0)


def test_bootstrap_agrees_with_resampling_by_hand():
    labels, first, second = models(400, seed=3)
    rng = np.random.default_rng(11)
    # The same order of draws as the vectorised form: chunks of rows of picks.
    draws = [picks for _ in range(2) for picks in rng.integers(0, 400, size=(metrics.CHUNK, 400))]
    auc = reference.roc_auc_score
    by_hand = [auc(labels[picks], first[picks]) - auc(labels[picks], second[picks]) for picks in draws]
    interval = metrics.gain_interval(labels, first, second, resamples=2 * metrics.CHUNK, confidence=0.9, seed=11)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(by_hand, [0.05, 0.95])), abs=1e-12)


def test_bootstrap_covers_the_true_difference():
    # Both models are equally good in truth: 90 % intervals hold 0 in about 90 % of samples.
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = rng.random(500) < 0.3
        signal = labels * 1.0
        a, b = signal + rng.normal(size=500), signal + rng.normal(size=500)
        interval = metrics.gain_interval(labels, a, b, resamples=100, confidence=0.9, seed=seed)
        hits += interval.low <= 0 <= interval.high
    assert 47 <= hits <= 60


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bootstrap_of_unusable_scores_is_none(bad):
    labels, first, second = models(100)
    second[3] = bad
    assert metrics.gain_interval(labels, first, second, resamples=50, confidence=0.95, seed=1) is None
    assert metrics.gain_interval(np.zeros(100, bool), first, first, resamples=50, confidence=0.95, seed=1) is None


def test_the_intervals_are_as_wide_as_theory_says_and_hold_the_figure():
    rng = np.random.default_rng(3)
    labels = rng.random(2000) < 0.3
    scores = np.clip(0.3 + 0.2 * labels + rng.normal(0, 0.15, 2000), 0.01, 0.99)
    found = metrics.intervals(labels, scores, resamples=400, confidence=0.95, seed=7, **COSTS)

    measured = metrics.measure(labels, scores, **COSTS)
    assert set(found) == set(metrics.REQUIRED) - {"calibration_error"}
    for name, (low, high) in found.items():
        assert low < measured[name] < high
    # The Brier score and the cost are means: their standard error is known.
    squared = (scores - labels) ** 2
    low, high = found["brier"]
    assert high - low == pytest.approx(2 * 1.96 * squared.std() / 2000**0.5, rel=0.15)
    # Hanley and McNeil (1982) for the ROC AUC.
    auc, n1, n0 = measured["roc_auc"], labels.sum(), (~labels).sum()
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    error = ((auc * (1 - auc) + (n1 - 1) * (q1 - auc**2) + (n0 - 1) * (q2 - auc**2)) / (n1 * n0)) ** 0.5
    low, high = found["roc_auc"]
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.2)


@pytest.mark.parametrize("scores", [[0.1, float("nan")], [0.1], []])
def test_what_cannot_be_measured_has_no_interval(scores):
    assert metrics.intervals([True, False], scores, resamples=50, confidence=0.95, seed=7, **COSTS) == {}


def test_a_metric_that_a_resample_lacks_has_no_interval():
    found = metrics.intervals([True, False, False], [0.9, 0.1, 0.2], resamples=50, confidence=0.95, seed=7, **COSTS)
    assert "roc_auc" not in found  # of three rows some draw has one class
    assert "brier" in found
