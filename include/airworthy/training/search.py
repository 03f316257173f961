"""The search: which arguments do best on the newest days of the training part. The holdout is never looked at.

The trials are drawn before the first begins (``search_plan``) and kept as they end (``studies``), so a search that was
killed goes on where it stopped and comes to the same end, and several tasks may share one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from airworthy.config import UseCase
from airworthy.config.training_spec import MAX_TRIALS, Search
from airworthy.errors import ConfigurationError
from airworthy.ledger.database import exclusive
from airworthy.records import Record, TrainingSetRef
from airworthy.training import search_plan
from airworthy.training.studies import PARAMETERS, REFUSED, SECONDS, Study
from airworthy.training.training_set import read_training_set
from airworthy.training.tuning_rows import METRICS, TuningRows, tuning_rows

log = logging.getLogger(__name__)

Say = Callable[[str], None]


class SearchResult(Record):
    """What a search found.

    Attributes:
        study: Name of Optuna's study; empty where nothing was searched.
        algorithm, parameters: What to fit with.
        trials: How many were tried.
        metric, best_value, own_value: What was compared on the tuning days: the best, and the specification's own.
        seconds: Of all trials together.
        reason: The outcome in a line.
    """

    study: str = ""
    algorithm: str
    parameters: dict[str, Any]
    trials: int = 0
    metric: str = ""
    best_value: float | None = None
    own_value: float | None = None
    seconds: float = 0.0
    reason: str


class TrialShare(Record):
    """What one of several tasks did for a search."""

    study: str
    done: int
    seconds: float
    reason: str


def search(
    use_case: UseCase, ref: TrainingSetRef, *, run: str, trials: int | None = None, say: Say | None = None
) -> SearchResult:
    """Look for the best arguments, or go on where an earlier try of the same run stopped.

    The same training set and specification give the same result, whatever happened on the way and however many tasks
    took part.

    Args:
        use_case: The use case; without ``training.search`` its own parameters are the result, at once.
        ref: The training set, whose holdout is left alone.
        run: The Airflow run, or a command.
        trials: Instead of the specification's number (an experiment's budget).
        say: Told of each trial; by default the log.

    Raises:
        ConfigurationError: no trial could be fitted, too many trials, or it took longer than ``timeout_minutes``.
        DataRejectedError: the training part is too short to set tuning days aside.
        ReleaseError: the training set is missing or was altered.
    """
    spec = use_case.training.search
    if spec is None:
        return SearchResult(
            algorithm=use_case.training.algorithm, parameters=use_case.training.parameters,
            reason="nothing searched: the specification's own parameters",
        )  # fmt: skip
    share_of_trials(use_case, ref, run=run, trials=trials, say=say)
    return _best(use_case, spec, _study(use_case, ref, run, trials), search_plan.draw(use_case.training, trials))


def share_of_trials(
    use_case: UseCase,
    ref: TrainingSetRef,
    *,
    run: str,
    share: int = 0,
    shares: int = 1,
    trials: int | None = None,
    say: Say | None = None,
) -> TrialShare:
    """Run every ``shares``-th trial of a search from ``share`` on, as far as they are not done.

    Args:
        use_case, ref, run, trials, say: As for ``search``.
        share: Number of this task, from 0.
        shares: Number of tasks.

    Raises:
        As ``search``; ConfigurationError also when the use case has no search.
    """
    spec = use_case.training.search
    if spec is None:
        raise ConfigurationError(
            f"{use_case.name} has no training.search", next_step="add one to use_case.yaml, or train without"
        )
    if trials is not None and not 1 <= trials <= MAX_TRIALS:
        raise ConfigurationError(f"{trials} trials", next_step=f"give 1 to {MAX_TRIALS}")
    plan, study = search_plan.draw(use_case.training, trials), _study(use_case, ref, run, trials)
    mine = set(range(share, len(plan), shares))
    started = time.monotonic()
    # A duplicate of this task waits here, and then finds the trials. What is begun and not ended was killed.
    with exclusive("search", f"{study.name}/{share}/{shares}"):
        lost = study.lose(mine)
        open_ = sorted(mine - set(study.decided()))
        if lost:
            log.info("%s: %d trials were begun and not ended; they are done again", use_case.name, lost)
        if open_:
            rows = tuning_rows(use_case, read_training_set(ref), ref)
            log.info("%s: %s", use_case.name, rows.words)
            for index in open_:
                _check_time(use_case, spec, time.monotonic() - started, len(study.decided()), len(plan))
                _try(use_case, study, rows, plan, index, say or log.info)
    seconds = time.monotonic() - started
    words = f"{len(open_)} of {len(plan)} trials in {seconds:.1f} s, task {share + 1} of {shares}"
    return TrialShare(study=study.name, done=len(open_), seconds=round(seconds, 3), reason=words)


def history(study: str) -> list[dict[str, Any]]:
    """The trials of a study in the order of the plan, as JSON values: trial, parameters, value, seconds, refused.

    What was lost to a kill and done again is not among them.
    """
    return [
        {
            "trial": index + 1, "parameters": json.loads(trial.user_attrs[PARAMETERS]), "value": trial.value,
            "seconds": trial.user_attrs.get(SECONDS), "refused": trial.user_attrs.get(REFUSED, ""),
        }
        for index, trial in sorted(Study(study).decided().items())
    ]  # fmt: skip


def study_name(use_case: UseCase, ref: TrainingSetRef, run: str, trials: int | None = None) -> str:
    """The name of a run's study: it says the run, and changes with all that the outcome depends on."""
    training = use_case.training
    how = {"timeout_minutes", "tasks_above"}
    spec = training.search.model_dump(mode="json", exclude=how) if training.search else None
    plan = search_plan.draw(training, trials)
    parts = [ref.digest, ref.columns, training.algorithm, training.seed, spec, plan]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return f"{use_case.name}/{run}/{digest[:12]}"


