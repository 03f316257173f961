"""The algorithm of a training: a scikit-learn classifier by import path."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from airworthy.errors import ConfigurationError
from airworthy.training.encoder import Style
from airworthy.training.scorer import HISTOGRAM_TREES, require_compiled_form

NAN_TREES = frozenset({*HISTOGRAM_TREES, "RandomForestClassifier", "ExtraTreesClassifier"})


def find_algorithm(path: str) -> type:
    """The class of an import path.

    Raises:
        ConfigurationError: there is no such class, or it gives no probabilities.
        ReleaseError: it has no compiled form.
    """
    module_name, _, name = path.rpartition(".")
    try:
        algorithm = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"training.algorithm {path!r} cannot be imported: {error}",
            next_step="give the import path of a classifier, such as sklearn.ensemble.HistGradientBoostingClassifier",
        ) from error
    if (
        not isinstance(algorithm, type)
        or not hasattr(algorithm, "predict_proba")
        or not hasattr(algorithm, "get_params")
    ):
        raise ConfigurationError(
            f"training.algorithm {path!r} is no scikit-learn classifier with predict_proba",
            next_step="give a classifier, such as sklearn.ensemble.HistGradientBoostingClassifier",
        )
    require_compiled_form(algorithm)
    return algorithm


def check_arguments(algorithm: str, parameters: dict[str, Any]) -> None:
    """Hold arguments against what the algorithm says that it takes, before any row is read.

    Raises:
        ConfigurationError: no such algorithm or argument, or a value that scikit-learn refuses.
    """
    estimator = make_estimator(find_algorithm(algorithm), parameters, 0, [])
    try:
        estimator._validate_params()
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
        ConfigurationError: an argument that the class does not have.
    """
    accepted = inspect.signature(algorithm).parameters
    unknown = sorted(set(parameters) - set(accepted))
    if unknown:
        raise ConfigurationError(
            f"training.parameters: {algorithm.__name__} has no argument {', '.join(unknown)}",
            next_step=f"choose from {', '.join(sorted(accepted))}",
        )
    defaults: dict[str, Any] = {"random_state": seed}
    if algorithm.__name__ in HISTOGRAM_TREES and any(categorical_mask):
        defaults["categorical_features"] = categorical_mask
    return algorithm(**{**{k: v for k, v in defaults.items() if k in accepted}, **parameters})
