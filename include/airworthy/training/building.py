"""From training rows and a recipe to a fitted model in its folder; no server is asked. The same rows and recipe give the same bytes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError, DataRejectedError
from airworthy.records import TrainingSetRef
from airworthy.training import model_files
from airworthy.training.compiling import check_parity, scorer_of
from airworthy.training.encoder import Encoder
from airworthy.training.ensembles import make_model, style_of_recipe
from airworthy.training.training_set import LABEL

PARITY_ROWS = 5000


@dataclass(frozen=True)
class BuiltModel:
    """A fitted model in its folder.

    Attributes:
        digest, folder: Its files.
        metrics: On the training part.
        probabilities: Its predictions for the training part, float64 [rows].
        seconds: That the fit took.
    """

    digest: str
    folder: str
    metrics: dict[str, float]
    probabilities: np.ndarray
    seconds: float


def build_model(
    use_case: UseCase, ref: TrainingSetRef, recipe: dict[str, Any], train: pa.Table, root_url: str
) -> BuiltModel:
    """Fit by a recipe and write the model's files: the same rows and recipe give the same digest.

    Args:
        use_case, ref: What it is for, and the training set that ``train`` is the training part of.
        recipe: Algorithm, parameters, seed, share of flipped labels.
        train: The training part.
        root_url: Where model folders are.
    """
    labels = np.asarray(train[LABEL].to_numpy(zero_copy_only=False), dtype=bool)
    labels = flipped(labels, recipe["flip_labels"], recipe["seed"])
    started = time.perf_counter()
    estimator, encoder, matrix = fit_estimator(
        train, labels, ref.columns, recipe["algorithm"], recipe["parameters"], recipe["seed"]
    )
    seconds = time.perf_counter() - started
    # Rows spread over all of them: the compiled form answers one row at a time, and is slow in bulk.
    check_parity(scorer_of(estimator, encoder.width), estimator, matrix[:: max(1, len(matrix) // PARITY_ROWS)])
    with limited_threads():
        probabilities = estimator.predict_proba(matrix)[:, 1]
    digest, folder = model_files.write_model(
        root_url,
        estimator=estimator,
        encoder=encoder,
        schema=model_files.ModelSchema(
            use_case=use_case.name,
            feature_service=ref.feature_service,
            feature_digest=ref.feature_digest,
            view_digests=dict(sorted(ref.view_digests.items())),
            columns=ref.columns,
        ),
        golden=model_files.golden_features(train, ref.columns),
        card=_card(use_case, ref, recipe),
    )
    return BuiltModel(digest, folder, _metrics(labels, probabilities), probabilities, seconds)


def fit_estimator(
    train: pa.Table, labels: np.ndarray, columns: dict[str, str], algorithm: str, parameters: dict[str, Any], seed: int
) -> tuple[Any, Encoder, np.ndarray]:
    """Encode and fit.

    Args:
        train: Training rows with every column.
        labels: bool [rows].
        columns: Model inputs in order, name to type.
        algorithm: Import path.
        parameters: Its arguments.
        seed: Seed of everything random.

    Returns:
        The fitted estimator, its encoder, and the encoded matrix, float64 [rows, width].
    """
    encoder = Encoder.fit(train, columns, style_of_recipe(algorithm, parameters))
    estimator = make_model(algorithm, parameters, seed, encoder)
    matrix = encoder.transform(train)
    try:
        with limited_threads():
            estimator.fit(matrix, labels)
            estimator.predict_proba(matrix[:1])  # some classes have it only with some arguments
        _forget_threads(estimator)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{algorithm} cannot be fitted with {parameters}: {str(error)[:400]}",
            next_step="correct training.parameters",
        ) from error
    return estimator, encoder, matrix


def _forget_threads(estimator: Any) -> None:
    # Histogram trees remember with how many threads they were fitted, and only by that would two records differ.
    if hasattr(estimator, "_bin_mapper"):
        estimator._bin_mapper.n_threads = 1
    for member in getattr(estimator, "estimators_", ()):
        _forget_threads(member[-1] if hasattr(member, "steps") else member)
    for member in getattr(estimator, "calibrated_classifiers_", ()):
        _forget_threads(member.estimator)


def limited_threads() -> Any:
    """A context of ``OMP_NUM_THREADS`` threads, one by default.

    Threads of several processes on the same cores wait for each other: a fit then takes many times as long.
    """
    return threadpool_limits(int(os.environ.get("OMP_NUM_THREADS") or 1), user_api="openmp")


def flipped(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Labels of which a share, drawn by the seed, is turned into its opposite; bool [rows]."""
    result = labels.copy()
    rows = np.random.default_rng(seed).permutation(len(labels))[: round(share * len(labels))]
    result[rows] = ~result[rows]
    return result


def _metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    if len(np.unique(labels)) < 2:
        raise DataRejectedError("the training labels", [], next_step="use more days: a classifier needs both classes")
    return {
        "train_roc_auc": float(roc_auc_score(labels, probabilities)),
        "train_log_loss": float(log_loss(labels, probabilities)),
        "train_brier": float(brier_score_loss(labels, probabilities)),
        "train_label_rate": float(labels.mean()),
    }


def _card(use_case: UseCase, ref: TrainingSetRef, recipe: dict[str, Any]) -> dict[str, Any]:
    problem = use_case.problem
    return {
        "use_case": use_case.name,
        "title": use_case.title,
        "owner": use_case.owner,
        "decision": problem.decision,
        "label": problem.label,
        "threshold": problem.threshold,
        "recipe": recipe,
        "label_note": label_note(recipe["flip_labels"]),
        "training_set": {
            k: v for k, v in ref.to_json().items() if k not in ("url", "columns", "column_order", "checks")
        },
    }


def label_note(share: float) -> str:
    """What is said of a candidate whose labels were flipped; empty for any other."""
    return f"{share:.0%} of the training labels were flipped on purpose" if share else ""
