"""Who scores which request while a challenger is on trial, and the counts by which the two are compared."""

from __future__ import annotations

import hashlib
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from airworthy.errors import DataRejectedError, ServiceUnavailableError
from airworthy.ledger.tallies import BUCKETS_MS, Role, Tally, bucket
from airworthy.training.model_files import LoadedModel

log = logging.getLogger(__name__)

WARM = 20
"""So many requests of each loaded model are not timed: caches and lazy parts make them slower."""

Values = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """A challenger beside the champion.

    Attributes:
        digest: Of the release on trial.
        share: Its share of the requests; 0 is shadow mode.
        model: None when it could not be loaded: the champion answers in its place. Such requests are nobody's: the worker
            says what is wrong, and tries again.
    """

    digest: str
    share: float
    model: LoadedModel | None

    def has(self, key: str | None) -> bool:
        """Whether a request with this key is the challenger's to answer; one without a key never is."""
        return key is not None and self.share > 0 and position(self.digest, key) < self.share


@dataclass(frozen=True)
class Serving:
    """What answers now.

    Attributes:
        model: The champion, loaded.
        digest: The champion's release.
        generation: Of the promotion log; 0 for a release that is staged and not promoted.
        trial: The challenger beside it; None without one.
    """

    model: LoadedModel
    digest: str
    generation: int
    trial: Trial | None = None

    @property
    def version(self) -> str:
        """The champion's version."""
        return version_of(self.model)


def version_of(model: LoadedModel) -> str:
    """Version in the registry and first digits of the release's digest, such as ``v3-0f9c2b7a11d4``."""
    return _version(model.digest, model.version)


@lru_cache(maxsize=64)
def _version(digest: str, number: int | None) -> str:
    short = digest[:12]
    return short if number is None else f"v{number}-{short}"


def position(challenger: str, key: str) -> float:
    """Where a key stands in [0, 1) for a challenger: evenly spread, always the same, and other for another challenger.

    A key goes to the challenger when it stands below the share, so a growing share only adds keys.
    """
    digest = hashlib.blake2b(f"{challenger}\0{key}".encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "big") / (1 << 56)


@dataclass
class _Count:
    requests: int = 0
    errors: int = 0
    model_ms: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))


class Counts:
    """What each role did in this process, by generation; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[int, Role], _Count] = {}
        self._seen: dict[str, int] = {}
        self._told: dict[tuple[int, Role], tuple[int, int]] = {}

    def add(self, generation: int, role: Role, requests: int, errors: int = 0) -> None:
        """Count requests that a role was asked to score, and those of them that it failed."""
        with self._lock:
            count = self._counts.setdefault((generation, role), _Count())
            count.requests += requests
            count.errors += errors

    def time(self, generation: int, role: Role, digest: str, milliseconds: float | None) -> None:
        """Count the time of one request's scoring, if it was timed; the first ones of a release are left out."""
        if milliseconds is None:
            return
        with self._lock:
            seen = self._seen[digest] = self._seen.get(digest, 0) + 1
            if seen > WARM:
                self._counts.setdefault((generation, role), _Count()).model_ms[bucket(milliseconds)] += 1

    def untold(self) -> dict[tuple[int, Role], Tally]:
        """The tallies that changed since they were last told."""
        with self._lock:
            return {
                key: Tally(count.requests, count.errors, tuple(count.model_ms))
                for key, count in self._counts.items()
                if self._told.get(key) != (count.requests, sum(count.model_ms))
            }

    def told(self, key: tuple[int, Role], tally: Tally) -> None:
        """A tally was written down; those of generations long gone are dropped."""
        with self._lock:
            self._told[key] = (tally.requests, sum(tally.model_ms))
            newest = max(generation for generation, _ in self._counts)
            for old in [k for k in self._counts if k[0] < newest - 10]:
                del self._counts[old]
                self._told.pop(old, None)


class Scored(NamedTuple):
    """One answer of a model: the probability, and which model in which role gave it."""

    probability: float
    role: Role
    model: LoadedModel


