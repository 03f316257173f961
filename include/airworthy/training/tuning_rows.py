"""The rows that a search fits on and compares on: the newest days of the training part, and what was known before."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError, ReleaseError
from airworthy.intervals import DAY
from airworthy.records import TrainingSetRef
from airworthy.training.building import fit_estimator, limited_threads
from airworthy.training.labelled_rows import refused
from airworthy.training.training_set import LABEL, TIME, part


class Metric(NamedTuple):
    """How trials are compared: its words, which way is better, and the function of labels and probabilities."""

    words: str
    maximise: bool
    function: Callable[[np.ndarray, np.ndarray], float]


def _log_loss(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import log_loss

    return float(log_loss(labels, scores))


def _roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def _brier(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(np.mean((scores - labels) ** 2))


METRICS = {
    "log_loss": Metric("log loss", False, _log_loss),
    "roc_auc": Metric("ROC AUC", True, _roc_auc),
    "brier": Metric("Brier score", False, _brier),
}


@dataclass(frozen=True)
class TuningRows:
    """Rows to fit a trial on, and later ones to compare it on.

    Attributes:
        fit, tune: The rows, both samples of the training part; every row of ``fit`` is older than any of ``tune``.
        columns: Model inputs in order, name to type.
        metric: What is compared.
        words: The rows in a line.
    """

    fit: pa.Table
    tune: pa.Table
    columns: dict[str, str]
    metric: Metric
    words: str
    labels: tuple[np.ndarray, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", (_labels(self.fit), _labels(self.tune)))

    def value(self, algorithm: str, parameters: dict[str, Any], seed: int) -> tuple[float | None, str]:
        """The metric of a model that is fitted with these arguments; None and the reason where there is none."""
        try:
            estimator, encoder, _ = fit_estimator(self.fit, self.labels[0], self.columns, algorithm, parameters, seed)
        except (ConfigurationError, ReleaseError) as error:
            return None, error.what[:300]
        with limited_threads():
            scores = estimator.predict_proba(encoder.transform(self.tune))[:, 1]
        value = self.metric.function(self.labels[1], scores) if np.isfinite(scores).all() else math.nan
        return (value, "") if math.isfinite(value) else (None, f"{self.metric.words} is {value}")


def tuning_rows(use_case: UseCase, rows: pa.Table, ref: TrainingSetRef) -> TuningRows:
    """Split the training part by time and draw the samples.

    Between the two lies the same gap as between the training part and the holdout: labels come in with a delay, and a
    model that is fitted when the tuning days begin would not know those of the last rows either.

    Args:
        use_case: Has a ``training.search``.
        rows: The training set.
        ref: Its record.

    Raises:
        DataRejectedError: a part would be empty or of one class only.
    """
    spec, seed = use_case.training.search, use_case.training.seed
    if spec is None:
        raise ConfigurationError(f"{use_case.name} has no training.search", next_step="add one to use_case.yaml")
    train = part(rows, "train")
    newest: datetime = pc.max(train[TIME]).as_py()
    gap = max(timedelta(0), ref.train_end - newest - timedelta(microseconds=1))
    start = ref.train_end - gap // DAY * DAY - spec.tune_days * DAY
    times = train[TIME]
    moment = pa.scalar(start, times.type)
    fit_rows = train.filter(pc.less(times, pa.scalar(start - gap, times.type)))
    tune_rows = train.filter(pc.greater_equal(times, moment))
    for name, found in (("to fit on", fit_rows), ("to compare on", tune_rows)):
        seen = set(found[LABEL].to_pylist())
        if len(seen) < 2:
            what = f"a search has {found.num_rows} rows {name}, with the labels {sorted(seen)}"
            cure = "lower training.search.tune_days or raise training.min_train_days"
            raise refused(use_case, what, cure, use_case.prediction.label)
    before = (fit_rows.num_rows, tune_rows.num_rows)
    fit_rows, tune_rows = _sample(fit_rows, spec.rows, seed), _sample(tune_rows, spec.rows, seed + 1)
    words = (
        f"the search fits on {fit_rows.num_rows} of {before[0]} rows before {start:%Y-%m-%d %H:%M} UTC and compares on "
        f"{tune_rows.num_rows} of {before[1]} rows from then on"
    )
    return TuningRows(fit_rows, tune_rows, ref.columns, METRICS[spec.metric], words)


def _sample(rows: pa.Table, most: int, seed: int) -> pa.Table:
    if rows.num_rows <= most:
        return rows
    picks = np.sort(np.random.default_rng(seed).permutation(rows.num_rows)[:most])
    return rows.take(pa.array(picks))


def _labels(rows: pa.Table) -> np.ndarray:
    return np.asarray(rows[LABEL].to_numpy(zero_copy_only=False), dtype=bool)
