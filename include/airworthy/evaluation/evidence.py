"""Scores of a model on the holdout, and what they say. Scores never leave this process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from airworthy.config import UseCase
from airworthy.errors import DataRejectedError
from airworthy.evaluation import metrics
from airworthy.evaluation.baselines import measured
from airworthy.evaluation.metrics import Scores
from airworthy.evaluation.records import ModelEvidence
from airworthy.evaluation.subject import Holdout, Subject
from airworthy.training.compiling import RecordedScorer
from airworthy.training.model_files import LoadedModel

PARITY_ROWS = 200


@dataclass(frozen=True)
class Scored:
    """One model on the holdout: what the gate sees, and the scores behind it (None when it could not be scored)."""

    evidence: ModelEvidence
    scores: Scores | None


def score(
    use_case: UseCase,
    model: LoadedModel,
    holdout: Holdout,
    *,
    trained_until: datetime | None,
    rows: pa.Table | None = None,
    parity: float | None = None,
    note: str = "",
) -> Scored:
    """Score a model on the holdout with its own columns and encoder.

    Args:
        use_case: Holds the costs.
        model: The model, as it will serve or serves.
        holdout: The rows.
        trained_until: End (exclusive) of the rows that it learned from, UTC.
        rows: The holdout's rows with this model's inputs, when they are others.
        parity: See :class:`~airworthy.evaluation.records.ModelEvidence`.
        note: Why it cannot be scored: then it is not tried.
    """
    scores: Scores | None = None
    if not note:
        try:
            table = holdout.rows if rows is None else rows
            scores = np.asarray(model.predict_table(table), dtype=np.float64)
        except DataRejectedError as error:
            # A champion of other features cannot be compared: that is a refusal with its reason, not a crash.
            note = f"the holdout does not have its inputs: {'; '.join(str(f) for f in error.failures)}"
    evidence = ModelEvidence(
        digest=model.model_digest,
        trained_until=trained_until,
        metrics=measured(use_case, holdout.labels, scores),
        scored=0 if scores is None else scores.size,
        finite=scores is not None and metrics.finite(scores),
        parity=parity,
        uncompiled=_uncompiled(model),
        note=note,
    )
    return Scored(evidence, scores)


def _uncompiled(model: LoadedModel) -> str:
    if not isinstance(model.scorer, RecordedScorer):
        return ""
    return f"{model.scorer.error.what}; next: {model.scorer.error.next_step}"


def serving_parity(subject: Subject) -> float | None:
    """Largest difference of the serving form, fed one request at a time, from the recorded estimator on encoded rows.

    None where there is nothing to compare: no rows, or no form that could serve.
    """
    if subject.absent or not subject.holdout.labels.size or isinstance(subject.model.scorer, RecordedScorer):
        return None
    sample = subject.holdout.sample(PARITY_ROWS, subject.seed).rows.select(list(subject.model.columns))
    recorded = subject.estimator.predict_proba(subject.model.encoder.transform(sample))[:, 1]
    return float(np.max(np.abs(subject.model.predict(sample.to_pylist()) - recorded)))
