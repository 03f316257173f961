"""``python -m airworthy.platform.staging_run FILE``: the whole pipeline once on a use case's sample, in this environment.

Ingest, train, judge, serve: with the settings of this process, which point at folders and databases of their own. What came
of it is written to FILE as JSON. The staging of a pipeline release runs it in the release's environment, and
``make metrics`` in the checkout's; the sample is the same bytes each time, so figures of two revisions can be compared.
"""

from __future__ import annotations

import importlib
import logging
import math
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np

from airworthy.config import UseCase, get_settings
from airworthy.config.use_case import use_cases
from airworthy.errors import CheckFailure, ConfigurationError, DataRejectedError
from airworthy.intervals import Interval
from airworthy.records import CandidateRef, Record, Release, Verdict

T = TypeVar("T")
log = logging.getLogger("airworthy.platform.staging_run")
RUN = "staging"
RESAMPLES, CONFIDENCE = 200, 0.95


class Metric(Record):
    """A figure of the candidate on the holdout of the sample.

    Attributes:
        value: Measured on all rows.
        low, high: Percentile bootstrap interval over rows (Efron and Tibshirani, 1993, chapter 13), 95 %.
    """

    value: float
    low: float
    high: float


class StagedCase(Record):
    """What the pipeline did with one use case's sample.

    Attributes:
        intervals, rows: Published intervals, and rows that landed in them.
        train_rows, holdout_rows: Of the training set.
        decision: The gate's, with its ``summary``: a refusal on so few rows is an outcome, no failure of the pipeline.
        metrics: Of the candidate on the holdout.
        served: Figures of the prediction service, which answered with this model.
        seconds: Wall time of each step.
    """

    use_case: str
    intervals: int
    rows: int
    train_rows: int
    holdout_rows: int
    decision: str
    summary: str
    metrics: dict[str, Metric]
    served: dict[str, float]
    seconds: dict[str, float]


class Staged(Record):
    """What came of a staging run, whole.

    Attributes:
        revision: Of the code that ran; ``unknown`` outside of a checkout and a pipeline release.
        cases: By use case.
    """

    revision: str
    cases: dict[str, StagedCase]


def run() -> Staged:
    """Play every use case of the settings.

    Raises:
        AirworthyError: a step failed; the message says which.
    """
    from airworthy.platform import migrations
    from airworthy.training import tracking

    migrations.tables()
    return Staged(revision=tracking.revision(), cases={name: play(case) for name, case in use_cases().items()})


def play(use_case: UseCase) -> StagedCase:
    """Land the sample of one use case, and take it from there to an answered prediction."""
    from airworthy.evaluation import judge
    from airworthy.training import build_training_set, fit

    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], T]) -> T:
        start = time.monotonic()
        result = step()
        seconds[name] = round(time.monotonic() - start, 1)
        log.info("%s: %s in %.1f s", use_case.name, name, seconds[name])
        return result

    intervals, rows = timed("ingest", lambda: _ingest(use_case))
    ref = timed("training set", lambda: build_training_set(use_case, run=RUN))
    candidate = timed("fit", lambda: fit(use_case, ref, run=RUN))
    verdict = timed("judge", lambda: judge(use_case, candidate, causes={}))
    measured = timed("metrics", lambda: _metrics(use_case, candidate))
    served = timed("serve", lambda: _serve(use_case, candidate, verdict))
    return StagedCase(
        use_case=use_case.name, intervals=intervals, rows=rows, train_rows=ref.train_rows,
        holdout_rows=ref.holdout_rows, decision=verdict.decision, summary=verdict.summary, metrics=measured,
        served=served, seconds=seconds,
    )  # fmt: skip


def sample_of(use_case: UseCase) -> ModuleType:
    """The use case's ``sample.py``.

    Raises:
        ConfigurationError: it has none.
    """
    name = f"{use_case.package}.sample"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigurationError(
            f"use case {use_case.name} has no sample data: there is no module {name}",
            next_step="write it, with land_sample(use_case) as in use_cases/flight_delays/sample.py",
        ) from error


def _ingest(use_case: UseCase) -> tuple[int, int]:
    from airworthy import features
    from airworthy.ingest import ingest_interval
    from airworthy.ledger.clock import advance

    keys: list[str]
    moment: datetime
    keys, moment = sample_of(use_case).land_sample(use_case)
    if get_settings().clock == "replay":
        advance(use_case, moment)
    rows = 0
    for key in keys:
        outcome = ingest_interval(use_case, Interval.of(key), run=RUN)
        if outcome.status == "rejected":
            raise _failed(use_case, f"interval {key} of the sample was rejected: {outcome.reason}")
        rows += sum(outcome.rows_in.values())
    features.catch_up(use_case, run=RUN)
    return len(keys), rows


def _metrics(use_case: UseCase, candidate: CandidateRef) -> dict[str, Metric]:
    from airworthy.evaluation.metrics import measure
    from airworthy.training import model_files
    from airworthy.training.folders import read_folder
    from airworthy.training.training_set import LABEL, part, read_training_set

    holdout = part(read_training_set(candidate.training_set), "holdout")
    _, files = read_folder(candidate.folder, candidate.model_digest)
    model = model_files.from_files(files, candidate.model_digest, candidate.folder)
    scores = np.asarray(model.predict_table(holdout), dtype=np.float64)
    labels = np.asarray(holdout[LABEL].to_pylist(), dtype=bool)
    costs = {"cost_false_alarm": use_case.problem.cost_false_alarm, "cost_miss": use_case.problem.cost_miss}
    rng = np.random.default_rng(use_case.training.seed)
    picks = [rng.integers(0, labels.size, labels.size) for _ in range(RESAMPLES)]
    drawn = [measure(labels[p], scores[p], **costs) for p in picks]
    found = {}
    for name, value in measure(labels, scores, **costs).items():
        values = [d[name] for d in drawn if d[name] is not None]
        if value is None or not math.isfinite(value) or not values:
            raise _failed(use_case, f"the candidate's {name} on the holdout is {value}")
        low, high = np.quantile(np.asarray(values, dtype=np.float64), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        found[name] = Metric(value=value, low=float(low), high=float(high))
    return found


def _serve(use_case: UseCase, candidate: CandidateRef, verdict: Verdict) -> dict[str, float]:
    """The prediction service answers with this model, over HTTP, held against its contract."""
    from airworthy.delivery import staging

    return staging.check(use_case, _release(use_case, candidate, verdict).digest)


def _release(use_case: UseCase, candidate: CandidateRef, verdict: Verdict) -> Release:
    from airworthy.registry import register
    from airworthy.registry.store import write_release
    from airworthy.training.folders import read_folder

    if verdict.decision == "pass":
        return register(use_case, candidate, verdict)
    # It is never promoted: nobody but the staging check asks it, and its folder goes with the staging.
    _, files = read_folder(candidate.folder, candidate.model_digest)
    return write_release(files, verdict, run_id=candidate.run_id, version=0)


def _failed(use_case: UseCase, words: str) -> DataRejectedError:
    return DataRejectedError(
        f"the staging run of {use_case.name}", [CheckFailure(words)], next_step="mend the revision: its sample is fixed"
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    Path(sys.argv[1]).write_text(run().model_dump_json(indent=1))
