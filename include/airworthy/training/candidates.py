"""What the ledger keeps of each candidate: enough to make it once more, and to tell whether it is the same."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from sqlalchemy import select

from airworthy.ledger.database import transaction
from airworthy.ledger.models import Candidate
from airworthy.records import CandidateRef

SAMPLE = 200


def fingerprint(probabilities: np.ndarray) -> dict[str, Any]:
    """Predictions in a few bytes: how many, a digest of all of them to the last bit, and a sample spread over them.

    Args:
        probabilities: float64 [rows], in the order of the training set.
    """
    values = np.ascontiguousarray(probabilities, dtype="<f8")
    picks = np.unique(np.linspace(0, max(0, len(values) - 1), min(SAMPLE, len(values))).astype(int))
    return {
        "rows": len(values), "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
        "sample": [float(v) for v in values[picks]],
    }  # fmt: skip


def record_candidate(
    candidate: CandidateRef,
    *,
    run: str,
    recipe: dict[str, Any],
    revision: str,
    lock: str,
    metrics: dict[str, float],
    probabilities: np.ndarray,
) -> None:
    """Keep a candidate; the same MLflow run again replaces its row.

    Args:
        candidate: What was fitted.
        run: The Airflow run, or a command.
        recipe: Algorithm, parameters, seed, share of flipped labels, digests of training set and features.
        revision: Revision of the code; it ends in ``-dirty`` when files differed from it.
        lock: Digest of the lock file.
        metrics: On the training part.
        probabilities: Its predictions for the training part, float64 [rows].
    """
    with transaction() as session:
        session.merge(
            Candidate(
                run_id=candidate.run_id, use_case=candidate.use_case, model_digest=candidate.model_digest,
                training_set=candidate.training_set.digest, run=run, recipe=recipe, revision=revision, lock=lock,
                metrics=metrics, predictions=fingerprint(probabilities),
            )
        )  # fmt: skip


def find_candidate(model_digest: str, run_id: str | None = None) -> Candidate | None:
    """The candidate of a model: that of an MLflow run, or the oldest; None when there is none."""
    query = select(Candidate).where(Candidate.model_digest == model_digest).order_by(Candidate.at)
    with transaction() as session:
        return session.scalar((query.where(Candidate.run_id == run_id) if run_id else query).limit(1))