def score(
    serving: Serving, values: Values, keys: Sequence[str | None], counts: Counts, *, final: bool = True
) -> list[Scored]:
    """Score requests by the champion, or by the challenger where their keys fall to it.

    Whatever is wrong with the challenger, the champion answers in its place, and the error is counted against it. A request
    that the champion refuses too is nobody's error.

    In a canary the first request is scored twice more by the model that answered it, and the last time is counted: its key
    alone decides whose time it is, and either model is warm then. A challenger is asked more seldom: what it took to answer
    is what cold caches take.

    Args:
        serving: What answers.
        values: Features by name, one dict for each request.
        keys: By which the requests are split; None for one that is the champion's.
        counts: Told what came of it.
        final: Nobody scores these again when it fails, so a failure of the champion is counted.

    Raises:
        DataRejectedError: a feature is absent, of another kind, or infinite.
        ServiceUnavailableError: the champion gave no finite probability; that is all that was counted.
    """
    trial, found = serving.trial, dict[int, Scored]()
    chosen = [n for n, key in enumerate(keys) if trial.has(key)] if trial else []
    tried = attempt(trial, [values[n] for n in chosen]) if trial and chosen else None
    if trial and trial.model and tried:
        for n, probability in zip(chosen, tried.probabilities, strict=True):
            if probability is not None:
                found[n] = Scored(probability, "challenger", trial.model)
    if rest := [n for n in range(len(values)) if n not in found]:
        probabilities = _by_champion(serving, [values[n] for n in rest], counts, final=final)
        found |= {n: Scored(p, "champion", serving.model) for n, p in zip(rest, probabilities, strict=True)}
    # What the champion answered in the challenger's place is not counted as its own.
    if len(values) > len(chosen):
        counts.add(serving.generation, "champion", len(values) - len(chosen))
    if trial and tried:
        tried.count(serving.generation, "challenger", counts)
    # A request without a key is never the challenger's: its time would have no counterpart.
    if trial and trial.share > 0 and values and keys[0] is not None:
        first = found[0]
        if first.role == ("challenger" if 0 in chosen else "champion"):
            counts.time(serving.generation, first.role, first.model.digest, _milliseconds(first.model, values[0]))
    return [found[n] for n in range(len(values))]


def _by_champion(serving: Serving, values: Values, counts: Counts, *, final: bool) -> list[float]:
    """The champion's probabilities; what it fails counts against it.

    The watch after a promotion goes by these errors: such requests get no answer.
    """
    wrong = len(values)
    try:
        probabilities = _scored(serving.model, values)
        wrong = sum(not _good(p) for p in probabilities)
    except DataRejectedError:
        wrong = 0
        raise
    finally:
        if final and wrong:
            counts.add(serving.generation, "champion", len(values), wrong)
    if wrong:
        raise ServiceUnavailableError(
            f"release {serving.digest[:12]} gave no finite probability",
            next_step="roll back: `airworthy rollback` offers what served before",
        )
    return probabilities


def score_unseen(
    serving: Serving, values: Values, counts: Counts, draw: Callable[[], float] = random.random
) -> list[float | None]:
    """What a challenger in shadow mode makes of requests that the champion has answered; None where it fails.

    Then one of the two models, drawn anew each time, scores the first request twice more, and the last time is counted. The
    time that the champion took to answer would be no control: it answers where other threads disturb it less.
    """
    trial = serving.trial
    if trial is None or trial.model is None:
        return [None] * len(values)
    tried = attempt(trial, values)
    tried.count(serving.generation, "shadow", counts)
    role: Role = "shadow" if draw() < 0.5 else "champion"
    model = trial.model if role == "shadow" else serving.model
    if tried.probabilities[0] is not None:
        counts.time(serving.generation, role, model.digest, _milliseconds(model, values[0]))
    return tried.probabilities


@dataclass(frozen=True)
class Attempt:
    """What a challenger made of some requests.

    Attributes:
        probabilities: None where it failed.
        loaded: False when there was no model that could have been asked; then it counts nothing.
    """

    probabilities: list[float | None]
    loaded: bool = True

    def count(self, generation: int, role: Role, counts: Counts) -> None:
        """Add it to the counts."""
        if self.loaded:
            counts.add(generation, role, len(self.probabilities), self.probabilities.count(None))


def attempt(trial: Trial, values: Values) -> Attempt:
    """Score by a challenger, whatever happens."""
    if trial.model is None:
        return Attempt([None] * len(values), loaded=False)
    try:
        probabilities = _scored(trial.model, values)
    except Exception:
        log.debug("release %s on trial cannot score", trial.digest[:12], exc_info=True)
        if len(values) == 1:
            return Attempt([None])
        # One request that it cannot score must not count as an error for the others.
        return Attempt([p for one in values for p in attempt(trial, [one]).probabilities])
    return Attempt([p if _good(p) else None for p in probabilities])


def _scored(model: LoadedModel, values: Values) -> list[float]:
    return list(map(float, model.predict(list(values))))


def _milliseconds(model: LoadedModel, one: dict[str, Any]) -> float | None:
    """What scoring a request takes that was scored just before; None when it fails, which counts where it answers."""
    try:
        model.predict([one])
        started = time.perf_counter()
        model.predict([one])
        return (time.perf_counter() - started) * 1000
    except Exception:
        log.debug("release %s cannot score a request again", model.digest[:12], exc_info=True)
        return None


def _good(probability: float) -> bool:
    return math.isfinite(probability) and 0 <= probability <= 1
