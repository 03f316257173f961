"""Reads that may take only so long: when they do not answer, nobody waits for them until they answer again."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from airworthy.errors import ServiceUnavailableError

THREADS = 4
PAUSE_SECONDS = 0.5

NEXT_STEP = "bring it back; the service goes on by itself"

log = logging.getLogger(__name__)
Found = TypeVar("Found")


class _AwayError(ServiceUnavailableError):
    """Nobody was asked."""


class BoundedReads:
    """Runs reads in threads of its own and waits for each only so long. Safe for threads.

    The first read that fails or is late closes it: the next ones fail at once, and a thread asks again and again until it is
    answered, which opens it. A database that hangs therefore costs a few requests their patience, and not every one.

    Args:
        what: What is read, for the messages.
        patience: Seconds to wait for one read.
        probe: A read whose success shows that the others will be answered.
    """

    def __init__(self, what: str, patience: float, probe: Callable[[], object]) -> None:
        self._what = what
        self._patience = patience
        self._probe = probe
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bounded-read")
        self._away = threading.Lock()  # held by the thread that asks again

    @property
    def away(self) -> bool:
        """Whether it does not answer now."""
        return self._away.locked()

    def begin(self, work: Callable[[], Found]) -> Future[Found]:
        """Begin with a read, unless it does not answer at present; ``result`` or ``aresult`` says what came of it."""
        if not self.away:
            return self._threads.submit(work)
        refused: Future[Found] = Future()
        refused.set_exception(
            _AwayError(self._words("it did not answer before, and is asked again"), next_step=NEXT_STEP)
        )
        return refused

    def result(self, reading: Future[Found]) -> Found:
        """The result of a read, for a thread that may wait.

        Raises:
            ServiceUnavailableError: it failed, was late, or does not answer at present.
        """
        with self._judged():
            return reading.result(self._patience)

    async def aresult(self, reading: Future[Found]) -> Found:
        """The same for an event loop, which goes on meanwhile."""
        with self._judged():
            return await asyncio.wait_for(asyncio.wrap_future(reading), self._patience)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        try:
            yield
        except _AwayError:
            raise
        except TimeoutError as error:
            raise self._closed(f"no answer within {self._patience:g} s") from error
        except Exception as error:
            raise self._closed(f"{type(error).__name__}: {str(error)[:200]}") from error

    def _closed(self, why: str) -> ServiceUnavailableError:
        """Ask again and again from now on; the error for whoever asked."""
        words = self._words(why)
        if self._away.acquire(blocking=False):
            log.warning("%s", words)
            threading.Thread(target=self._ask_again, daemon=True, name="ask-again").start()
        return ServiceUnavailableError(words, next_step=NEXT_STEP)

    def _words(self, why: str) -> str:
        return f"{self._what} cannot be read: {why}"

    def _ask_again(self) -> None:
        try:
            while True:
                time.sleep(PAUSE_SECONDS)
                try:
                    self._probe()
                except Exception:
                    log.debug("%s still does not answer", self._what, exc_info=True)
                else:
                    break
        finally:
            self._away.release()
        log.warning("%s can be read again", self._what)
