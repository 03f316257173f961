"""An experiment: what a person asks for in a form or a notebook, planned and priced before anything expensive runs.

The same functions as in production: training set, search, fit, gate. An experiment may narrow the days that it trains on
and the features that it may read; it is judged on the same holdout as everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import Field, ValidationError

from airworthy import training
from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.ledger import attempts
from airworthy.records import CandidateRef, Record, Window
from airworthy.training.algorithm import find_algorithm
from airworthy.training.estimate import Estimate, estimate, note_search
from airworthy.training.search import search
from airworthy.training.training_set import chosen_columns

KIND = "experiment"


class Form(Record):
    """What was asked for.

    Attributes:
        reason: Why, in a person's words.
        first_day, last_day, days: Days of the training part, see :class:`~airworthy.records.Window`.
        algorithm: Import path; empty: the use case's.
        features: Inputs of the model; none named: all of the feature service.
        trials: Of the search for parameters; 0: those of ``use_case.yaml``.
        budget_minutes: CPU-minutes that it may take; never more than ``training.experiment_budget``.
        flip_labels: Share of training labels to flip, to show a refusal.
        hand_to_gate: Register the candidate as challenger when it passes.
        estimate_only: Stop after the estimate.
    """

    reason: str = Field(default="", max_length=500)
    first_day: date | None = None
    last_day: date | None = None
    days: int | None = Field(default=None, ge=1, le=3660)
    algorithm: str = ""
    features: tuple[str, ...] = ()
    trials: int = Field(default=0, ge=0, le=200)
    budget_minutes: float | None = Field(default=None, gt=0)
    flip_labels: float = Field(default=0.0, ge=0, le=1)
    hand_to_gate: bool = False
    estimate_only: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Form:
        """A form from what Airflow, a notebook or a test gives; empty values count as not given.

        Raises:
            ConfigurationError: an unknown field, or a value out of its range.
        """
        given = {name: value for name, value in values.items() if value not in (None, "", [])}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
            raise ConfigurationError(
                f"the form of the experiment cannot be used: {'; '.join(problems)}", next_step="correct these fields"
            ) from error

    @property
    def window(self) -> Window:
        """The days of the training part."""
        return Window(first=self.first_day, last=self.last_day, days=self.days)


class Plan(Record):
    """An experiment that may begin.

    Attributes:
        form: What was asked for.
        who: The person.
        algorithm: Import path.
        parameters: Its arguments before any search.
        estimate: What it will take.
        budget_minutes: CPU-minutes that it may take.
    """

    use_case: str
    form: Form
    who: str
    algorithm: str
    parameters: dict[str, Any]
    estimate: Estimate
    budget_minutes: float

    @property
    def words(self) -> str:
        """The estimate against the budget, in a line."""
        return f"{self.estimate.words}; budget {self.budget_minutes:g} CPU-minutes"

    @classmethod
    def of_task(cls, values: Mapping[str, Any]) -> Plan:
        """The plan from what its task handed on, which carries the causes beside it for the gate."""
        return cls.model_validate({name: value for name, value in values.items() if name != "causes"})

    @property
    def causes(self) -> dict[str, Any]:
        """The causes of its verdict."""
        evidence = {"reason": self.form.reason} if self.form.reason else {}
        return {KIND: {"cause": KIND, "evidence": evidence, "requested_by": self.who}}


def plan(use_case: UseCase, form: Form, *, run: str, who: str) -> Plan:
    """Check a form, estimate what it will take, and write both down; nothing expensive has run then.

    Args:
        use_case: The use case.
        form: What is asked for.
        run: ``<dag_id>/<run_id>``, or a name of the notebook's run.
        who: The person.

    Raises:
        ConfigurationError: a day outside the data, an unknown feature or algorithm, a search that the use case has no
            space for, or an estimate above the budget; the message says which.
    """
    algorithm = form.algorithm or use_case.training.algorithm
    own = algorithm == use_case.training.algorithm
    parameters = dict(use_case.training.parameters) if own else {}
    find_algorithm(algorithm)
    inputs = chosen_columns(use_case, form.features)
    _check_window(use_case, form)
    _check_search(use_case, form, own=own)
    space = use_case.training.search
    expected = estimate(
        use_case, window=form.window, algorithm=algorithm, parameters=parameters, trials=form.trials,
        trial_rows=space.rows if form.trials and space else None,
    )  # fmt: skip
    budget = min(use_case.training.experiment_budget, form.budget_minutes or use_case.training.experiment_budget)
    planned = Plan(
        use_case=use_case.name, form=form, who=who, algorithm=algorithm, parameters=parameters, estimate=expected,
        budget_minutes=budget,
    )  # fmt: skip
    within = expected.cpu_seconds <= budget * 60
    attempts.note_attempt(
        use_case.name, run, KIND, who=who, asked={**form.to_json(), "algorithm": algorithm}, features=list(inputs),
        features_offered=len(chosen_columns(use_case, None)), estimate=expected.to_json(),
        outcome=f"{'estimated' if within else 'refused by its budget'}: {planned.words}",
    )  # fmt: skip
    if not within:
        raise ConfigurationError(
            f"this experiment would take {planned.words}",
            next_step="ask for fewer trials, fewer days or another algorithm; training.experiment_budget in use_case.yaml "
            "is the bound of all experiments",
        )
    return planned


def fit_planned(use_case: UseCase, planned: Plan, *, run: str) -> CandidateRef:
    """Build the training set, search when trials were asked for, and fit.

    Raises:
        DataRejectedError: too few days in the window, or what :func:`airworthy.training.build_training_set` refuses.
        ServiceUnavailableError: MLflow does not answer.
    """
    form = planned.form
    ref = training.build_training_set(use_case, run=run, window=form.window, chosen=form.features)
    result = search(use_case, ref, run=run, trials=form.trials) if form.trials else None
    if result:
        note_search(use_case, run, KIND, result)
    candidate = training.fit(
        use_case, ref, run=run, flip_labels=form.flip_labels, algorithm=planned.algorithm,
        parameters=planned.parameters, search=result,
    )  # fmt: skip
    attempts.note_attempt(
        use_case.name, run, KIND, algorithm=planned.algorithm, training_set=ref.to_json(), outcome="fitted"
    )
    return candidate


def _check_window(use_case: UseCase, form: Form) -> None:
    data, first, last = use_case.data, form.first_day, form.last_day
    if first and last and last < first:
        raise ConfigurationError(f"the window ends on {last}, before it begins on {first}", next_step="swap the two")
    for name, day in (("first_day", first), ("last_day", last)):
        if day and not data.first <= day <= data.last:
            raise ConfigurationError(
                f"{name} is {day}; the data of {use_case.name} are from {data.first} to {data.last}",
                next_step="give a day between these, or leave it empty",
            )


def _check_search(use_case: UseCase, form: Form, *, own: bool) -> None:
    if not form.trials:
        return
    if use_case.training.search is None or not own:
        what = (
            "has no training.search" if use_case.training.search is None else f"searches {use_case.training.algorithm}"
        )
        raise ConfigurationError(
            f"{form.trials} trials were asked for, but {use_case.name} {what}",
            next_step="set trials to 0, or give the space in training.search of use_case.yaml",
        )
