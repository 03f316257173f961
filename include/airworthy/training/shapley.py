"""SHAP values: what each feature of a vector did to its probability, so that they and the base sum to it.

The value of a feature is the mean, over orders of the features, of what the probability changes by when the feature's
value takes the place of a background row's, after the features before it did; and the mean over the background rows
(Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions", 2017). Orders are drawn, each with its
reverse (Mitchell et al., "Sampling Permutations for Shapley Value Estimation", 2022), which is exact for models whose
features act alone or in pairs. Within an order the changes telescope, so the sum is exact however few orders there are.

On the scale of the probability: it is what is served and what the threshold cuts, and log-odds are infinite where a
forest answers 0 or 1. The players are the features as they are named, whatever columns the encoder makes of them.

These are the values of ``shap.explainers.Permutation`` for the same orders (a test holds them against it). That library
is not used here: a service's worker would pay for its import, and numba's, with a second and 88 MB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airworthy.errors import ReleaseError
from airworthy.training.model_files import MADE_UP, LoadedModel

TOLERANCE = 1e-9
PAIRS = 8
SEED = 7


@dataclass(frozen=True)
class Attributions:
    """SHAP values of some vectors.

    Attributes:
        columns: The features in their order.
        base: Mean probability of the background.
        scores: Probabilities of the vectors, float64 [rows].
        effects: What each feature did, float64 [rows, features]; ``base`` and a row's effects sum to its score.
        numbers: The vectors as the encoder's numbers, float64 [rows, features], NaN where nothing is known.
    """

    columns: tuple[str, ...]
    base: float
    scores: np.ndarray
    effects: np.ndarray
    numbers: np.ndarray


def background(model: LoadedModel) -> np.ndarray:
    """What a feature's value is held against: the training rows among the release's golden vectors, as numbers."""
    rows = model.golden[:-MADE_UP] or model.golden
    return model.encoder.numbers_of([golden["features"] for golden in rows])


def drawn_orders(features: int, pairs: int = PAIRS) -> np.ndarray:
    """Orders of the features, always the same: int64 [pairs, features]."""
    rng = np.random.default_rng(SEED)
    return np.stack([rng.permutation(features) for _ in range(pairs)])


def attributions(model: LoadedModel, numbers: np.ndarray, orders: np.ndarray | None = None) -> Attributions:
    """SHAP values of vectors.

    Args:
        model: The model.
        numbers: Vectors as ``model.encoder.numbers`` has them, float64 [rows, features].
        orders: Orders of the features, int64 [pairs, features], each of them used both ways; by default drawn.

    Raises:
        ReleaseError: base and effects of a vector do not sum to its score within 1e-9, or are no numbers.
    """
    rows = background(model)
    count, features = rows.shape
    one_way = drawn_orders(features) if orders is None else orders
    both_ways = [*one_way, *one_way[:, ::-1]]
    base = float(model.scorer.predict(model.encoder.finish(rows)).mean())
    scores = model.scorer.predict(model.encoder.finish(numbers))
    effects = np.zeros(numbers.shape)
    for vector, effect in zip(numbers, effects, strict=True):
        for order in both_ways:
            # Step k: the first k features of the order have the vector's values, the others a background row's.
            steps = np.repeat(rows[None], features + 1, axis=0)
            for step, feature in enumerate(order):
                steps[step + 1 :, :, feature] = vector[feature]
            answers = model.scorer.predict(model.encoder.finish(steps.reshape(-1, features)))
            effect[order] += np.diff(answers.reshape(-1, count).mean(axis=1)) / len(both_ways)
    _require_sums(base, scores, effects)
    return Attributions(tuple(model.columns), base, scores, effects, numbers)


def _require_sums(base: float, scores: np.ndarray, effects: np.ndarray) -> None:
    off = np.abs(base + effects.sum(axis=1) - scores)
    # Written so that NaN, which compares false, is refused.
    if not (off <= TOLERANCE).all():
        raise ReleaseError(
            f"SHAP values do not sum to the score: off by up to {np.nan_to_num(off, nan=np.inf).max():.3g}",
            next_step="a model that answers the same vector differently, or with no number, must not serve",
        )
