"""Small fitted models on made-up flights, for the tests of training and registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from airworthy.training.building import fit_estimator
from airworthy.training.encoder import Encoder

COLUMNS = {
    "carrier": "string",
    "dest": "string",
    "hour": "int64",
    "wind": "float64",
    "late_7d": "float64",
    "holiday": "boolean",
}
CALIBRATED = "sklearn.calibration.CalibratedClassifierCV"
VOTE: dict[str, Any] = {
    "members": {
        "trees": {
            "algorithm": "sklearn.ensemble.HistGradientBoostingClassifier",
            "parameters": {"max_iter": 30},
            "weight": 2,
        },
        "linear": {"algorithm": "sklearn.linear_model.LogisticRegression", "parameters": {"max_iter": 300}},
        "forest": {
            "algorithm": "sklearn.ensemble.RandomForestClassifier",
            "parameters": {"n_estimators": 10, "max_depth": 6},
            "weight": 0.5,
        },
    }
}
ALGORITHMS: list[tuple[str, dict[str, Any]]] = [
    ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 40}),
    ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 15, "max_leaf_nodes": 63, "learning_rate": 0.3}),
    ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20, "max_depth": 8}),
    ("sklearn.ensemble.ExtraTreesClassifier", {"n_estimators": 20, "max_depth": 8}),
    ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 20}),
    ("sklearn.linear_model.LogisticRegression", {"max_iter": 300}),
    ("sklearn.ensemble.VotingClassifier", VOTE),
    ("sklearn.linear_model.LogisticRegressionCV", {"max_iter": 300, "Cs": 2, "cv": 2}),
    ("sklearn.discriminant_analysis.LinearDiscriminantAnalysis", {}),
    *(
        (CALIBRATED, {"estimator": {"algorithm": algorithm, "parameters": parameters}, **how})
        for algorithm, parameters, how in (
            ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 20}, {"method": "isotonic", "cv": 3}),
            (
                "sklearn.ensemble.RandomForestClassifier",
                {"n_estimators": 9, "max_depth": 6},
                {"method": "isotonic", "cv": 2},
            ),
            ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 9}, {"cv": 2, "ensemble": False}),
            ("sklearn.linear_model.LogisticRegression", {"max_iter": 300}, {"method": "sigmoid"}),
        )
    ),
    (
        "sklearn.ensemble.VotingClassifier",
        {"members": {"a": VOTE["members"]["trees"], "b": {**VOTE["members"]["trees"], "parameters": {"max_iter": 9}}}},
    ),
]


def rows(n: int, seed: int = 0, *, strange: bool = False) -> pa.Table:
    """Rows with gaps; ``strange`` adds categories that training never saw and far-off numbers."""
    rng = np.random.default_rng(seed)
    carriers = ["AA", "B6", "DL", "UA", "WN"] + (["ZZ", "??"] if strange else [])
    dests = [f"D{i:02d}" for i in range(60 + 20 * strange)]
    spread = 50.0 if strange else 1.0
    return pa.table(
        {
            "carrier": gaps(rng, rng.choice(carriers, n)),
            "dest": gaps(rng, rng.choice(dests, n)),
            "hour": pa.array(rng.integers(0, 24, n)),
            "wind": gaps(rng, np.round(rng.gamma(2, 4 * spread, n), 1)),
            "late_7d": gaps(rng, rng.random(n) * spread),
            "holiday": pa.array(rng.random(n) < 0.1),
        }
    )


def gaps(rng: np.random.Generator, values: np.ndarray) -> pa.Array:
    return pa.array(values.tolist(), mask=rng.random(len(values)) < 0.1)


def labels(table: pa.Table, seed: int = 0) -> np.ndarray:
    """Labels that depend on carrier, hour and wind, with noise; bool [rows]."""
    rng = np.random.default_rng(seed + 1)
    score = (
        np.array([c in ("B6", "UA") for c in table["carrier"].to_pylist()]) * 1.0
        + table["hour"].to_numpy() / 12
        + np.array([w or 0.0 for w in table["wind"].to_pylist()]) / 20
    )
    return score + rng.normal(0, 0.8, len(score)) > 2.0


def fitted(algorithm: str, parameters: dict[str, Any], n: int = 1500) -> tuple[Any, Encoder]:
    """A fitted estimator and its encoder."""
    table = rows(n)
    estimator, encoder, _ = fit_estimator(table, labels(table), COLUMNS, algorithm, parameters, 7)
    return estimator, encoder
