"""SHAP values: they sum, they are those of the definition and of the shap library, and what is unused gets nothing."""

from __future__ import annotations

from itertools import combinations, permutations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airworthy.errors import ReleaseError
from airworthy.training import model_files, shapley
from airworthy.training.model_files import LoadedModel
from airworthy.training.shapley import attributions, background, drawn_orders

from .models import COLUMNS, VOTE, fitted, rows

TREES, LINEAR = "sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.linear_model.LogisticRegression"
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "trees": (TREES, {"max_iter": 40}),
    "linear": (LINEAR, {"max_iter": 300}),
    "ensemble": ("sklearn.ensemble.VotingClassifier", VOTE),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    return {name: model(tmp_path_factory.mktemp(name), *how) for name, how in MODELS.items()}


def model(folder: Path, algorithm: str, parameters: dict[str, Any]) -> LoadedModel:
    estimator, encoder = fitted(algorithm, parameters)
    schema = model_files.ModelSchema(use_case="t", feature_service="t", feature_digest="f" * 64, columns=COLUMNS)
    golden = model_files.golden_features(rows(1500), COLUMNS)
    digest, url = model_files.write_model(
        str(folder), estimator=estimator, encoder=encoder, schema=schema, golden=golden, card={}, requirements=[]
    )
    return model_files.load(url, digest)


@pytest.mark.parametrize("name", MODELS)
def test_they_are_those_of_the_shap_library_and_of_the_definition(name: str, models: dict[str, LoadedModel]) -> None:
    from shap.explainers import Permutation

    # Given vectors with gaps and with categories never seen.
    given, pairs = models[name], 4
    vectors = given.encoder.numbers(rows(5, seed=9, strange=True))
    # Given the orders that the library draws.
    rng = np.random.RandomState(3)
    order, orders = np.arange(vectors.shape[1]), []
    for _ in range(pairs):
        rng.shuffle(order)
        orders.append(order.copy())
    # When both explain the first vector by them.
    ours = attributions(given, vectors[:1], np.stack(orders))
    library = Permutation(lambda m: given.scorer.predict(given.encoder.finish(m)), Masker(background(given)), seed=3)
    theirs = library(vectors[:1], max_evals=pairs * (2 * vectors.shape[1] + 1))
    # Then they are the same.
    assert ours.effects[0] == pytest.approx(theirs.values[0], abs=1e-12)
    assert ours.base == pytest.approx(float(np.ravel(theirs.base_values)[0]), abs=1e-12)
    # And, by the orders that are drawn, they sum to the score that is served and are near the values of the definition.
    found = attributions(given, vectors)
    assert found.scores == pytest.approx(given.predict_table(rows(5, seed=9, strange=True)), abs=1e-12)
    assert found.base + found.effects.sum(axis=1) == pytest.approx(found.scores, abs=shapley.TOLERANCE)
    exact = brute_force(given, vectors[0])
    assert np.abs(exact).max() > 0.05
    assert found.effects[0] == pytest.approx(exact, abs=0.02)
    # By all orders, each of them once, they are the definition's.
    every = np.array([o for o in permutations(range(len(COLUMNS))) if o[0] < o[-1]])
    assert attributions(given, vectors[:1], every).effects[0] == pytest.approx(exact, abs=1e-12)


def test_a_feature_that_the_model_does_not_use_gets_nothing(tmp_path: Path) -> None:
    # Given one split, on the carrier; all the features differ between the vectors and the background.
    stump = model(tmp_path, TREES, {"max_iter": 1, "max_leaf_nodes": 2})
    found = attributions(stump, stump.encoder.numbers(rows(20, seed=9)), drawn_orders(len(COLUMNS), 2))
    assert [name for name, used in zip(COLUMNS, found.effects.any(axis=0), strict=True) if used] == ["carrier"]


def test_values_that_do_not_sum_are_refused(models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    given = models["linear"]
    vectors = given.encoder.numbers(rows(3, seed=9))
    # Given a scorer whose single answers are not those of a batch; then one that answers with no number.
    for wrong in (1e-6, np.nan):
        honest = type(given.scorer).predict
        with monkeypatch.context() as patch:
            patch.setattr(type(given.scorer), "predict", lambda s, m, h=honest, w=wrong: h(s, m) + w * (len(m) == 3))
            with pytest.raises(ReleaseError, match="do not sum"):
                attributions(given, vectors)


class Masker:
    """A background for the library, without its short cut for values that are nearly the same."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape = rows, rows.shape

    def __call__(self, mask: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray]:
        return (np.where(mask, vector, self.rows),)


def brute_force(given: LoadedModel, vector: np.ndarray) -> np.ndarray:
    """Shapley values from the value of every coalition, by the definition."""
    known, count = background(given), len(vector)

    def value(coalition: tuple[int, ...]) -> float:
        mixed = known.copy()
        mixed[:, list(coalition)] = vector[list(coalition)]
        return float(given.scorer.predict(given.encoder.finish(mixed)).mean())

    found = np.zeros(count)
    for player in range(count):
        others = [i for i in range(count) if i != player]
        for size in range(count):
            weight = factorial(size) * factorial(count - size - 1) / factorial(count)
            for coalition in combinations(others, size):
                joined = tuple(sorted((*coalition, player)))
                found[player] += weight * (value(joined) - value(coalition))
    return found
