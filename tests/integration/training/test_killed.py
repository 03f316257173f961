"""A search and a fit whose process is killed with SIGKILL, again and again: the same end as without."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from typing import Any

from airworthy.config import UseCase
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Candidate
from airworthy.records import CandidateRef, TrainingSetRef
from airworthy.training import fit, fitting, tracking
from airworthy.training.search import SearchResult, search, study_name
from airworthy.training.studies import Study

from .test_search import searching

Make = Callable[..., TrainingSetRef]
# Function, at which of its calls the process is killed, and whether that call is still done.
POINTS: list[tuple[Any, str, int, bool]] = [
    *[(Study, "begin", n, done) for n in (1, 2) for done in (False, True)],
    *[(Study, "end", n, done) for n in (1, 2) for done in (False, True)],
    (Study, "lose", 1, True),
    (fitting, "_start", 1, True),
    (fitting, "fit_estimator", 1, True),
    (fitting, "_upload", 1, False),
    (fitting, "_upload", 1, True),
    (fitting, "record_candidate", 1, True),
]
SEED, KILLS = 20130101, 6


def make(case: UseCase, ref: TrainingSetRef, run: str) -> tuple[SearchResult, CandidateRef]:
    found = search(case, ref, run=run)
    return found, fit(case, ref, run=run, search=found)


def killed(case: UseCase, ref: TrainingSetRef, run: str, point: tuple[Any, str, int, bool]) -> int:
    """Make a candidate in a child process that kills itself at a point; its exit status."""
    owner, name, count, done = point
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        original, calls = getattr(owner, name), [0]

        def deadly(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] < count:
                return original(*args, **kwargs)
            if done:
                original(*args, **kwargs)
            return os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, deadly)
        make(case, ref, run)
    finally:
        os._exit(0)


def test_a_search_and_a_fit_that_are_killed_come_to_the_same_end(tiny: UseCase, training_set: Make) -> None:
    # Given a training that nobody disturbed,
    case, ref = searching(tiny), training_set()
    whole, candidate = make(case, ref, "train__0")
    chosen = sorted(random.Random(SEED).sample(range(len(POINTS)), KILLS))
    # and another one whose process is killed at each of some points in turn (a point that lies behind is passed by).
    ends = [killed(case, ref, "train__1", POINTS[i]) for i in chosen]
    assert ends.count(signal.SIGKILL) >= KILLS // 2, (chosen, ends)

    # When it is tried once more.
    found, again = make(case, ref, "train__1")

    # Then it is the same model by the same trials,
    assert again.model_digest == candidate.model_digest
    assert (found.parameters, found.best_value) == (whole.parameters, whole.best_value)
    study = Study(study_name(case, ref, "train__1"))
    assert {t.user_attrs["index"] for t in study.trials() if t.value is not None} == {0, 1, 2, 3, 4}
    assert len(study.decided()) == 5
    # no trial is left running, there is one run in MLflow and one candidate on record.
    assert [t.number for t in study.trials() if not t.state.is_finished()] == []
    mlflow = tracking.client()
    runs = mlflow.search_runs([tracking.experiment_id(mlflow, case)])
    assert sorted((r.data.tags["airworthy.run"], r.info.status) for r in runs) == [
        ("train__0", "FINISHED"),
        ("train__1", "FINISHED"),
    ]
    with transaction() as session:
        assert session.query(Candidate).where(Candidate.use_case == case.name).count() == 2  # one of each run
    # The trials and the checks are beside the candidate.
    listed = {a.path for a in mlflow.list_artifacts(again.run_id)}
    assert {"search.json", "search.svg", "training_set_checks.json"} <= listed
    path = mlflow.download_artifacts(again.run_id, "search.json")
    with open(path) as file:  # noqa: PTH123
        kept = json.load(file)
    assert [t["trial"] for t in kept["trials"]] == [1, 2, 3, 4, 5]
    assert mlflow.get_run(again.run_id).data.metrics["search_best"] == found.best_value
