"""Feedback beside the predictions that it is about."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.lake import tables
from airworthy.ledger.feedback import feedback
from airworthy.monitoring.collect import collect, log_table
from airworthy.records import Record

UNKNOWN = "not in the prediction log"


class SaidOf(Record):
    """One thing that was said, and the prediction.

    Attributes:
        at: When it was said, UTC.
        kind, label, comment: As the client sent it.
        probability, decision, release: Of the prediction; None and empty when the prediction log does not have it.
        agrees: Whether a label agrees with the decision; None when there is nothing to compare.
    """

    prediction_id: str
    at: datetime
    kind: str
    label: bool | None
    comment: str
    probability: float | None = None
    decision: bool | None = None
    release: str = ""

    @property
    def agrees(self) -> bool | None:
        """Whether a label agrees with the decision; None when there is nothing to compare."""
        return None if self.label is None or self.decision is None else self.label == self.decision

    @property
    def words(self) -> str:
        """What was said."""
        return f"{self.kind}: {self.comment if self.label is None else str(self.label).lower()}"

    @property
    def predicted(self) -> str:
        """What had been predicted."""
        if self.probability is None:
            return UNKNOWN
        against = {True: ", as it came", False: ", and it came otherwise", None: ""}[self.agrees]
        return f"{self.probability:.4f}, {'act' if self.decision else 'do not act'}{against}"


def said(use_case: UseCase, limit: int) -> list[SaidOf]:
    """The newest feedback, each with its prediction."""
    rows = feedback(use_case.name, limit=limit)
    if not rows:
        return []
    collect(use_case)
    wanted = pa.array(sorted({row.prediction_id for row in rows}), pa.string())
    log = tables.dataset(log_table(use_case)).to_table(
        filter=pc.field("prediction_id").isin(wanted), columns=["prediction_id", "probability", "decision", "release"]
    )
    known = {row.pop("prediction_id"): row for row in log.to_pylist()}
    return [
        SaidOf(
            prediction_id=row.prediction_id, at=row.at, kind=row.kind, label=row.label, comment=row.comment,
            **known.get(row.prediction_id, {}),
        )
        for row in rows
    ]  # fmt: skip
