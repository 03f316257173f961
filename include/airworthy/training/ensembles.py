"""Soft-voting ensembles: members by import path, each with its arguments and weight, compiled member by member.

A use case writes ``algorithm: sklearn.ensemble.VotingClassifier`` and ``parameters: {members: {name: {algorithm,
parameters, weight}}}``. The probability is the members' mean by weight. Trees read codes and gaps, linear models read
one column for each category: where members differ, the matrix has both halves and each member takes its own.
"""

from __future__ import annotations

from typing import Any

from airworthy.config.training_spec import VOTING, check_members
from airworthy.errors import ConfigurationError
from airworthy.training.algorithm import find_algorithm, make_estimator, style_of
from airworthy.training.encoder import Encoder, Style


def checked_members(parameters: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The members of these arguments. Raises ConfigurationError when they are not written as the module says."""
    try:
        check_members(parameters)
    except ValueError as error:
        raise ConfigurationError(
            f"{VOTING} cannot be made: {error}", next_step="correct training.parameters in use_case.yaml"
        ) from error
    # In the order of their names: that of a mapping does not survive the ledger or XCom, and a sum depends on it.
    return dict(sorted(parameters["members"].items()))


def style_of_recipe(algorithm: str, parameters: dict[str, Any]) -> Style:
    """How the inputs of an algorithm are encoded; ``both`` for an ensemble whose members differ."""
    if algorithm != VOTING:
        return style_of(find_algorithm(algorithm))
    styles = {style_of(find_algorithm(m["algorithm"])) for m in checked_members(parameters).values()}
    return "both" if len(styles) > 1 else styles.pop()


def make_model(algorithm: str, parameters: dict[str, Any], seed: int, encoder: Encoder) -> Any:
    """An unfitted estimator, an ensemble included.

    Args:
        algorithm: Import path.
        parameters: Its arguments.
        seed: Seed of everything random.
        encoder: What makes its matrix.

    Raises:
        ConfigurationError: no such algorithm or argument.
    """
    if algorithm != VOTING:
        return make_estimator(find_algorithm(algorithm), parameters, seed, encoder.categorical_mask)
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import VotingClassifier
    from sklearn.pipeline import Pipeline

    estimators, weights = [], []
    for name, member in checked_members(parameters).items():
        found = find_algorithm(member["algorithm"])
        model = make_estimator(found, member.get("parameters", {}), seed, encoder.categorical_mask)
        if encoder.style == "both":
            own = ColumnTransformer([("own", "passthrough", encoder.half(style_of(found)))])
            model = Pipeline([("columns", own), ("model", model)])
        estimators.append((name, model))
        weights.append(float(member.get("weight", 1.0)))
    return VotingClassifier(estimators, voting="soft", weights=weights)
