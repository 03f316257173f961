"""The recipe of a use case, held against scikit-learn before any row is read: a typing error must not cost a search."""

from __future__ import annotations

from typing import Any

from airworthy.config import UseCase
from airworthy.config.training_spec import inner_models
from airworthy.errors import ConfigurationError
from airworthy.training import search_plan
from airworthy.training.algorithm import check_arguments, find_algorithm, make_estimator
from airworthy.training.ensembles import make_outer


def check_recipe(use_case: UseCase) -> None:
    """Check the arguments of the algorithm, and each range of the search at both its ends.

    Raises:
        ConfigurationError: no such algorithm or argument, or a value that scikit-learn refuses; the message names it.
    """
    training = use_case.training
    _check(training.algorithm, training.parameters)
    for name, space in training.search.space.items() if training.search else ():
        for value in space.choices or [search_plan.value_at(space, u) for u in (0.0, 1 - 1e-12)]:
            try:
                _check(training.algorithm, search_plan.with_values(training, {name: value}))
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"training.search.space.{name} of {use_case.name}, at {value!r}: {error.what}",
                    next_step="correct the range in use_case.yaml",
                ) from error


def _check(algorithm: str, parameters: dict[str, Any]) -> None:
    parts = {}
    for name, part in inner_models(algorithm, parameters).items():
        try:
            parts[name] = make_estimator(find_algorithm(part["algorithm"]), part.get("parameters", {}), 0, [])
            check_arguments(parts[name])
        except ConfigurationError as error:
            raise ConfigurationError(f"member {name}: {error.what}", next_step=error.next_step) from error
    check_arguments(make_outer(algorithm, parameters, parts, 0, []))
