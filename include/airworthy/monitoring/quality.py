"""Quality of what was predicted, where the outcome is known by now. A label that is still to come is not a zero."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.evaluation import metrics
from airworthy.evaluation.metrics import Labels
from airworthy.intervals import Interval, utc
from airworthy.lake import tables

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Outcomes:
    """What became of predictions, row by row.

    Attributes:
        labels: Outcomes, shape [n]; only where ``known``.
        known: Whether the outcome is in, shape [n].
        pending: Rows whose outcome is still to come.
        without_label: Rows of which it is known that there is none (a cancelled flight).
    """

    labels: Labels
    known: Labels
    pending: int
    without_label: int


def outcomes(use_case: UseCase, predictions: pa.Table, *, first: Interval, now: datetime) -> Outcomes:
    """Join predictions with the labels that are known now.

    Args:
        use_case: Names the clean table, its id columns and its label.
        predictions: Rows of the prediction log.
        first: Interval of the earliest prediction; a thing predicted is in the clean table on or after its day.
        now: The data clock: labels available later are not known.
    """
    known = _labels_by_id(use_case, first, now)
    ids = [_key(json.loads(text), use_case.prediction.id) for text in predictions["id"].to_pylist()]
    found = [known.get(i, ...) for i in ids]
    return Outcomes(
        labels=np.array([f is True for f in found], dtype=bool),
        known=np.array([isinstance(f, bool) for f in found], dtype=bool),
        pending=sum(f is ... for f in found),
        without_label=sum(f is None for f in found),
    )


def figures(use_case: UseCase, predictions: pa.Table, found: Outcomes) -> dict[str, float]:
    """Metrics of the labelled predictions and their label rate; empty below the spec's ``min_labelled``."""
    if found.known.sum() < use_case.monitoring.min_labelled:
        return {}
    scores = predictions["probability"].to_numpy()[found.known]
    labels = found.labels[found.known]
    problem = use_case.problem
    measured = metrics.measure(labels, scores, cost_false_alarm=problem.cost_false_alarm, cost_miss=problem.cost_miss)
    return {n: v for n, v in measured.items() if v is not None} | {"label_rate": float(labels.mean())}


def served_by(predictions: pa.Table, found: Outcomes, release: str) -> tuple[pa.Table, Outcomes]:
    """The part of the predictions that one release gave, with their outcomes."""
    mask = (
        np.asarray(pc.equal(predictions["release"], release).to_numpy(zero_copy_only=False), dtype=bool)
        if predictions.num_rows
        else found.known
    )
    part = Outcomes(labels=found.labels[mask], known=found.known[mask], pending=0, without_label=0)
    return predictions.filter(pa.array(mask)), part


def _labels_by_id(use_case: UseCase, first: Interval, now: datetime) -> dict[Key, bool | None]:
    prediction = use_case.prediction
    # One day earlier, since a thing may be asked about when its day is over already.
    rows = tables.read(
        use_case.table("clean", prediction.source),
        first.shift(-1),
        columns=[*prediction.id, prediction.label, "available_at"],
    )
    rows = rows.filter(pc.less_equal(rows["available_at"], pa.scalar(now, rows.schema.field("available_at").type)))
    # The newest knowledge wins: a correction is a later row of the same id.
    rows = rows.sort_by("available_at")
    return {
        _key(r, prediction.id): None if r[prediction.label] is None else bool(r[prediction.label])
        for r in rows.to_pylist()
    }


def _key(row: dict[str, Any], names: list[str]) -> Key:
    return tuple(_comparable(row.get(name)) for name in names)


def _comparable(value: Any) -> Any:
    """A value of the log's JSON or of the table, made comparable: moments in UTC, whole numbers as integers."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if len(value) >= len("2013-01-01T00:00") else value
        except ValueError:
            return value
    if isinstance(value, datetime):
        return utc(value).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
