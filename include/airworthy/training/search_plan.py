"""What a search will try, drawn before it begins.

Trial k is a function of the specification and k alone, so the outcome does not hang on the order of the trials, on how
many workers share them, or on how often one of them was killed. The points are those of a scrambled Halton sequence
(Halton 1960; Owen 2017, "A randomized Halton algorithm in R"), which covers a space more evenly than independent
draws; a longer search begins with the trials of a shorter one.
"""

from __future__ import annotations

import json
import math
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from airworthy.config.training_spec import Range, Training, inner_models

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def draw(training: Training, trials: int | None = None) -> list[dict[str, Any]]:
    """The arguments of each trial, in order; the first are the specification's own.

    Args:
        training: The specification, which has a ``search``.
        trials: Instead of the specification's number.

    Returns:
        Complete arguments, as ``fit`` takes them. Fewer than asked for where a small space has no more.
    """
    search = training.search
    if search is None:
        return [training.parameters]
    from scipy.stats import qmc

    names = sorted(search.space)
    wanted = search.trials if trials is None else trials
    points = qmc.Halton(len(names), scramble=True, rng=np.random.default_rng(training.seed)).random(max(0, wanted - 1))
    drawn = [training.parameters]
    for point in points:
        values = {name: value_at(search.space[name], float(u)) for name, u in zip(names, point, strict=True)}
        drawn.append(with_values(training, values))
    return list({json.dumps(p, sort_keys=True, default=str): p for p in drawn}.values())


def value_at(space: Range, u: float) -> Any:
    """The value of a range at u, 0 to 1 (1 excluded)."""
    if space.type == "choice":
        return space.choices[int(u * len(space.choices))]
    low, high = float(space.low or 0), float(space.high or 0)
    top = high + 1 if space.type == "int" else high
    value = low * math.exp(u * math.log(top / low)) if space.log else low + u * (top - low)
    if space.type == "int":
        return min(int(high), max(int(low), math.floor(value)))
    # Six digits: what is logged is what was tried.
    return min(high, max(low, float(f"{value:.6g}")))


def with_values(training: Training, values: dict[str, Any]) -> dict[str, Any]:
    """The specification's arguments with these in place of its own; members' are named ``<member>.<argument>``."""
    parameters = deepcopy(training.parameters)
    for name, value in values.items():
        member, dot, argument = name.partition(".")
        if dot:
            inner_models(training.algorithm, parameters)[member].setdefault("parameters", {})[argument] = value
        else:
            parameters[name] = value
    return parameters


def tried(training: Training, parameters: dict[str, Any]) -> dict[str, Any]:
    """The values of the searched arguments, as the space names them; those that are not given are left out."""
    found: dict[str, Any] = {}
    for name in training.search.space if training.search else ():
        member, dot, argument = name.partition(".")
        inner = inner_models(training.algorithm, parameters)
        own = inner[member].get("parameters", {}) if dot else parameters
        if (argument if dot else name) in own:
            found[name] = own[argument if dot else name]
    return found


def distributions(training: Training) -> dict[str, BaseDistribution]:
    """The space in Optuna's terms, for its plots and its dashboard."""
    from optuna import distributions as of

    found: dict[str, BaseDistribution] = {}
    for name, space in training.search.space.items() if training.search else ():
        low, high = float(space.low or 0), float(space.high or 0)
        if space.type == "choice":
            found[name] = of.CategoricalDistribution(tuple(space.choices))
        elif space.type == "int":
            found[name] = of.IntDistribution(int(low), int(high), log=space.log)
        else:
            found[name] = of.FloatDistribution(low, high, log=space.log)
    return found
