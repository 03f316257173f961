"""The moment of a prediction: asked for again when it is too old, by whoever needs it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airworthy.ledger.clock import Clock
from airworthy.serving.champion import ChampionKeeper

DAYS_AGO, NOW = datetime(2013, 1, 3, tzinfo=UTC), datetime(2013, 2, 3, tzinfo=UTC)


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

    monkeypatch.setenv("AIRWORTHY_CLOCK", "replay")
    monkeypatch.setattr(Clock, "now", now)
    use_case: Any = SimpleNamespace(name="x")
    nothing: Any = None
    keeper = ChampionKeeper(use_case, nothing, nothing, nothing)
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
