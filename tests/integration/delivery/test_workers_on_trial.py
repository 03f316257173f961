"""What workers say while a challenger is on trial: only what lasts, and is the challenger's own fault, is held against it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from airworthy.config import UseCase
from airworthy.delivery import seen
from airworthy.ledger import promotions
from airworthy.ledger.clock import wall_now
from airworthy.serving.champion import UNREAD

from ..serving.world import promote, release  # noqa: TID252 - one small world for both

Say = Callable[..., None]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """A worker's heartbeat, by the number that the process has drawn."""

    def heartbeat(use_case: UseCase, process: str, generation: int, error: str | None = None) -> None:
        monkeypatch.setattr(promotions, "PROCESS", process)
        promotions.report_worker("local", 1, use_case.name, generation, "d", error)

    return heartbeat


@pytest.fixture
def observed(orders: UseCase, monkeypatch: pytest.MonkeyPatch) -> tuple[seen.Observer, str]:
    """A trial of generation 3, with seconds in place of minutes."""
    monkeypatch.setattr(seen, "LASTING_SECONDS", 0.4)
    promote(orders, release(orders, seed=1))
    digest = release(orders, seed=2).digest
    quick = orders.model_copy(update={"delivery": orders.delivery.model_copy(update={"switch_timeout_s": 1.0})})
    return seen.Observer(quick, digest, 3, wall_now() - timedelta(seconds=1)), digest[:12]


def test_an_error_that_a_second_try_mends_is_none_and_one_that_lasts_is(
    orders: UseCase, observed: tuple[seen.Observer, str], say: Say
) -> None:
    observer, short = observed
    error = f"release {short} on trial (generation 3) cannot be loaded: altered"
    say(orders, "a", 3)
    assert (observer.seen().waiting, observer.seen().problem) == ("", "")
    say(orders, "a", 3, error)
    first = observer.seen()
    assert (first.problem, "altered" in first.waiting) == ("", True)
    say(orders, "a", 3)
    assert observer.seen().waiting == ""
    time.sleep(0.5)
    say(orders, "a", 3, error)
    assert observer.seen().problem == ""  # its time counts anew
    time.sleep(0.5)
    assert "altered" in observer.seen().problem


def test_a_worker_that_starts_during_the_trial_has_its_own_time(
    orders: UseCase, observed: tuple[seen.Observer, str], say: Say
) -> None:
    observer, _ = observed
    say(orders, "a", 3)
    time.sleep(1.1)
    say(orders, "b", 0)
    found = observer.seen()
    assert (found.problem, found.unread, "no error reported" in found.waiting) == ("", "", True)
    time.sleep(1.1)
    assert "no error reported, for 1 s" in observer.seen().problem


@pytest.mark.parametrize("about", ["challenger", "champion"])
def test_a_store_that_is_away_is_not_the_challengers_fault(
    orders: UseCase, observed: tuple[seen.Observer, str], say: Say, about: str
) -> None:
    observer, short = observed
    words = (
        f"release {short} {UNREAD}: no such bucket" if about == "challenger" else "release 123 cannot serve: altered"
    )
    say(orders, "a", 3 if about == "challenger" else 2, words)
    assert observer.seen().waiting
    time.sleep(0.5)
    assert (observer.seen().problem, observer.seen().unread) == ("", "")
    time.sleep(0.6)
    found = observer.seen()
    assert (found.problem, words in found.unread) == ("", True)
