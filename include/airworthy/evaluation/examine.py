"""From a candidate, a champion and the holdout to the evidence that the gate decides on; each part timed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from airworthy.config import UseCase
from airworthy.evaluation import baselines, metrics
from airworthy.evaluation.attribution import shap_values, worth
from airworthy.evaluation.behaviours import behaviours
from airworthy.evaluation.compatibility import serving
from airworthy.evaluation.convergence import convergence, members
from airworthy.evaluation.cost import cost, threshold_of
from airworthy.evaluation.evidence import Scored, score, serving_parity
from airworthy.evaluation.groups import groups, slices
from airworthy.evaluation.importance import importance
from airworthy.evaluation.metrics import Labels, Scores
from airworthy.evaluation.records import Evidence
from airworthy.evaluation.soundness import not_finite
from airworthy.evaluation.stability import stability
from airworthy.evaluation.subject import Subject
from airworthy.records import TrainingSetRef
from airworthy.training.model_files import LoadedModel
from airworthy.training.shapley import Attributions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opponent:
    """The champion as the holdout meets it.

    Attributes:
        model: Its model.
        release: Digest of its release.
        trained_until: End of the rows that it learned from; None when unknown.
        rows: The holdout's rows with its inputs, when they are not the candidate's.
        note: Why it cannot be scored.
        words: How its inputs were found, when its features are others.
    """

    model: LoadedModel
    release: str
    trained_until: datetime | None
    rows: pa.Table | None = None
    note: str = ""
    words: str = ""


@dataclass(frozen=True)
class Examination:
    """The evidence, and the scores that the report's curves are drawn from.

    Attributes:
        evidence: For the gate.
        labels: Outcomes of the holdout rows, shape [n].
        candidate, champion: Scores of the holdout rows, shape [n].
        explained: SHAP values of some of them; None where they cannot be had.
    """

    evidence: Evidence
    labels: Labels
    candidate: Scores | None
    champion: Scores | None
    explained: Attributions | None


def examine(
    use_case: UseCase, subject: Subject, ref: TrainingSetRef, opponent: Opponent | None, *, asked: str
) -> Examination:
    """Measure a candidate; of the champion by the promotion log the evidence says nothing yet.

    Args:
        use_case: Holds costs, bounds and seed.
        subject: The candidate.
        ref: Its training set.
        opponent: The champion; None before the first promotion.
        asked: Model digest that the verdict was asked for.
    """
    gate, seed, holdout = use_case.gate, subject.seed, subject.holdout
    columns, seconds = subject.model.columns, dict[str, float]()
    with _timed(seconds, "scores"):
        ours = score(use_case, subject.model, holdout, trained_until=ref.train_end, parity=serving_parity(subject))
        theirs = _scored(use_case, subject, opponent)
    with _timed(seconds, "baselines"):
        prior = baselines.prior(use_case, subject.train, holdout)
        rule, rule_columns = baselines.rule(use_case, subject.train, columns, holdout)
        linear = baselines.linear(use_case, subject.train, columns, holdout)
    their_scores = theirs.scores if theirs else None
    with _timed(seconds, "comparison"):
        gain = None
        if ours.scores is not None and their_scores is not None:
            gain = metrics.gain_interval(
                holdout.labels, ours.scores, their_scores,
                resamples=gate.bootstrap, confidence=gate.confidence, seed=seed,
            )  # fmt: skip
        costs = cost(
            use_case.problem, holdout.labels, ours.scores, their_scores,
            resamples=gate.bootstrap, confidence=gate.confidence, seed=seed,
        )  # fmt: skip
    with _timed(seconds, "intervals"):
        ends: dict[str, tuple[float, float]] = {}
        if ours.scores is not None:
            ends = metrics.intervals(
                holdout.labels, ours.scores,
                cost_false_alarm=use_case.problem.cost_false_alarm, cost_miss=use_case.problem.cost_miss,
                resamples=gate.bootstrap, confidence=gate.confidence, seed=seed,
            )  # fmt: skip
    bins = [] if ours.scores is None else metrics.calibration_bins(holdout.labels, ours.scores)
    with _timed(seconds, "slices and groups"):
        parts = slices(gate.slices, holdout, ours.scores, their_scores)
        treated = groups(gate.groups, holdout, ours.scores, threshold=threshold_of(use_case.problem))
    with _timed(seconds, "stability"):
        stable = stability(subject, gate)
    with _timed(seconds, "convergence"):
        sound, converged = not_finite(subject.model), convergence(subject, gate)
    with _timed(seconds, "behaviours"):
        behaves = behaviours(subject, gate)
    with _timed(seconds, "clean process"):
        served = serving(subject)
    with _timed(seconds, "importance"):
        important = importance(subject, gate)
    with _timed(seconds, "SHAP values"):
        explained, why_not = shap_values(subject)
    log.info("%s: measured in %.1f s: %s", use_case.name, sum(seconds.values()), _words(seconds))
    evidence = Evidence(
        candidate=ours.evidence, champion=theirs.evidence if theirs else None, candidate_asked=asked,
        champion_asked=None, champion_release=opponent.release if opponent else None, champion_in_log=None,
        champion_rows=opponent.words if opponent else "", prior=prior, rule=rule, rule_columns=rule_columns,
        linear=linear, candidate_is_linear=all(hasattr(m.model, "coef_") for m in members(subject.estimator)), gain=gain,
        intervals=ends, calibration=tuple(bins),
        cost=costs, slices=parts, groups=treated, not_finite=sound, stability=stable, convergence=converged,
        behaviours=behaves, serving=served, importance=important, holdout_rows=holdout.labels.size,
        worth=worth(explained, important, why_not),
        holdout_start=ref.holdout_start, holdout_end=ref.holdout_end, seconds=seconds,
    )  # fmt: skip
    return Examination(evidence, holdout.labels, ours.scores, their_scores, explained)


def _scored(use_case: UseCase, subject: Subject, opponent: Opponent | None) -> Scored | None:
    if opponent is None:
        return None
    return score(
        use_case, opponent.model, subject.holdout,
        trained_until=opponent.trained_until, rows=opponent.rows, note=opponent.note,
    )  # fmt: skip


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 2)


def _words(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
