"""What moved a probability: each value that is known is withheld once, by itself, and the model asked again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airworthy.serving.contract import Effect, plain
from airworthy.training.model_files import LoadedModel


def withheld(model: LoadedModel, vector: Mapping[str, Any]) -> tuple[float, list[Effect]]:
    """The probability of a vector, and the change that each known value makes to it, the largest first.

    Args:
        model: The model.
        vector: Its inputs by name; None where nothing is known.

    Returns:
        The probability, and for each known value how much higher the probability is with it than without it.

    Raises:
        KeyError: an input of the model is not in the vector.
        DataRejectedError: a value is of another kind, or infinite.
    """
    values = {name: vector[name] for name in model.columns}
    known = [name for name, value in values.items() if value is not None]
    answer, *without = map(float, model.predict([values, *({**values, name: None} for name in known)]))
    effects = [
        Effect(feature=name, value=plain(values[name]), change=answer - other)
        for name, other in zip(known, without, strict=True)
    ]
    return answer, sorted(effects, key=lambda effect: -abs(effect.change))
