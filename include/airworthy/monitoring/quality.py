"""Quality of what was predicted, where the outcome is known by now. A label that is still to come is not a zero."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.evaluation import metrics
from airworthy.evaluation.known_labels import key_of, labels_by_id
from airworthy.evaluation.metrics import Labels
from airworthy.intervals import Interval


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
    known = labels_by_id(use_case, first, now)
    ids = [key_of(json.loads(text), use_case.prediction.id) for text in predictions["id"].to_pylist()]
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
