"""Reads that fail, are late, or are refused while nobody answers: in threads and on an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from airworthy.errors import ServiceUnavailableError
from airworthy.features import bounded
from airworthy.features.bounded import BoundedReads

PATIENCE = 0.2


def in_thread(reads: BoundedReads, work: Callable[[], Any]) -> Any:
    return reads.result(reads.begin(work))


def on_loop(reads: BoundedReads, work: Callable[[], Any]) -> Any:
    async def ask() -> Any:
        return await reads.aresult(reads.begin(work))

    return asyncio.run(ask())


def failing() -> None:
    raise OSError("gone")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    monkeypatch.setattr(bounded, "PAUSE_SECONDS", 0.01)
    return threading.Event()


def reads_of(answers: threading.Event) -> BoundedReads:
    return BoundedReads("the store", PATIENCE, lambda: None if answers.is_set() else failing())


@pytest.mark.parametrize("ask", [in_thread, on_loop])
def test_what_fails_or_is_late_closes_it_until_it_answers_again(
    ask: Callable[[BoundedReads, Callable[[], Any]], Any], answers: threading.Event
) -> None:
    late = threading.Event()
    for work, words in ((failing, "OSError: gone"), (lambda: late.wait(20), "no answer within 0.2 s")):
        answers.clear()
        reads = reads_of(answers)
        assert ask(reads, lambda: 7) == 7
        started = time.monotonic()
        with pytest.raises(ServiceUnavailableError, match=f"the store cannot be read: {words}"):
            ask(reads, work)
        assert time.monotonic() - started < 10
        asked = list[int]()
        with pytest.raises(ServiceUnavailableError, match=r"^the store cannot be read: it did not answer before"):
            ask(reads, lambda asked=asked: asked.append(1))
        assert asked == []  # nobody waits for what does not answer
        answers.set()
        deadline = time.monotonic() + 10
        while reads.away:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert ask(reads, lambda: 8) == 8
    late.set()


def test_the_loop_goes_on_while_a_read_takes_its_time(answers: threading.Event) -> None:
    reads, read, went_on = reads_of(answers), threading.Event(), False

    async def ask() -> bool:
        reading = asyncio.ensure_future(reads.aresult(reads.begin(lambda: read.wait(10))))
        await asyncio.sleep(0)
        nonlocal went_on
        went_on = not reading.done()
        read.set()
        return await reading

    assert asyncio.run(ask())
    assert went_on
