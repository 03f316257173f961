"""Requests in flight are answered together: one look-up, one scoring and one write of the log for all of them.

Each of these costs nearly as much for one request as for twenty. While a group is being answered the next one gathers; a
request that comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from airworthy.errors import ServiceUnavailableError

WORKERS = 2  # one looks up and writes while the other scores
MAX_WAITING = 20_000

log = logging.getLogger(__name__)
Work = TypeVar("Work")
Answer = TypeVar("Answer")


@dataclass(eq=False)
class _Item(Generic[Work, Answer]):
    work: Work
    rows: int
    future: asyncio.Future[Answer]


class Together(Generic[Work, Answer]):
    """Gathers calls of one event loop into groups, and answers each group in a thread.

    Args:
        answer: Answers a group: for each of its calls, in order, the answer or the exception.
        most: A group takes no further calls when it has so many rows.
        waiting: With so many rows waiting a call is refused: a flood must not fill the memory, nor make everybody wait.
    """

    def __init__(
        self, answer: Callable[[Sequence[Work]], Sequence[Answer | Exception]], *, most: int, waiting: int = MAX_WAITING
    ) -> None:
        self._answer = answer
        self._most = most
        self._limit = waiting
        self._waiting = 0
        self._queue: SimpleQueue[_Item[Work, Answer] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads."""
        self._threads = [threading.Thread(target=self._work, name=f"answers-{n}") for n in range(WORKERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Answer what waits, and end the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    async def ask(self, work: Work, rows: int) -> Answer:
        """The answer to one call.

        Raises:
            ServiceUnavailableError: too many are waiting already.
            Exception: what ``answer`` gave for it.
        """
        if self._waiting + rows > self._limit:
            raise ServiceUnavailableError(
                f"{self._waiting} requests are waiting for an answer already", next_step="ask again in a second"
            )
        self._waiting += rows
        item = _Item[Work, Answer](work, rows, asyncio.get_running_loop().create_future())
        self._queue.put(item)
        return await item.future

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            group, rows, last = [item], item.rows, False
            while rows < self._most and not last:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    last = True
                else:
                    group.append(more)
                    rows += more.rows
            try:
                answers: Sequence[Answer | Exception] = self._answer([one.work for one in group])
            except Exception as error:
                log.exception("a group of requests could not be answered")
                answers = [error] * len(group)
            item.future.get_loop().call_soon_threadsafe(self._deliver, group, answers)
            if last:
                return

    def _deliver(self, group: list[_Item[Work, Answer]], answers: Sequence[Answer | Exception]) -> None:
        for item, answer in zip(group, answers, strict=True):
            self._waiting -= item.rows
            if item.future.done():  # whoever asked is gone
                continue
            if isinstance(answer, Exception):
                item.future.set_exception(answer)
            else:
                item.future.set_result(answer)
