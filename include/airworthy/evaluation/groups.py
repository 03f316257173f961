"""Figures value by value, by fairlearn's MetricFrame: slices (quality) and groups (how alike they are treated)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.evaluation import metrics
from airworthy.evaluation.metrics import Labels, Scores
from airworthy.evaluation.records import SliceEvidence
from airworthy.evaluation.subject import Holdout
from airworthy.records import GroupShare

EMPTY = "(empty)"
Figures = Mapping[str, Callable[[Any, Any], float]]


def slices(
    columns: list[str], holdout: Holdout, candidate: Scores | None, champion: Scores | None
) -> tuple[SliceEvidence, ...]:
    """ROC AUC of both models in each value of each column, largest slice first."""
    found: list[SliceEvidence] = []
    for column in columns:
        if column not in holdout.rows.schema.names or not holdout.labels.size:
            continue
        rows = _by_value(column, holdout, np.zeros(holdout.labels.size), {"rows": lambda y, _: float(len(y))})
        ours = _by_value(column, holdout, candidate, {"auc": _auc})
        theirs = _by_value(column, holdout, champion, {"auc": _auc})
        here = [
            SliceEvidence(
                column=column, value=value, rows=int(seen["rows"]),
                candidate=_known(ours.get(value, {}).get("auc")), champion=_known(theirs.get(value, {}).get("auc")),
            )
            for value, seen in rows.items()
        ]  # fmt: skip
        found += sorted(here, key=lambda s: (-s.rows, s.value))
    return tuple(found)


def groups(columns: list[str], holdout: Holdout, scores: Scores | None, *, threshold: float) -> tuple[GroupShare, ...]:
    """How each group is treated when one acts from the threshold on, largest group first.

    The three shares are those of demographic parity (selection), equal opportunity (hits) and equalised odds (hits and
    false alarms; Hardt et al., 2016).
    """
    figures: Figures = {
        "rows": lambda y, _: float(len(y)),
        "selection": lambda _, act: _mean(act),
        "hits": lambda y, act: _mean(act[y]),
        "false_alarms": lambda y, act: _mean(act[~y]),
    }
    found: list[GroupShare] = []
    for column in columns:
        if column not in holdout.rows.schema.names or scores is None or not metrics.finite(scores):
            continue
        here = [
            GroupShare(
                column=column, value=value, rows=int(seen["rows"]), selection=_known(seen["selection"]),
                hits=_known(seen["hits"]), false_alarms=_known(seen["false_alarms"]),
            )
            for value, seen in _by_value(column, holdout, (scores >= threshold), figures).items()
        ]  # fmt: skip
        found += sorted(here, key=lambda g: (-g.rows, g.value))
    return tuple(found)


def _by_value(
    column: str, holdout: Holdout, predicted: Scores | Labels | None, figures: Figures
) -> dict[str, dict[str, float]]:
    """Each figure in each value of a column."""
    if predicted is None or not holdout.labels.size:
        return {}
    import pandas as pd
    from fairlearn.metrics import MetricFrame

    texts = pc.fill_null(holdout.rows[column].cast(pa.string()), EMPTY).to_numpy(zero_copy_only=False)
    frame = MetricFrame(
        metrics=dict(figures), y_true=holdout.labels, y_pred=predicted, sensitive_features=pd.Series(texts, name=column)
    )
    table = frame.by_group
    return {str(value): {name: float(table[name][value]) for name in figures} for value in table.index}


def _auc(labels: Any, scores: Any) -> float:
    found = metrics.roc_auc(np.asarray(labels, dtype=bool), np.asarray(scores))
    return float("nan") if found is None else found


def _mean(values: Any) -> float:
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")


def _known(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
