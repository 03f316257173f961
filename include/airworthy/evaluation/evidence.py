"""From models and holdout rows to the evidence that the gate decides on. Scores never leave this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.config.data_spec import Problem
from airworthy.errors import DataRejectedError
from airworthy.evaluation import metrics
from airworthy.evaluation.metrics import Labels, Metrics, Scores
from airworthy.evaluation.records import ModelEvidence, SliceEvidence
from airworthy.training.encoder import Encoder
from airworthy.training.model_files import LoadedModel

PARITY_ROWS = 200
# The linear baseline is reported and decides nothing: a sample of this size is plenty.
LINEAR_ROWS = 30_000
EMPTY = "(empty)"


@dataclass(frozen=True)
class Holdout:
    """The rows that decide, in the order of the training set's file.

    Attributes:
        rows: Ids, slice columns, features.
        labels: Outcomes, shape [n].
    """

    rows: pa.Table
    labels: Labels


@dataclass(frozen=True)
class Scored:
    """One model on the holdout: what the gate sees, and the scores behind it (None when it could not be scored)."""

    evidence: ModelEvidence
    scores: Scores | None


def score(
    problem: Problem,
    model: LoadedModel,
    holdout: Holdout,
    *,
    trained_until: datetime | None,
    parity: float | None = None,
) -> Scored:
    """Score a model on the holdout with its own columns and encoder.

    Args:
        problem: Holds the costs.
        model: The model, as it will serve or serves.
        holdout: The rows.
        trained_until: End (exclusive) of the rows that it learned from, UTC.
        parity: See :class:`~airworthy.evaluation.records.ModelEvidence`.
    """
    scores: Scores | None
    try:
        scores, note = np.asarray(model.predict_table(holdout.rows), dtype=np.float64), ""
    except DataRejectedError as error:
        # A champion of other features cannot be compared: that is a refusal with its reason, not a crash.
        scores, note = None, f"the holdout does not have its inputs: {'; '.join(str(f) for f in error.failures)}"
    evidence = ModelEvidence(
        digest=model.model_digest,
        trained_until=trained_until,
        metrics=_measure(problem, holdout.labels, scores),
        scored=0 if scores is None else scores.size,
        finite=scores is not None and metrics.finite(scores),
        parity=parity,
        note=note,
    )
    return Scored(evidence, scores)


def serving_parity(model: LoadedModel, estimator: Any, rows: pa.Table, *, seed: int) -> float | None:
    """Largest difference of the serving form, fed one request at a time, from the recorded estimator on encoded rows.

    Args:
        model: The candidate.
        estimator: The scikit-learn estimator of the same folder.
        rows: Holdout rows, of which a seeded sample is taken.
        seed: Of the sample.
    """
    if not rows.num_rows:
        return None
    picks = np.random.default_rng(seed).permutation(rows.num_rows)[:PARITY_ROWS]
    sample = rows.select(list(model.columns)).take(pa.array(np.sort(picks)))
    recorded = estimator.predict_proba(model.encoder.transform(sample))[:, 1]
    return float(np.max(np.abs(model.predict(sample.to_pylist()) - recorded)))


def slices(
    use_case: UseCase, holdout: Holdout, candidate: Scored, champion: Scored | None
) -> tuple[SliceEvidence, ...]:
    """ROC AUC of both models in each value of the spec's slice columns, largest slice first."""
    found: list[SliceEvidence] = []
    for column in use_case.gate.slices:
        if column in holdout.rows.schema.names:
            found += sorted(_by_value(column, holdout, candidate, champion), key=lambda s: (-s.rows, s.value))
    return tuple(found)


def baselines(use_case: UseCase, train: pa.Table, columns: dict[str, str], holdout: Holdout) -> tuple[Metrics, Metrics]:
    """Metrics of two models that anyone could have had: the training rows' rate for everything, a logistic regression.

    Args:
        use_case: Holds costs and seed.
        train: Training rows with ``label``.
        columns: Inputs of the regression.
        holdout: The rows to measure on.
    """
    labels = _labels(train)
    rate = float(labels.mean()) if labels.size else float("nan")
    prior = _measure(use_case.problem, holdout.labels, np.full(holdout.labels.size, rate))
    return prior, _measure(use_case.problem, holdout.labels, _linear(use_case, train, columns, holdout))


def holdout_of(rows: pa.Table) -> Holdout:
    """The holdout from rows with ``label``."""
    return Holdout(rows, _labels(rows))


def _linear(use_case: UseCase, train: pa.Table, columns: dict[str, str], holdout: Holdout) -> Scores | None:
    from sklearn.linear_model import LogisticRegression

    if train.num_rows > LINEAR_ROWS:
        picks = np.random.default_rng(use_case.training.seed).permutation(train.num_rows)[:LINEAR_ROWS]
        train = train.take(pa.array(np.sort(picks)))
    labels = _labels(train)
    if labels.all() or not labels.any() or not holdout.labels.size:
        return None
    encoder = Encoder.fit(train, columns, style="dense")
    model = LogisticRegression(max_iter=300).fit(encoder.transform(train), labels)
    return np.asarray(model.predict_proba(encoder.transform(holdout.rows))[:, 1], dtype=np.float64)


def _by_value(column: str, holdout: Holdout, candidate: Scored, champion: Scored | None) -> Iterator[SliceEvidence]:
    values = pc.fill_null(holdout.rows[column].cast(pa.string()), EMPTY).combine_chunks().dictionary_encode()
    codes = values.indices.to_numpy()
    for code, value in enumerate(values.dictionary.to_pylist()):
        mask = codes == code
        yield SliceEvidence(
            column=column, value=value, rows=int(mask.sum()), candidate=_auc_where(mask, holdout, candidate),
            champion=_auc_where(mask, holdout, champion) if champion else None,
        )  # fmt: skip


def _auc_where(mask: Labels, holdout: Holdout, scored: Scored) -> float | None:
    return None if scored.scores is None else metrics.roc_auc(holdout.labels[mask], scored.scores[mask])


def _measure(problem: Problem, labels: Labels, scores: Scores | None) -> Metrics:
    if scores is None:
        return dict.fromkeys(metrics.REQUIRED)
    return metrics.measure(labels, scores, cost_false_alarm=problem.cost_false_alarm, cost_miss=problem.cost_miss)


def _labels(rows: pa.Table) -> Labels:
    return np.asarray(rows["label"].cast(pa.bool_()).to_numpy(), dtype=bool)
