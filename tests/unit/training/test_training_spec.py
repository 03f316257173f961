"""The section ``training`` of use_case.yaml: what is wrong is said when it is read, or before any row is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from copy import deepcopy
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from airworthy.config import Settings, UseCase, load_use_case
from airworthy.config.training_spec import OFFERED_ALGORITHMS, Training
from airworthy.errors import ConfigurationError
from airworthy.training import search_plan
from airworthy.training.recipe_checks import check_recipe

from .models import CALIBRATED, VOTE

HGB = "sklearn.ensemble.HistGradientBoostingClassifier"
VOTING = "sklearn.ensemble.VotingClassifier"
FLOAT = {"type": "float", "low": 0.01, "high": 0.3, "log": True}
GOOD: dict[str, Any] = {
    "feature_service": "tiny_orders_v1",
    "algorithm": HGB,
    "parameters": {"max_iter": 20},
    "search": {
        "trials": 20,
        "space": {
            "learning_rate": FLOAT,
            "max_leaf_nodes": {"type": "int", "low": 4, "high": 31},
            "early_stopping": {"type": "choice", "choices": [True, False]},
        },
    },
}


def with_(path: str, value: Any) -> dict[str, Any]:
    """The good specification with one value changed."""
    changed = deepcopy(GOOD)
    *way, last = path.split("/")
    place = changed
    for name in way:
        place = place[name]
    place[last] = value
    return changed


WRONG = {
    "an algorithm that is no path": (with_("algorithm", "HistGradientBoostingClassifier"), "is no import path"),
    "an algorithm that is code": (with_("algorithm", "os.system('true')"), "is no import path"),
    "a calibration of nothing": (with_("algorithm", CALIBRATED), "`estimator: {algorithm, parameters}`"),
    "a calibration of a calibration": (
        {**with_("algorithm", CALIBRATED), "parameters": {"estimator": {"algorithm": CALIBRATED}}},
        "cannot be a part of another model",
    ),
    "low above high": (with_("search/space/learning_rate/low", 0.5), "low 0.5 is not below high 0.3"),
    "log from zero": (with_("search/space/learning_rate/low", 0.0), "log needs a low above 0"),
    "half a leaf": (with_("search/space/max_leaf_nodes/low", 4.5), "int needs whole numbers"),
    "no bounds": (with_("search/space/learning_rate", {"type": "float"}), "needs low and high"),
    "no choices": (with_("search/space/early_stopping", {"type": "choice"}), "a choice has `choices`"),
    "choices of a float": (with_("search/space/learning_rate/choices", [1]), "no choices"),
    "an unknown type": (with_("search/space/learning_rate/type", "real"), "'int', 'float' or 'choice'"),
    "an unknown key": (with_("search/sampler", "tpe"), "Extra inputs are not permitted"),
    "an unknown metric": (with_("search/metric", "accuracy"), "'log_loss', 'roc_auc' or 'brier'"),
    "no space": (with_("search/space", {}), "at least 1 item"),
    "a list for a space": (with_("search/space", ["learning_rate"]), "valid dictionary"),
    "no trials": (with_("search/trials", 0), "greater than or equal to 1"),
    "tuning days that leave nothing": (with_("search/tune_days", 28), "leaves nothing of min_train_days 28"),
    "a member where there are none": (with_("search/space/trees.max_iter", FLOAT), "named after one argument"),
    "a window below the least": (with_("window_days", 10), "window_days 10 is below min_train_days 28"),
    "label rates the wrong way": (with_("checks", {"min_label_rate": 0.9, "max_label_rate": 0.1}), "is not below"),
    "a check that is off": (with_("checks", {"max_feature_auc": None}), "valid number"),
    "a seed that is none": (with_("seed", -1), "greater than or equal to 0"),
}


@pytest.mark.parametrize("kind", list(WRONG))
def test_a_wrong_specification_is_refused_when_it_is_read(kind: str) -> None:
    content, words = WRONG[kind]
    Training.model_validate(GOOD)

    with pytest.raises(ValidationError) as caught:
        Training.model_validate(content)

    assert words in str(caught.value)


MEMBERS = {
    "no members": ({}, "are `members`, two or more"),
    "one member": ({"members": {"trees": VOTE["members"]["trees"]}}, "two or more"),
    "a list": ({"members": [VOTE["members"]["trees"]]}, "two or more"),
    "another argument": ({**VOTE, "n_jobs": 2}, "are `members`"),
    "a member that is a path": ({"members": {"a": HGB, "b": HGB}}, "it has `algorithm`"),
    "a misspelt key": ({"members": {**VOTE["members"], "b": {"algorithm": HGB, "wieght": 1}}}, "it has `algorithm`"),
    "a member made of members": ({"members": {**VOTE["members"], "b": {"algorithm": VOTING}}}, "cannot be a part"),
    "a member that is no path": ({"members": {**VOTE["members"], "b": {"algorithm": 3}}}, "3 is no import path"),
    "no weight": ({"members": {**VOTE["members"], "b": {"algorithm": HGB, "weight": 0}}}, "not a number above 0"),
    "a strange name": ({"members": {**VOTE["members"], "b__c": {"algorithm": HGB}}}, "a name is made of"),
}


@pytest.mark.parametrize("kind", list(MEMBERS))
def test_a_wrong_ensemble_is_refused_when_it_is_read(kind: str) -> None:
    parameters, words = MEMBERS[kind]
    good = {"feature_service": "x_v1", "algorithm": VOTING, "parameters": VOTE}
    Training.model_validate({**good, "search": {"space": {"trees.learning_rate": FLOAT}}})

    with pytest.raises(ValidationError, match=words):
        Training.model_validate({**good, "parameters": parameters})
    with pytest.raises(ValidationError, match=r"named <member>\.<argument>"):
        Training.model_validate({**good, "search": {"space": {"forest2.max_depth": FLOAT}}})


def case_of(content: dict[str, Any]) -> UseCase:
    case = load_use_case("tiny_orders")
    return case.model_copy(update={"training": Training.model_validate(content)})


LATER = {
    "an algorithm that does not exist": (with_("algorithm", "sklearn.ensemble.NoSuch"), "cannot be imported"),
    "an algorithm that is no classifier": (
        with_("algorithm", "sklearn.ensemble.HistGradientBoostingRegressor"),
        "is no scikit-learn classifier with predict_proba",
    ),
    "an algorithm that needs more": (
        {**with_("algorithm", "sklearn.ensemble.StackingClassifier"), "parameters": {}, "search": None},
        "StackingClassifier cannot be made: .*estimators",
    ),
    "an argument that does not exist": (with_("parameters/max_itre", 3), "has no argument max_itre"),
    "a value of a wrong type": (with_("parameters/max_iter", "many"), "'max_iter' parameter .* must be an int"),
    "a range beyond what is allowed": (
        with_("search/space/learning_rate", {"type": "float", "low": -0.1, "high": 0.3}),
        r"training\.search\.space\.learning_rate of tiny_orders, at -0\.1",
    ),
    "a range of an argument that does not exist": (with_("search/space/eta", FLOAT), r"space\.eta .* no argument eta"),
}


@pytest.mark.parametrize("kind", list(LATER))
def test_what_only_scikit_learn_knows_is_said_before_any_row_is_read(kind: str) -> None:
    content, words = LATER[kind]
    check_recipe(case_of(GOOD))

    with pytest.raises(ConfigurationError, match=words):
        check_recipe(case_of(content))


def test_a_calibrated_models_arguments_are_checked_and_searched() -> None:
    inner = {"algorithm": HGB, "parameters": {"max_iter": 20}}
    content = {
        "feature_service": "x_v1", "algorithm": CALIBRATED, "parameters": {"estimator": inner, "method": "isotonic"},
        "search": {"trials": 5, "space": {
            "estimator.learning_rate": FLOAT, "cv": {"type": "int", "low": 2, "high": 5},
        }},
    }  # fmt: skip
    case = case_of(content)
    check_recipe(case)

    plan = search_plan.draw(case.training)
    tried = [search_plan.tried(case.training, one) for one in plan[1:]]
    assert plan[0] == content["parameters"]
    assert all(one["estimator"]["parameters"]["max_iter"] == 20 for one in plan)
    assert all(0.01 <= one["estimator.learning_rate"] <= 0.3 and 2 <= one["cv"] <= 5 for one in tried)
    for wrong, words in (
        ({"method": "isotone"}, "'method' parameter"),
        ({"estimator": {**inner, "parameters": {"max_iter": -1}}}, "member estimator: .*max_iter"),
        ({"estimator": {"algorithm": "math.sqrt"}}, "member estimator: .*no scikit-learn classifier"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            check_recipe(case_of({**content, "search": None, "parameters": {**content["parameters"], **wrong}}))


def test_a_members_argument_is_checked_too() -> None:
    vote = deepcopy(VOTE)
    vote["members"]["forest"]["parameters"]["max_depth"] = -3
    with pytest.raises(ConfigurationError, match=r"member forest: .*max_depth"):
        check_recipe(case_of({"feature_service": "x_v1", "algorithm": VOTING, "parameters": vote}))


def test_every_listed_algorithm_can_be_made() -> None:
    for path in OFFERED_ALGORITHMS:
        check_recipe(case_of({"feature_service": "x_v1", "algorithm": path}))


def test_the_plan_begins_with_the_own_parameters_and_stays_in_its_ranges() -> None:
    training = Training.model_validate(GOOD)

    plan = search_plan.draw(training)

    assert plan[0] == {"max_iter": 20}
    assert len({json.dumps(p) for p in plan}) == len(plan) == 20
    for one in plan[1:]:
        assert set(one) == {"max_iter", "learning_rate", "max_leaf_nodes", "early_stopping"}
        assert 0.01 <= one["learning_rate"] <= 0.3
        assert 4 <= one["max_leaf_nodes"] <= 31
    assert {one["early_stopping"] for one in plan[1:]} == {True, False}
    # Half of a logarithmic range is below its geometric middle, also with few points.
    assert 6 <= sum(one["learning_rate"] < (0.01 * 0.3) ** 0.5 for one in plan[1:]) <= 13
    assert search_plan.draw(training, 5) == plan[:5]
    assert search_plan.draw(training.model_copy(update={"seed": 8}))[1:] != plan[1:]


def test_the_ends_of_a_range_are_reached_and_never_passed() -> None:
    space = Training.model_validate(GOOD).search.space  # type: ignore[union-attr]

    assert [search_plan.value_at(space["max_leaf_nodes"], u) for u in (0.0, 1 - 1e-12)] == [4, 31]
    assert [search_plan.value_at(space["learning_rate"], u) for u in (0.0, 1 - 1e-12)] == [0.01, 0.3]
    assert [search_plan.value_at(space["early_stopping"], u) for u in (0.0, 1 - 1e-12)] == [True, False]


def test_a_space_with_few_values_has_few_trials() -> None:
    content = with_("search/space", {"early_stopping": {"type": "choice", "choices": [True, False]}})

    assert len(search_plan.draw(Training.model_validate(content))) == 3


def test_no_setting_of_the_environment_changes_what_is_searched() -> None:
    """Every way in which a setting could get in: our own names, nested names, Optuna's, a seed of the interpreter."""
    script = (
        "import json; from airworthy.config import load_use_case; from airworthy.training import search_plan;"
        "case = load_use_case('use_cases.flight_delays'); t = case.training;"
        "print(json.dumps([t.model_dump(mode='json'), search_plan.draw(t), t.search.tasks]))"
    )
    names = [
        "SEED",
        "SEARCH",
        "SEARCH_TRIALS",
        "TRIALS",
        "SEARCH_SPACE",
        "SEARCH_SEED",
        "BUDGET",
        "TASKS_ABOVE",
        "ROWS",
    ]
    meddling = {f"AIRWORTHY_{prefix}{name}": "3" for name in names for prefix in ("", "TRAINING_", "TRAINING__")}
    meddling |= dict.fromkeys(names, "3") | {f"OPTUNA_{name}": "3" for name in names}
    meddling |= {"PYTHONHASHSEED": "99", "AIRWORTHY_USE_CASES": "tiny_orders", "AIRWORTHY_ENV": "prod"}

    plain, meddled = (
        subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
        ).stdout
        for env in (os.environ, {**os.environ, **meddling})
    )  # fmt: skip

    assert json.loads(meddled) == json.loads(plain)
    assert len(json.loads(plain)[1]) == json.loads(plain)[0]["search"]["trials"]
    assert not set(Settings.model_fields) & (set(Training.model_fields) | {"search", "trials", "budget"})


def test_the_flights_search_is_read() -> None:
    case = load_use_case("use_cases.flight_delays")

    check_recipe(case)
    assert case.training.search is not None
    assert case.training.search.tasks == 1
    assert yaml.safe_dump(case.training.model_dump(mode="json"))
