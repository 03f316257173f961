"""The algorithm of a training: a scikit-learn classifier by import path."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from airworthy.errors import ConfigurationError
from airworthy.training.compiling import HISTOGRAM_TREES
from airworthy.training.encoder import Style

INTERFACE = ("fit", "predict_proba", "get_params", "set_params")
NAN_TREES = frozenset({*HISTOGRAM_TREES, "RandomForestClassifier", "ExtraTreesClassifier"})


def find_algorithm(path: str) -> type:
    """The class of an import path.

    Whether it has a compiled form is for the gate to say, once it is fitted.

    Raises:
        ConfigurationError: there is no such class, or it gives no probabilities.
    """
    module_name, _, name = path.rpartition(".")
    try:
        algorithm = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"training.algorithm {path!r} cannot be imported: {error}",
            next_step="give the import path of a classifier, such as sklearn.ensemble.HistGradientBoostingClassifier",
        ) from error
    if not isinstance(algorithm, type) or not all(hasattr(algorithm, name) for name in INTERFACE):
        raise ConfigurationError(
            f"training.algorithm {path!r} is no scikit-learn classifier with predict_proba",
            next_step="give a classifier, such as sklearn.ensemble.HistGradientBoostingClassifier",
        )
    return algorithm


def check_arguments(estimator: Any) -> None:
    """Hold the arguments of an unfitted estimator against what it says that it takes, before any row is read.

    Raises:
        ConfigurationError: a value that scikit-learn refuses.
    """
    # Only scikit-learn's own classes say it; those of others refuse a value when they are fitted.
    check = getattr(estimator, "_validate_params", None)
    try:
        if check is not None:
            check()
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"training.parameters: {str(error)[:400]}", next_step="correct the value in use_case.yaml"
        ) from error


def style_of(algorithm: type) -> Style:
    """How its inputs are encoded: ``codes`` for trees that take NaN, ``dense`` for the rest."""
    return "codes" if algorithm.__name__ in NAN_TREES else "dense"


def make_estimator(algorithm: type, parameters: dict[str, Any], seed: int, categorical_mask: list[bool]) -> Any:
    """An unfitted estimator.

    Args:
        algorithm: Its class.
        parameters: Its arguments.
        seed: Becomes ``random_state`` where it takes one and none was given.
        categorical_mask: For histogram trees: which columns are categories.

    Raises:
        ConfigurationError: an argument that the class does not have, or one that is missing.
    """
    accepted = inspect.signature(algorithm).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    unknown = [] if anything else sorted(set(parameters) - set(accepted))
    if unknown:
        raise ConfigurationError(
            f"training.parameters: {algorithm.__name__} has no argument {', '.join(unknown)}",
            next_step=f"choose from {', '.join(sorted(accepted))}",
        )
    defaults: dict[str, Any] = {"random_state": seed}
    if algorithm.__name__ in HISTOGRAM_TREES and any(categorical_mask):
        defaults["categorical_features"] = categorical_mask
    try:
        return algorithm(**{**{k: v for k, v in defaults.items() if k in accepted}, **parameters})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"training.parameters: {algorithm.__name__} cannot be made: {str(error)[:300]}",
            next_step="give its arguments in training.parameters",
        ) from error
