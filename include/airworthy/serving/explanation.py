"""What moved a probability: the SHAP values of its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airworthy.serving.contract import Effect, plain
from airworthy.training.model_files import LoadedModel
from airworthy.training.shapley import attributions


@dataclass(frozen=True)
class Explained:
    """Why a probability is what it is: ``base`` and the changes of ``effects``, largest first, sum to it."""

    base: float
    probability: float
    effects: list[Effect]


def explained(model: LoadedModel, vector: Mapping[str, Any]) -> Explained:
    """What each input of a vector did to its probability.

    Args:
        model: The model.
        vector: Its inputs by name; None where nothing is known.

    Raises:
        KeyError: an input of the model is not in the vector.
        DataRejectedError: a value is of another kind, or infinite.
        ReleaseError: the values do not sum to the probability.
    """
    values = {name: vector[name] for name in model.columns}
    found = attributions(model, model.encoder.numbers_of([values]))
    effects = [
        Effect(feature=name, value=plain(value), change=float(change))
        for (name, value), change in zip(values.items(), found.effects[0], strict=True)
    ]
    return Explained(found.base, float(found.scores[0]), sorted(effects, key=lambda effect: -abs(effect.change)))
