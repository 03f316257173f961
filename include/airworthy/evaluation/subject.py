"""What a verdict measures: a candidate with the rows that it was made from, and the rows that decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from airworthy.config.training_spec import CALIBRATED
from airworthy.evaluation.metrics import Labels
from airworthy.training.building import fit_estimator, flipped
from airworthy.training.model_files import LoadedModel

SAMPLE_STREAM = 1


@dataclass(frozen=True)
class Holdout:
    """The rows that decide, in the order of the training set's file.

    Attributes:
        rows: Ids, slice columns, features.
        labels: Outcomes, shape [n].
    """

    rows: pa.Table
    labels: Labels

    @classmethod
    def of(cls, rows: pa.Table) -> Holdout:
        """The holdout from rows with ``label``."""
        return cls(rows, labels_of(rows))

    def sample(self, count: int, seed: int) -> Holdout:
        """So many rows drawn by the seed, in their order; all when there are no more."""
        picks = picked(self.rows.num_rows, count, seed)
        return Holdout(self.rows.take(pa.array(picks)), self.labels[picks])


@dataclass(frozen=True)
class Subject:
    """A candidate under examination.

    Attributes:
        model: As it will serve.
        estimator: The recorded scikit-learn estimator of the same files.
        folder: Where the files are.
        train: Training rows with ``label``.
        holdout: The rows that decide.
        seed: Of every sample that is drawn.
    """

    model: LoadedModel
    estimator: Any
    folder: str
    train: pa.Table
    holdout: Holdout
    seed: int

    @property
    def recipe(self) -> dict[str, Any]:
        """How it was fitted: ``algorithm``, ``parameters``, ``seed``, ``flip_labels``."""
        found: dict[str, Any] = self.model.card.get("recipe") or {}
        return found

    @property
    def absent(self) -> list[str]:
        """Inputs of the model that the holdout does not have."""
        return sorted(set(self.model.columns) - set(self.holdout.rows.schema.names))

    def train_labels(self) -> Labels:
        """The labels that it learned from, flipped ones included."""
        share, seed = float(self.recipe.get("flip_labels") or 0.0), int(self.recipe.get("seed") or 0)
        return np.asarray(flipped(labels_of(self.train), share, seed), dtype=bool)

    def refit(
        self, rows: pa.Table, labels: Labels, seed: int, *, calibrate: bool = True
    ) -> tuple[Any, Any, np.ndarray]:
        """Fit the same recipe on other rows or by another seed; estimator, encoder and encoded rows.

        A ``random_state`` among the parameters gives way to the seed: it would hide how much hangs on it. Without
        ``calibrate`` a calibrated recipe is fitted as the model inside it.
        """
        algorithm, parameters = str(self.recipe.get("algorithm")), self.recipe.get("parameters") or {}
        if algorithm == CALIBRATED and not calibrate:
            algorithm, parameters = parameters["estimator"]["algorithm"], parameters["estimator"].get("parameters", {})
        return fit_estimator(rows, labels, self.model.columns, algorithm, _without_seed(parameters), seed)


def _without_seed(parameters: dict[str, Any]) -> dict[str, Any]:
    """Arguments without ``random_state``, those of an ensemble's members included."""
    kept = {k: v for k, v in parameters.items() if k != "random_state"}
    return {k: _without_seed(v) if isinstance(v, dict) else v for k, v in kept.items()}


def labels_of(rows: pa.Table) -> Labels:
    """The column ``label``, bool [n]."""
    return np.asarray(rows["label"].cast(pa.bool_()).to_numpy(), dtype=bool)


def picked(total: int, count: int, seed: int) -> np.ndarray:
    """Numbers of so many of the rows, drawn by the seed and sorted; int64 [min(total, count)]."""
    if count >= total:
        return np.arange(total)
    # A stream of its own: by the bare seed the rows would be those whose labels ``flipped`` turned.
    return np.sort(np.random.default_rng((seed, SAMPLE_STREAM)).permutation(total)[:count])
