"""Models made of models: a soft vote, and a calibrated model.

A soft vote is written ``algorithm: sklearn.ensemble.VotingClassifier``, ``parameters: {members: {name: {algorithm,
parameters, weight}}}``: its probability is the members' mean by weight. Trees read codes and gaps, linear models read one
column for each category: where members differ, the matrix has both halves and each member takes its own.

A calibrated model is written ``algorithm: sklearn.calibration.CalibratedClassifierCV``, ``parameters: {estimator:
{algorithm, parameters}, method, cv}``.
"""

from __future__ import annotations

from typing import Any

from airworthy.config.training_spec import CALIBRATED, VOTING, check_inner, inner_models
from airworthy.errors import ConfigurationError
from airworthy.training.algorithm import find_algorithm, make_estimator, style_of
from airworthy.training.encoder import Encoder, Style


def parts_of(algorithm: str, parameters: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The models that a model is made of, by name; empty for one that is made of no others.

    Raises:
        ConfigurationError: they are not written as the module says.
    """
    try:
        check_inner(algorithm, parameters)
    except ValueError as error:
        raise ConfigurationError(
            f"{algorithm} cannot be made: {error}", next_step="correct training.parameters in use_case.yaml"
        ) from error
    # In the order of their names: that of a mapping does not survive the ledger or XCom, and a sum depends on it.
    return dict(sorted(inner_models(algorithm, parameters).items()))


def style_of_recipe(algorithm: str, parameters: dict[str, Any]) -> Style:
    """How the inputs of an algorithm are encoded; ``both`` for an ensemble whose members differ."""
    parts = [part["algorithm"] for part in parts_of(algorithm, parameters).values()]
    styles = {style_of(find_algorithm(path)) for path in parts or [algorithm]}
    return "both" if len(styles) > 1 else styles.pop()


def make_model(algorithm: str, parameters: dict[str, Any], seed: int, encoder: Encoder) -> Any:
    """An unfitted estimator, one that is made of others included.

    Args:
        algorithm: Import path.
        parameters: Its arguments.
        seed: Seed of everything random.
        encoder: What makes its matrix.

    Raises:
        ConfigurationError: no such algorithm or argument.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    made = {}
    for name, part in parts_of(algorithm, parameters).items():
        found = find_algorithm(part["algorithm"])
        made[name] = make_estimator(found, part.get("parameters", {}), seed, encoder.categorical_mask)
        if encoder.style == "both":
            own = ColumnTransformer([("own", "passthrough", encoder.half(style_of(found)))])
            made[name] = Pipeline([("columns", own), ("model", made[name])])
    return make_outer(algorithm, parameters, made, seed, encoder.categorical_mask)


def make_outer(
    algorithm: str, parameters: dict[str, Any], parts: dict[str, Any], seed: int, categorical_mask: list[bool]
) -> Any:
    """An unfitted estimator around the parts that it is made of.

    Args:
        algorithm: Import path.
        parameters: Its arguments.
        parts: Unfitted estimators by name, in their order.
        seed: Seed of everything random.
        categorical_mask: See ``make_estimator``.
    """
    if algorithm == VOTING:
        weights = [float(parameters["members"][name].get("weight", 1.0)) for name in parts]
        parameters = {"estimators": list(parts.items()), "voting": "soft", "weights": weights}
    elif algorithm == CALIBRATED:
        parameters = {**parameters, **parts}
    return make_estimator(find_algorithm(algorithm), parameters, seed, categorical_mask)
