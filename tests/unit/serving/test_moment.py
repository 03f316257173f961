"""The moment of a prediction: asked for again when it is too old, by whoever needs it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from airworthy.config import get_settings
from airworthy.ledger.clock import Clock
from airworthy.serving.champion import ChampionKeeper

DAYS_AGO, NOW = datetime(2013, 1, 3, tzinfo=UTC), datetime(2013, 2, 3, tzinfo=UTC)
PATIENCE = 2.0


def keeper_of(now: Callable[[object], datetime], monkeypatch: pytest.MonkeyPatch) -> ChampionKeeper:
    """One whose clock says this."""
    monkeypatch.setattr(Clock, "now", now)
    use_case: Any = SimpleNamespace(name="x")
    nothing: Any = None
    return ChampionKeeper(use_case, nothing, nothing, nothing)


def test_who_needs_the_moment_while_another_asks_for_it_does_not_get_an_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a service that nobody has asked while the replay clock went on for a month;
    told = iter([DAYS_AGO])
    answer, asked = threading.Event(), threading.Semaphore(0)

    def now(_: object) -> datetime:
        if old := next(told, None):
            return old
        asked.release()
        assert answer.wait(10)
        return NOW

    keeper = keeper_of(now, monkeypatch)
    assert keeper.moment() == DAYS_AGO
    time.sleep(0.05)
    # when two threads need the moment at once,
    found: list[datetime] = []
    threads = [threading.Thread(target=lambda: found.append(keeper.moment(0.02))) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert asked.acquire(timeout=10), "it took what was seen last"
    answer.set()
    for thread in threads:
        thread.join()
    # then both have the present one.
    assert found == [NOW, NOW]


def test_an_answer_that_comes_late_does_not_take_the_moment_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a thread whose answer is on its way for long,
    asked, answer = threading.Event(), threading.Event()
    slow = threading.Thread(target=lambda: keeper.moment())

    def now(_: object) -> datetime:
        if asked.is_set():
            return NOW
        asked.set()
        assert answer.wait(10)
        return DAYS_AGO

    keeper = keeper_of(now, monkeypatch)
    slow.start()
    assert asked.wait(10)
    # when another one asks later and is answered before,
    assert keeper.moment() == NOW
    answer.set()
    slow.join()
    # then the newer moment stays.
    assert keeper.moment(10.0) == NOW


def test_an_answer_that_does_not_come_leaves_what_was_seen_last(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a ledger that answered once, and then hangs,
    answers, hangs = iter([NOW]), threading.Event()

    def now(_: object) -> datetime:
        if told := next(answers, None):
            return told
        hangs.wait(20)
        raise OperationalError("SELECT", {}, OSError("gone"))

    monkeypatch.setenv("AIRWORTHY_ONLINE_TIMEOUT", str(PATIENCE))
    get_settings.cache_clear()
    keeper = keeper_of(now, monkeypatch)
    assert keeper.moment() == NOW

    async def ask() -> float:
        started = time.monotonic()
        assert await asyncio.gather(*(keeper.amoment() for _ in range(20))) == [NOW] * 20
        return time.monotonic() - started

    # then whoever asks waits for as long as the settings say, and from then on for nothing.
    try:
        assert PATIENCE <= asyncio.run(ask()) < 3 * PATIENCE
        started = time.monotonic()
        assert keeper.moment() == NOW
        asyncio.run(ask())
        assert time.monotonic() - started < PATIENCE / 2
    finally:
        hangs.set()
        get_settings.cache_clear()
