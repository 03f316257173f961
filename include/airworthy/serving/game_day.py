"""Game days: a release that misbehaves on purpose, to see that a delivery notices and that no client does.

``var/game_day.json`` names a release and a fault, ``{"release": "<first digits of its digest>", "fault": "nan"}``; the
service then loads that release with the fault. Only a release that is switched to is touched (by a trial, the promotion log, a
rollback drill), never the one that a staging check starts with: it would be turned down before anybody could see the trial.
A model that is loaded already stays as it is. In production (``AIRWORTHY_ENV=prod``) the file is refused: it is not read, and
an error is logged.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airworthy.config import get_settings
from airworthy.errors import ConfigurationError, ReleaseError
from airworthy.training.model_files import LoadedModel
from airworthy.training.scorer import Scorer

Fault = Literal["errors", "slow", "nan", "crash_at_load"]
SHARE_OF_ERRORS = 0.2
SLOWDOWN = 3.0

log = logging.getLogger(__name__)


class GameDay(BaseModel):
    """What goes wrong.

    Attributes:
        release: First digits of its digest.
        fault: ``errors`` in one request of five, ``slow`` three times the model time, ``nan`` for every score, or
            ``crash_at_load``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    release: str = Field(pattern="^[0-9a-f]{8,64}$")
    fault: Fault


def path() -> Path:
    """Where the file is."""
    return get_settings().var / "game_day.json"


def plan(release: str, fault: Fault) -> None:
    """Let a release misbehave from its next load on.

    Raises:
        ConfigurationError: this is production.
    """
    if get_settings().env == "prod":
        raise ConfigurationError(
            "a game day is not for production", next_step="play it on dev or staging (AIRWORTHY_ENV)"
        )
    content = GameDay(release=release, fault=fault).model_dump_json()
    temporary = path().with_suffix(".tmp")
    temporary.write_text(content)
    temporary.replace(path())


def end() -> None:
    """Nothing misbehaves any more, from the next load on."""
    path().unlink(missing_ok=True)


def sabotaged(model: LoadedModel, *, staged: bool = False) -> LoadedModel:
    """The model as it is, or with the fault that the game day has for it.

    Args:
        model: A model that was loaded and warmed.
        staged: A staging check starts with it.

    Raises:
        ReleaseError: the fault is ``crash_at_load``.
    """
    found = None if staged else _planned()
    if found is None or not model.digest.startswith(found.release):
        return model
    log.warning("game day: release %s misbehaves (%s)", model.digest[:12], found.fault)
    if found.fault == "crash_at_load":
        raise ReleaseError(
            f"game day: release {model.digest[:12]} crashes when it is loaded", next_step=f"remove {path()}"
        )
    return replace(model, scorer=_Faulty(model.scorer, found.fault))


def _planned() -> GameDay | None:
    try:
        content = path().read_text()
    except OSError:
        return None
    if get_settings().env == "prod":
        log.error("%s is ignored: there are no game days in production", path())
        return None
    try:
        return GameDay.model_validate_json(content)
    except ValidationError as error:
        log.error("%s is ignored: %s", path(), error.errors()[0]["msg"])
        return None


class _Faulty(Scorer):
    """A scorer with a fault."""

    def __init__(self, scorer: Scorer, fault: Fault) -> None:
        self.width = scorer.width
        self._scorer, self._fault = scorer, fault
        self._calls = itertools.count(1)

    def to_files(self) -> tuple[bytes, bytes]:
        return self._scorer.to_files()

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        if self._fault == "errors" and next(self._calls) % round(1 / SHARE_OF_ERRORS) == 0:
            raise ArithmeticError("game day: this request fails")
        started = time.perf_counter()
        scores = self._scorer.predict(matrix)
        if self._fault == "slow":
            time.sleep((SLOWDOWN - 1) * (time.perf_counter() - started))
        return np.full_like(scores, math.nan) if self._fault == "nan" else scores
