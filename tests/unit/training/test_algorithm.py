"""Algorithms by import path, and what fitting does with them."""

from __future__ import annotations

import numpy as np
import pytest

from airworthy.errors import ConfigurationError
from airworthy.training.algorithm import find_algorithm, make_estimator
from airworthy.training.building import fit_estimator, flipped

from .models import COLUMNS, labels, rows

HGB = "sklearn.ensemble.HistGradientBoostingClassifier"


@pytest.mark.parametrize("path", ["", "nothing", "sklearn.ensemble.NoSuchThing", "no_such_package.Classifier", ".x"])
def test_an_unknown_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        find_algorithm(path)


@pytest.mark.parametrize("path", ["sklearn.ensemble.HistGradientBoostingRegressor", "math.sqrt", "pathlib.Path"])
def test_what_gives_no_probabilities_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="no scikit-learn classifier with predict_proba"):
        find_algorithm(path)


def test_an_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has no argument max_itre"):
        make_estimator(find_algorithm(HGB), {"max_itre": 3}, 7, [])


def test_an_argument_of_a_wrong_value_is_refused() -> None:
    table = rows(100)

    with pytest.raises(ConfigurationError, match=r"cannot be fitted with \{'max_iter': 'many'\}"):
        fit_estimator(table, labels(table), COLUMNS, HGB, {"max_iter": "many"}, 7)


def test_seed_and_categories_reach_the_estimator_unless_given() -> None:
    mask = [True, False]
    made = make_estimator(find_algorithm(HGB), {}, 7, mask)
    given = make_estimator(find_algorithm(HGB), {"random_state": 3, "categorical_features": None}, 7, mask)

    assert (made.random_state, made.categorical_features) == (7, mask)
    assert (given.random_state, given.categorical_features) == (3, None)


@pytest.mark.parametrize(("share", "turned"), [(0.0, 0), (0.25, 25), (0.5, 50), (1.0, 100)])
def test_exactly_the_share_of_labels_is_flipped_and_the_same_ones_each_time(share: float, turned: int) -> None:
    given = np.arange(100) % 3 == 0

    result = flipped(given, share, 7)

    assert (result != given).sum() == turned
    np.testing.assert_array_equal(result, flipped(given, share, 7))
    assert (given == (np.arange(100) % 3 == 0)).all()
