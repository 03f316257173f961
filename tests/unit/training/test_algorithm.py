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


def test_what_gives_probabilities_only_with_some_arguments_is_refused_after_the_fit() -> None:
    table = rows(60)

    with pytest.raises(ConfigurationError, match=r"sklearn\.svm\.SVC cannot be fitted with"):
        fit_estimator(table, labels(table), COLUMNS, "sklearn.svm.SVC", {}, 7)


def test_a_class_of_another_package_is_taken_by_its_interface() -> None:
    """An interface is what counts: no base class, no list. Such a class may take any argument, too."""
    table = rows(60)

    estimator, encoder, matrix = fit_estimator(table, labels(table), COLUMNS, f"{__name__}.Majority", {"why": "not"}, 7)

    assert estimator.arguments == {"why": "not"}
    assert encoder.style == "dense"
    assert estimator.predict_proba(matrix).shape == (60, 2)


class Majority:
    """A classifier that inherits from nothing of scikit-learn."""

    def __init__(self, **arguments: object) -> None:
        self.arguments = arguments

    def fit(self, matrix: np.ndarray, labels: np.ndarray) -> Majority:
        self.rate = float(labels.mean())
        return self

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        return np.tile([1 - self.rate, self.rate], (len(matrix), 1))

    def get_params(self) -> dict[str, object]:
        return self.arguments

    def set_params(self, **arguments: object) -> None:
        self.arguments = arguments


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
