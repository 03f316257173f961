"""Reads that may take only so long: when they do not answer, nobody waits for them until they answer again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from airworthy.errors import ServiceUnavailableError

THREADS = 4
PAUSE_SECONDS = 0.5

log = logging.getLogger(__name__)
Found = TypeVar("Found")


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

    def read(self, work: Callable[[], Found]) -> Found:
        """The result of a read.

        Raises:
            ServiceUnavailableError: it failed, was late, or does not answer at present.
        """
        if self.away:
            raise self._unavailable("it did not answer before, and is asked again")
        try:
            return self._threads.submit(work).result(self._patience)
        except TimeoutError as error:
            self._close(words := f"no answer within {self._patience:g} s")
            raise self._unavailable(words) from error
        except Exception as error:
            self._close(words := f"{type(error).__name__}: {str(error)[:200]}")
            raise self._unavailable(words) from error

    def _unavailable(self, why: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"{self._what} cannot be read: {why}", next_step="bring it back; the service goes on by itself"
        )

    def _close(self, why: str) -> None:
        if self._away.acquire(blocking=False):
            log.warning("%s cannot be read: %s", self._what, why)
            threading.Thread(target=self._ask_again, daemon=True, name="ask-again").start()

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
