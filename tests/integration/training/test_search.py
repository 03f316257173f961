"""The search on a real ledger: the same trials and the same end, whatever happened on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState

from airworthy.config import UseCase
from airworthy.config.training_spec import Search
from airworthy.errors import ConfigurationError, DataRejectedError
from airworthy.records import TrainingSetRef
from airworthy.training import search_plan
from airworthy.training.search import history, search, share_of_trials, study_name
from airworthy.training.studies import Study
from airworthy.training.training_set import TIME, part, read_training_set
from airworthy.training.tuning_rows import tuning_rows

Make = Callable[..., TrainingSetRef]
SPACE = {"C": {"type": "float", "low": 0.001, "high": 10, "log": True}}


def searching(case: UseCase, **values: Any) -> UseCase:
    """The use case with a search."""
    spec = Search.model_validate({"trials": 5, "tune_days": 5, "rows": 2000, "space": SPACE, **values})
    return case.model_copy(update={"training": case.training.model_copy(update={"search": spec})})


def test_nothing_to_search_is_the_specifications_own(tiny: UseCase, training_set: Make) -> None:
    found = search(tiny, training_set(), run="train__1")

    assert (found.study, found.parameters, found.trials) == ("", tiny.training.parameters, 0)


def test_a_search_finds_better_arguments_and_says_so(tiny: UseCase, training_set: Make) -> None:
    # Given a specification whose own arguments are bad.
    case, ref, said = searching(tiny), training_set(), list[str]()
    bad = case.training.model_copy(update={"parameters": {"C": 1e-6, "max_iter": 500}})

    # When arguments are looked for.
    found = search(case.model_copy(update={"training": bad}), ref, run="train__1", say=said.append)

    # Then others are better, and each trial was told of.
    assert found.best_value is not None
    assert found.own_value is not None
    assert found.best_value < found.own_value - 0.05
    assert found.parameters["C"] > 1e-3
    assert found.parameters["max_iter"] == 500
    assert [s.split(":")[0] for s in said] == [f"trial {k}/5" for k in range(1, 6)]
    assert "log loss 0." in said[1]
    assert "C=" in said[1]
    assert f"{found.best_value:.4f} against {found.own_value:.4f}" in found.reason
    kept = history(found.study)
    assert [t["trial"] for t in kept] == [1, 2, 3, 4, 5]
    assert min(t["value"] for t in kept) == found.best_value


def test_a_retry_finds_what_was_done_and_a_shared_search_is_the_same(tiny: UseCase, training_set: Make) -> None:
    case, ref = searching(tiny), training_set()
    first, said = search(case, ref, run="train__1"), list[str]()
    again = search(case, ref, run="train__1", say=said.append)
    for share in (2, 0, 1):
        share_of_trials(case, ref, run="train__2", share=share, shares=3)
    joined = search(case, ref, run="train__2", say=said.append)

    assert again == first
    assert said == []
    same = {"algorithm", "parameters", "trials", "best_value", "own_value", "reason"}
    assert joined.model_dump(include=same) == first.model_dump(include=same)
    assert [t["value"] for t in history(joined.study)] == [t["value"] for t in history(first.study)]


def test_what_was_begun_and_not_ended_is_done_again(tiny: UseCase, training_set: Make) -> None:
    # Given a trial that was begun by a process that is gone, and another that ended.
    case, ref = searching(tiny), training_set()
    whole = search(case, ref, run="train__0")
    study = Study.of(study_name(case, ref, "train__1"), maximise=False, facts={})
    study.begin(3, {}, {}, "{}")
    share_of_trials(case, ref, run="train__1", share=0, shares=3)  # 0 and 3

    assert [t.state for t in study.trials() if t.user_attrs["index"] == 3] == [TrialState.FAIL, TrialState.COMPLETE]

    # When the search goes on, then it ends as one that was not disturbed, and nothing is left running.
    assert search(case, ref, run="train__1").parameters == whole.parameters
    assert not [t for t in study.trials() if not t.state.is_finished()]
    assert [t["value"] for t in history(study.name)] == [t["value"] for t in history(whole.study)]


def test_tuning_rows_are_the_newest_before_the_holdout_and_never_overlap(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()
    table = read_training_set(ref)

    rows = tuning_rows(searching(tiny), table, ref)

    train, holdout = part(table, "train"), part(table, "holdout")
    fit, tune, later = (sorted(t[TIME].to_pylist()) for t in (rows.fit, rows.tune, holdout))
    assert fit[-1] < tune[0] <= tune[-1] < later[0]
    assert tune[-1] == max(train[TIME].to_pylist())
    # Labels of the training part are known a day before the holdout; the same gap lies before the tuning days.
    assert tune[0] - fit[-1] >= later[0] - tune[-1]
    assert rows.fit.num_rows + rows.tune.num_rows <= train.num_rows


def test_arguments_that_cannot_be_fitted_are_refused_trials(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()
    solvers = {"solver": {"type": "choice", "choices": ["lbfgs", "no_such_solver"]}}

    found = search(searching(tiny, space=solvers), ref, run="train__1")

    assert found.parameters.get("solver", "lbfgs") == "lbfgs"
    assert any("no_such_solver" in t["refused"] for t in history(found.study))
    assert search(searching(tiny, space=solvers), ref, run="train__1") == found
    case = searching(tiny, space={"solver": {"type": "choice", "choices": ["no_such_solver"]}})
    wrong = case.training.model_copy(update={"parameters": {"solver": "neither"}})
    with pytest.raises(ConfigurationError, match=r"none of the 2 trials .* could be fitted"):
        search(case.model_copy(update={"training": wrong}), ref, run="train__2")


def test_a_search_that_takes_too_long_stops_and_goes_on(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()
    with pytest.raises(ConfigurationError, match=r"for 0 of 5 trials, more than training\.search\.timeout_minutes"):
        search(searching(tiny, timeout_minutes=1e-9), ref, run="train__1")

    assert search(searching(tiny), ref, run="train__1").trials == 5


def test_a_training_part_that_is_too_short_is_refused(tiny: UseCase, training_set: Make) -> None:
    with pytest.raises(DataRejectedError, match="a search has 0 rows to fit on"):
        search(searching(tiny, tune_days=20), training_set(), run="train__1")


@pytest.mark.parametrize("trials", [0, 1001])
def test_a_budget_out_of_bounds_is_refused(tiny: UseCase, training_set: Make, trials: int) -> None:
    with pytest.raises(ConfigurationError, match=f"{trials} trials"):
        search(searching(tiny), training_set(), run="train__1", trials=trials)


def test_an_experiments_budget_begins_with_the_same_trials(tiny: UseCase, training_set: Make) -> None:
    case, ref = searching(tiny), training_set()

    few, more = (history(search(case, ref, run=f"e{n}", trials=n).study) for n in (3, 5))

    assert [(t["parameters"], t["value"]) for t in few] == [(t["parameters"], t["value"]) for t in more[:3]]
    assert len(search_plan.draw(case.training, 3)) == 3
