"""Follows the promotion log: loads and warms champion and challenger beside what runs, then swaps one reference."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from airworthy.config import UseCase, get_settings
from airworthy.errors import AirworthyError, ReleaseError, ServiceUnavailableError
from airworthy.features.bounded import BoundedReads
from airworthy.ledger import promotions
from airworthy.ledger.clock import Clock, wall_now
from airworthy.ledger.tallies import report_tally
from airworthy.serving import game_day
from airworthy.serving.cache import ReleaseCache
from airworthy.serving.trial import Counts, Serving, Trial
from airworthy.training.model_files import LoadedModel

POLL_SECONDS = 0.2
REPORT_SECONDS = 1.0
DEFINITIONS_SECONDS = 1.0
RETRY_SECONDS = 2.0
STOP_SECONDS = 5.0
UNREAD = "could not be read"
"""In the error of a worker that could not get at a release, whatever the release is like."""

log = logging.getLogger(__name__)


class ChampionKeeper:
    """Keeps the champion of a use case loaded, and the challenger on trial. Readers take ``serving`` once for each request.

    Args:
        use_case: The use case.
        cache: The last good release on local disk.
        warm: Tries a loaded model before it serves; an exception refuses it.
        unfit: Says why the deployed features must not be fed to a model; None when they may be.
        stage: Serve the release whose digest is in this file, and never look at the promotion log: staging check, drill.
    """

    def __init__(
        self, use_case: UseCase, cache: ReleaseCache, warm: Callable[[LoadedModel], None],
        unfit: Callable[[LoadedModel], str | None] = lambda _: None, *, stage: Path | None = None,
    ) -> None:  # fmt: skip
        self.use_case = use_case
        self.serving: Serving | None = None
        self.error: str | None = None
        self.unfit: str | None = None
        self.ledger_away = False
        self.counts = Counts()
        self._cache = cache
        self._warm = warm
        self._is_unfit = unfit
        self._looked = 0.0
        self._stage = stage
        self._refused: tuple[promotions.Traffic, float] | None = None
        self._wall = get_settings().clock == "wall"
        self._clock = Clock(use_case)
        self._asks = BoundedReads(f"the clock of {use_case.name}", get_settings().online_timeout, self._clock.now)
        self._moment_lock = threading.Lock()
        self._moment: tuple[datetime, float] | None = None  # and when it was asked for (monotonic)
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to follow, and return at once.

        Loading and reporting have threads of their own, since a slow load must not stop the heartbeat.
        """
        tasks = [self._follow] if self._stage else [self._follow, self._heartbeat]
        self._threads = [threading.Thread(target=task, daemon=True) for task in tasks]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads."""
        self._stop.set()
        self._changed.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        self._clock.close()

    def moment(self, max_age_s: float = 0.0) -> datetime:
        """Data time now, UTC; while the ledger does not answer, the newest that was seen. For a thread that may wait.

        Args:
            max_age_s: What was asked so lately is not asked again: the replay's clock is in the ledger.
        """
        if seen := self.seen(max_age_s):
            return seen
        asked_at = time.monotonic()
        try:
            return self._saw(self._asks.result(self._asks.begin(self._clock.now)), asked_at)
        except ServiceUnavailableError:
            return self._newest()

    async def amoment(self, max_age_s: float = 0.0) -> datetime:
        """The same for an event loop, which goes on meanwhile."""
        if seen := self.seen(max_age_s):
            return seen
        asked_at = time.monotonic()
        try:
            return self._saw(await self._asks.aresult(self._asks.begin(self._clock.now)), asked_at)
        except ServiceUnavailableError:
            return self._newest()

    def seen(self, max_age_s: float) -> datetime | None:
        """Data time now, UTC, if nobody need be asked for it."""
        if self._wall:
            return wall_now()
        if self._moment is None or time.monotonic() - self._moment[1] > max_age_s:
            return None
        return self._moment[0]

    def _saw(self, moment: datetime, asked_at: float) -> datetime:
        with self._moment_lock:  # who asked first may be answered last; the clock never goes back
            self._moment = max(self._moment or (moment, asked_at), (moment, asked_at))
        return moment

    def _newest(self) -> datetime:
        return self._moment[0] if self._moment else self._cache.moment() or self.use_case.data.first_interval.start

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self._step()
            except Exception as error:  # the thread must live: without it no champion would ever change again
                log.exception("following the champion of %s failed", self.use_case.name)
                self.error = _words(error)
            self._stop.wait(POLL_SECONDS)

    def _step(self) -> None:
        self._look_at_definitions()
        target = self._target()
        if target is None or self._serves(target) or self._refused_lately(target):
            return
        try:
            serving = self._load_all(target)
        except Exception as error:
            # Whatever is wrong with a new release, the last good one goes on answering.
            log.exception("release %s of %s cannot serve", target.champion[:12], self.use_case.name)
            self._refused = (target, time.monotonic())
            self.error = _problem(
                f"release {target.champion[:12]} (generation {target.generation})", "cannot serve", error
            )
        else:
            self.serving, self.unfit = serving, None
            trial = serving.trial
            if trial is None or trial.model is not None:
                self.error, self._refused = None, None
            beside = f", {trial.digest[:12]} has {trial.share:.0%}" if trial else ""
            log.info("%s serves %s, generation %s%s", self.use_case.name, serving.version, serving.generation, beside)
            self._remember(serving)
        self._changed.set()

    def _look_at_definitions(self) -> None:
        """Features may be defined anew, and their values published, while this process runs."""
        serving = self.serving
        if serving is None or time.monotonic() - self._looked < DEFINITIONS_SECONDS:
            return
        self._looked = time.monotonic()
        unfit = self._is_unfit(serving.model)
        if unfit and unfit != self.unfit:
            log.error("%s", unfit)
        self.unfit = unfit
        trial = serving.trial
        if trial and trial.model and self._is_unfit(trial.model):
            self.serving = replace(serving, trial=replace(trial, model=None))  # the next step tells why

    def _target(self) -> promotions.Traffic | None:
        if self._stage is not None:
            return promotions.Traffic(self._stage.read_text().strip(), 0)
        try:
            traffic = promotions.traffic(self.use_case.name)
            self.ledger_away = False
            return traffic
        except SQLAlchemyError as error:
            if not self.ledger_away:
                log.warning("the ledger does not answer, %s keeps its champion: %s", self.use_case.name, _words(error))
            self.ledger_away = True
            kept = self._cache.champion() if self.serving is None else None
            return promotions.Traffic(kept.digest, kept.generation) if kept else None

    def _serves(self, target: promotions.Traffic) -> bool:
        present = self.serving
        if present is None or (present.digest, present.generation) != (target.champion, target.generation):
            return False
        return target.challenger is None or (present.trial is not None and present.trial.model is not None)

    def _refused_lately(self, target: promotions.Traffic) -> bool:
        if self._refused is None or self._refused[0] != target:
            return False
        return time.monotonic() - self._refused[1] < RETRY_SECONDS

    def _load_all(self, target: promotions.Traffic) -> Serving:
        """The champion, which must load, and the challenger, in whose place the champion answers when it does not."""
        serving = Serving(self._load(target.champion), target.champion, target.generation)
        if target.challenger is None:
            return serving
        model = None
        try:
            model = self._load(target.challenger)
        except Exception as error:
            log.exception("release %s of %s cannot be tried", target.challenger[:12], self.use_case.name)
            self._refused = (target, time.monotonic())
            which = f"release {target.challenger[:12]} on trial (generation {target.generation})"
            self.error = _problem(which, "cannot be loaded", error)
        return replace(serving, trial=Trial(target.challenger, target.share, model))

    def _load(self, digest: str) -> LoadedModel:
        """A release, verified and warmed; what is loaded already is taken as it is."""
        present = self.serving
        if present is not None and present.digest == digest:
            return present.model
        if present is not None and present.trial and present.trial.model and present.trial.digest == digest:
            return present.trial.model
        model = self._cache.load(digest)
        if unfit := self._is_unfit(model):
            raise ReleaseError(unfit, next_step="deliver a model that was trained on the present definitions")
        model.for_requests()
        self._warm(model)
        return game_day.sabotaged(model, staged=self._stage is not None and present is None)

    def _remember(self, serving: Serving) -> None:
        if self._stage is None and not self.ledger_away:
            try:
                self._cache.keep(serving.digest, serving.generation, self.moment())
            except OSError as error:
                log.warning("the last good release of %s is not kept on disk: %s", self.use_case.name, error)

    def _heartbeat(self) -> None:
        settings = get_settings()
        while not self._stop.is_set():
            serving, error = self.serving, self.error or self.unfit
            try:
                promotions.report_worker(
                    settings.service_instance, os.getpid(), self.use_case.name, serving.generation if serving else 0,
                    serving.digest if serving else None, error,
                )  # fmt: skip
                self._tell_counts()
            except SQLAlchemyError:
                log.debug("the ledger does not take the heartbeat of %s", self.use_case.name)
            self._changed.wait(REPORT_SECONDS)
            self._changed.clear()

    def _tell_counts(self) -> None:
        settings = get_settings()
        for (generation, role), tally in self.counts.untold().items():
            report_tally(settings.service_instance, os.getpid(), self.use_case.name, generation, role, tally)
            self.counts.told((generation, role), tally)


def warm_up(model: LoadedModel, values: list[dict[str, Any]]) -> None:
    """Score a few feature vectors, as served, before a model answers anybody.

    Raises:
        ReleaseError: the model has no finite probability for one of them.
    """
    for probability in model.predict(values):
        if not math.isfinite(probability) or not 0 <= probability <= 1:
            raise ReleaseError(
                f"release {model.digest[:12]} answers {probability} for the use case's example",
                next_step="train again: the served features do not fit this model",
            )


def _problem(release: str, what: str, error: Exception) -> str:
    """Why a release does not serve: it is not as it must be, or store, disk or ledger did not give what is needed to know."""
    outside = (OSError, SQLAlchemyError)
    unread = isinstance(error, outside) or isinstance(error.__cause__, outside)
    return f"{release} {UNREAD if unread else what}: {_words(error)}"


def _words(error: Exception) -> str:
    return error.what if isinstance(error, AirworthyError) else f"{type(error).__name__}: {str(error)[:300]}"
