"""What clients said about predictions: labels, disputes and comments, each kept once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from airworthy.ledger.database import transaction
from airworthy.ledger.models import Feedback


@dataclass(frozen=True)
class Said:
    """One thing that was said.

    Attributes:
        prediction_id: About which prediction.
        kind: ``label``, ``dispute`` or ``comment``.
        label: Of a label.
        comment: Of the others.
    """

    prediction_id: str
    kind: str
    label: bool | None = None
    comment: str = ""


def keep_feedback(use_case: str, items: Sequence[Said], data_time: datetime) -> int:
    """Keep what was said; the same words about the same prediction change nothing. Returns how many were new."""
    rows = [
        {
            "use_case": use_case, "prediction_id": one.prediction_id, "kind": one.kind, "label": one.label,
            "comment": one.comment, "data_time": data_time,
            "digest": hashlib.sha256(json.dumps([one.kind, one.label, one.comment]).encode()).hexdigest(),
        }
        for one in sorted(items, key=lambda one: one.prediction_id)
    ]  # fmt: skip
    statement = insert(Feedback).values(rows).on_conflict_do_nothing(constraint="uq_feedback_content")
    with transaction() as session:
        return len(session.execute(statement.returning(Feedback.id)).all())


def feedback(use_case: str, predictions: Iterable[str] | None = None, *, limit: int | None = None) -> list[Feedback]:
    """What was said, newest first.

    Args:
        use_case: The use case.
        predictions: Ids that it is about; None for all.
        limit: At most so many rows.
    """
    query = select(Feedback).where(Feedback.use_case == use_case).order_by(Feedback.id.desc())
    if predictions is not None:
        query = query.where(Feedback.prediction_id.in_(list(predictions)))
    with transaction() as session:
        return list(session.scalars(query.limit(limit)))


def forget_feedback(use_case: str, predictions: Iterable[str]) -> int:
    """Remove what was said about predictions; returns how many rows went."""
    wanted = list(predictions)
    statement = delete(Feedback).where(Feedback.use_case == use_case, Feedback.prediction_id.in_(wanted))
    with transaction() as session:
        return len(session.execute(statement.returning(Feedback.id)).all())