def _check_time(use_case: UseCase, spec: Search, seconds: float, done: int, planned: int) -> None:
    if seconds > 60 * spec.timeout_minutes:
        raise ConfigurationError(
            f"the search of {use_case.name} took {seconds / 60:.1f} minutes for {done} of {planned} trials, more than "
            f"training.search.timeout_minutes, {spec.timeout_minutes:g}",
            next_step="run it again (it goes on where it stopped), or lower trials or rows in use_case.yaml",
        )


def _try(use_case: UseCase, study: Study, rows: TuningRows, plan: list[dict[str, Any]], index: int, say: Say) -> None:
    training, parameters = use_case.training, plan[index]
    values = search_plan.tried(training, parameters)
    # The specification's own arguments may lie outside of the space; Optuna would refuse them as values of it.
    ranges = search_plan.distributions(training) if index else {}
    inside = {n: v for n, v in values.items() if n in ranges}
    trial = study.begin(index, inside, {n: ranges[n] for n in inside}, json.dumps(parameters, default=str))
    started = time.perf_counter()
    value, refused = rows.value(training.algorithm, parameters, training.seed)
    seconds = time.perf_counter() - started
    study.end(trial, value, seconds, refused)
    outcome = f"refused: {refused}" if value is None else f"{rows.metric.words} {value:.4f}"
    arguments = ", ".join(f"{n}={v}" for n, v in values.items()) if index else "the specification's own parameters"
    say(f"trial {index + 1}/{len(plan)}: {outcome} ({seconds:.1f} s; {arguments})")


def _best(use_case: UseCase, spec: Search, study: Study, plan: list[dict[str, Any]]) -> SearchResult:
    decided, metric = study.decided(), METRICS[spec.metric]
    values = {i: t.value for i, t in decided.items() if t.value is not None}
    if not values:
        first = decided[min(decided)].user_attrs.get(REFUSED, "")
        raise ConfigurationError(
            f"none of the {len(plan)} trials of {use_case.name} could be fitted; the first: {first}",
            next_step="correct training.parameters or training.search.space in use_case.yaml",
        )
    # Of equals the first, which keeps the specification's own parameters where nothing beats them.
    best = min(values, key=lambda i: (-values[i] if metric.maximise else values[i], i))
    own = values.get(0)
    found = "the specification's own parameters" if best == 0 else str(search_plan.tried(use_case.training, plan[best]))
    against = f" against {own:.4f} with the specification's own" if best and own is not None else ""
    return SearchResult(
        study=study.name, algorithm=use_case.training.algorithm, parameters=plan[best], trials=len(plan),
        metric=spec.metric, best_value=values[best], own_value=own,
        seconds=round(sum(float(t.user_attrs.get(SECONDS, 0)) for t in decided.values()), 3),
        reason=f"trial {best + 1} of {len(plan)}: {metric.words} {values[best]:.4f}{against}: {found}",
    )  # fmt: skip


def _study(use_case: UseCase, ref: TrainingSetRef, run: str, trials: int | None) -> Study:
    spec = use_case.training.search
    maximise = spec is not None and METRICS[spec.metric].maximise
    facts = {"use_case": use_case.name, "run": run, "training_set": ref.digest, "metric": spec.metric if spec else ""}
    return Study.of(study_name(use_case, ref, run, trials), maximise=maximise, facts=facts)
