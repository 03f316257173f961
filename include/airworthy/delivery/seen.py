"""What a step of a trial has seen: the workers' tallies, and the prediction log with the labels that are in."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.config.data_spec import Problem
from airworthy.delivery.canary import Arm, Seen
from airworthy.errors import AirworthyError
from airworthy.evaluation.known_labels import Key, key_of, labels_by_id
from airworthy.intervals import Interval
from airworthy.ledger import promotions
from airworthy.ledger.clock import data_now
from airworthy.ledger.models import ServingWorker
from airworthy.ledger.tallies import Tally, tallies
from airworthy.serving import spool
from airworthy.serving.champion import UNREAD

LABELS_SECONDS = 5.0
LASTING_SECONDS = 6.0
"""A worker tries to load a release again every two seconds: what is still wrong after so long is no accident."""
CLOCKS_SECONDS = 60.0  # by which the clocks of the ledger and of the spool's disk may differ
MAX_ROWS = 200_000  # predictions of a step that labels are looked up for: more would say the same

log = logging.getLogger(__name__)


class Observer:
    """Watches one step of a trial, which is one generation of the promotion log.

    The prediction log is read from the spool, where a prediction is before its answer leaves. What this process has read
    it does not read again; another process, after a kill, begins at the first file.

    Args:
        use_case: The use case.
        challenger: Digest of the release on trial.
        generation: Of the step.
        since: When it began; what was written before is not read.
    """

    def __init__(self, use_case: UseCase, challenger: str, generation: int, since: datetime) -> None:
        self._since = since.timestamp() - CLOCKS_SECONDS
        self._use_case, self._challenger, self._generation = use_case, challenger, generation
        self._offsets: dict[Path, int] = {}
        self._model = registry.load(challenger)
        self._rows: list[tuple[bool, Key, str, bool]] = []
        self._first: datetime | None = None
        self._compared = self._differing = 0
        self._worst = 0.0
        self._labelled = {True: (0, 0), False: (0, 0)}
        self._looked = float("-inf")
        self._not_ready: dict[tuple[str, int, str], float] = {}

    def seen(self) -> Seen:
        """Counts since the beginning of the step."""
        self._read_log()
        self._count_labels()
        counts = tallies(self._use_case.name, self._generation)
        # A shadow is the challenger too: it was asked, and nobody saw its answer.
        ours = _sum(counts.get("challenger", Tally()), counts.get("shadow", Tally()))
        return Seen(
            challenger=_arm(ours, self._labelled[True]), champion=_arm(counts.get("champion", Tally()), self._labelled[False]),
            compared=self._compared, differing=self._differing, worst=self._worst, **self._workers(),
        )  # fmt: skip

    def _read_log(self) -> None:
        own: list[dict[str, Any]] = []
        for path in spool.files(get_settings().spool, self._use_case.name):
            offset = self._offsets.get(path, 0)
            try:
                about = path.stat()
                if about.st_size <= offset or about.st_mtime < self._since:
                    continue
                for record, end in spool.read(path, offset):
                    self._offsets[path] = end
                    if record["generation"] == self._generation:
                        own += self._take(record)
            except FileNotFoundError:  # it was collected, and tidied up meanwhile
                continue
        if not own:
            return
        offline = self._model.predict([record["features"] for record in own])
        differences = np.abs(offline - np.array([record["probability"] for record in own]))
        # Written so that NaN, which compares false, counts as a difference.
        wrong = ~(differences <= self._use_case.delivery.tolerance)
        self._compared += len(own)
        self._differing += int(wrong.sum())
        self._worst = max(self._worst, float(np.nan_to_num(differences, nan=np.inf).max()))

    def _take(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        ours = record["release"] == self._challenger
        key = key_of(record["id"], self._use_case.prediction.id)
        if len(self._rows) < MAX_ROWS:
            self._rows.append((ours, key, record["prediction_id"], bool(record["decision"])))
        moment = datetime.fromisoformat(record["prediction_time"])
        self._first = min(self._first or moment, moment)
        return [record] if ours else []

    def _count_labels(self) -> None:
        if self._first is None or time.monotonic() - self._looked < LABELS_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            known = labels_by_id(self._use_case, Interval.containing(self._first), data_now(self._use_case))
        except (AirworthyError, OSError) as error:  # labels are no condition: a lake that is away stops no trial
            log.warning("no labels for the trial of %s: %s", self._use_case.name, error)
            return
        for arm in (True, False):
            found = [(i, d, known.get(key)) for ours, key, i, d in self._rows if ours is arm]
            labelled = [(i, d, label) for i, d, label in found if label is not None]
            losses = sum(costs(self._use_case.problem, i, d, label) for i, d, label in labelled)
            self._labelled[arm] = (len(labelled), losses)

    def _workers(self) -> dict[str, str]:
        """Live workers that do not serve the challenger: what that says about it, if it lasts."""
        now, lasting = time.monotonic(), self._use_case.delivery.switch_timeout_s
        late = [w for w in promotions.live_workers(self._use_case.name) if self._lacks_it(w)]
        self._not_ready = {key: self._not_ready.get(key, now) for key in map(_key, late)}
        found: dict[str, str] = {}
        for worker in late:
            seconds, error = now - self._not_ready[_key(worker)], worker.error or ""
            words = f"worker {worker.instance}/{worker.pid}: {error or 'no error reported'}"
            found["waiting"] = words
            # What a worker cannot read, and a champion that it cannot load, are not the challenger's fault.
            own = UNREAD not in error and (not error or self._challenger[:12] in error)
            if own and error and seconds >= LASTING_SECONDS:
                found["problem"] = words
            elif seconds >= lasting:
                found["problem" if own else "unread"] = f"{words}, for {seconds:.0f} s"
        return found

    def _lacks_it(self, worker: ServingWorker) -> bool:
        return worker.generation < self._generation or self._challenger[:12] in (worker.error or "")


def _key(worker: ServingWorker) -> tuple[str, int, str]:
    return worker.instance, worker.pid, worker.process


def costs(problem: Problem, prediction_id: str, decision: bool, label: bool) -> bool:
    """Whether a decision counts as a costly one.

    The cost, as a share of the dearer mistake, is the probability that it does; the prediction's id, which is random,
    decides. So rates of costly decisions are mean costs, and two of them are two binomials.

    Args:
        problem: Has the costs.
        prediction_id: 32 random hexadecimal digits.
        decision: What was decided.
        label: What came of it.
    """
    if decision is label:
        return False
    cost = problem.cost_false_alarm if decision else problem.cost_miss
    return int(prediction_id[:13], 16) / 16**13 < cost / max(problem.cost_false_alarm, problem.cost_miss)


def _arm(tally: Tally, labelled: tuple[int, int]) -> Arm:
    return Arm(tally.requests, tally.errors, tally.model_ms, *labelled)


def _sum(one: Tally, other: Tally) -> Tally:
    times = tuple(a + b for a, b in zip(one.model_ms, other.model_ms, strict=True))
    return replace(one, requests=one.requests + other.requests, errors=one.errors + other.errors, model_ms=times)
