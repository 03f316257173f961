"""Requests in flight are answered together: one look-up, one scoring and one write of the log for all of them.

Each of these costs nearly as much for one request as for twenty. While a group is being answered the next one gathers; a
request that comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from airworthy.errors import ServiceUnavailableError

GROUPS = 3  # one waits for a database while another one is computed
MAX_WAITING = 20_000
# With so many rows a group is begun, whatever else waits: the loop must not be busy with one for long.
ENOUGH_ROWS = 64
STOP_SECONDS = 5.0

log = logging.getLogger(__name__)
Work = TypeVar("Work")
Answer = TypeVar("Answer")


@dataclass(eq=False)
class _Item(Generic[Work, Answer]):
    work: Work
    rows: int
    future: asyncio.Future[Answer]
    quick: bool


class Together(Generic[Work, Answer]):
    """Gathers calls of one event loop into groups; computes their answers, keeps them, and only then gives them.

    All that the network has for the event loop is read before any of it is begun. Everything is computed on the loop, but for what
    waits: a thread that computes wants the interpreter at the same time as the loop, and both wait for each other. Whatever may
    wait for the disk is done in one thread always.

    Args:
        compute: Answers a group of quick calls: for each of them, in order, the answer or the exception.
        compute_slow: The same for calls that wait for something. A few groups of them are under way at the same time, and what
            comes meanwhile is the next one.
        keep: Told the answers of a group before they are given; gives them back, or the exceptions that come instead.
        waiting: With so many rows waiting a call is refused: a flood must not fill the memory, nor make everybody wait.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Work]], Sequence[Answer | Exception]],
        compute_slow: Callable[[Sequence[Work]], Awaitable[Sequence[Answer | Exception]]],
        keep: Callable[[Sequence[Answer | Exception]], Sequence[Answer | Exception]],
        *,
        waiting: int = MAX_WAITING,
    ) -> None:
        self._compute = compute
        self._compute_slow = compute_slow
        self._keep = keep
        self._limit = waiting
        self._waiting = 0
        self._turn: list[_Item[Work, Answer]] = []
        self._turn_rows = 0
        self._few: deque[_Item[Work, Answer]] = deque()
        self._large: deque[_Item[Work, Answer]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._large_under_way = 0
        self._computed: SimpleQueue[tuple[list[_Item[Work, Answer]], Sequence[Answer | Exception]] | None] = (
            SimpleQueue()
        )
        self._keeper = threading.Thread(target=self._keep_computed, name="answers-kept")

    def start(self) -> None:
        """Start the thread that keeps answers."""
        self._keeper.start()

    async def stop(self) -> None:
        """End it, once what is under way is answered. Nobody asks any more by then."""
        deadline = time.monotonic() + STOP_SECONDS
        while self._under_way and time.monotonic() < deadline:
            await asyncio.wait(self._under_way, timeout=STOP_SECONDS)
        self._computed.put(None)
        await asyncio.to_thread(self._keeper.join)

    async def ask(self, work: Work, rows: int, *, quick: bool = False) -> Answer:
        """The answer to one call.

        Args:
            work: The call.
            rows: How many rows it has.
            quick: It waits for nothing, and is computed in no time.

        Raises:
            ServiceUnavailableError: too many are waiting already.
            Exception: what ``compute`` or ``keep`` gave for it.
        """
        if self._waiting + rows > self._limit:
            raise ServiceUnavailableError(
                f"{self._waiting} requests are waiting for an answer already", next_step="ask again in a second"
            )
        self._waiting += rows
        loop = asyncio.get_running_loop()
        item: _Item[Work, Answer] = _Item(work, rows, loop.create_future(), quick)
        self._turn.append(item)
        self._turn_rows += rows
        if len(self._turn) == 1:
            loop.call_soon(self._end_of_turn, loop, 0)
        return await item.future

    def _end_of_turn(self, loop: asyncio.AbstractEventLoop, before: int) -> None:
        """Begin with what has come; but as long as each look at the network brings more, look again."""
        if before < len(self._turn) and self._turn_rows < ENOUGH_ROWS:
            loop.call_soon(self._end_of_turn, loop, len(self._turn))
            return
        turn, self._turn, self._turn_rows = self._turn, [], 0
        for item in turn:
            if not item.quick:
                (self._few if item.rows <= ENOUGH_ROWS else self._large).append(item)
        self._begin_slow()
        if group := [item for item in turn if item.quick]:
            self._computed.put((group, self._answers(group)))

    def _begin_slow(self) -> None:
        # Large calls leave one place to the others, who would wait for them long.
        while self._large and self._large_under_way < GROUPS - 1 and len(self._under_way) < GROUPS:
            self._large_under_way += 1
            self._begin([self._large.popleft()], self._large_done)
        while self._few and len(self._under_way) < GROUPS:
            group = [self._few.popleft()]
            rows = group[0].rows
            while self._few and (rows := rows + self._few[0].rows) <= ENOUGH_ROWS:
                group.append(self._few.popleft())
            self._begin(group, self._slow_done)

    def _begin(self, group: list[_Item[Work, Answer]], done: Callable[[asyncio.Task[None]], None]) -> None:
        task = asyncio.create_task(self._answer_slow(group))
        self._under_way.add(task)
        task.add_done_callback(done)

    async def _answer_slow(self, group: list[_Item[Work, Answer]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._compute_slow([one.work for one in group])
        except Exception as error:
            answers = _failed(group, error)
        self._computed.put((group, answers))

    def _large_done(self, task: asyncio.Task[None]) -> None:
        self._large_under_way -= 1
        self._slow_done(task)

    def _slow_done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._begin_slow()

    def _answers(self, group: list[_Item[Work, Answer]]) -> Sequence[Answer | Exception]:
        try:
            return self._compute([one.work for one in group])
        except Exception as error:
            return _failed(group, error)

    def _keep_computed(self) -> None:
        while (computed := self._computed.get()) is not None:
            items, answers, last = [*computed[0]], [*computed[1]], False
            while not last and not self._computed.empty():  # nobody else takes from it
                more = self._computed.get()
                if more is None:
                    last = True
                else:
                    items += more[0]
                    answers += more[1]
            self._give(items, answers)
            if last:
                return

    def _give(self, items: list[_Item[Work, Answer]], answers: Sequence[Answer | Exception]) -> None:
        try:
            answers = self._keep(answers)
        except Exception as error:
            log.exception("the answers of a group of requests could not be kept")
            answers = [error] * len(items)
        items[0].future.get_loop().call_soon_threadsafe(self._deliver, items, answers)

    def _deliver(self, items: list[_Item[Work, Answer]], answers: Sequence[Answer | Exception]) -> None:
        for item, answer in zip(items, answers, strict=True):
            self._waiting -= item.rows
            if item.future.done():  # whoever asked is gone
                continue
            if isinstance(answer, Exception):
                item.future.set_exception(answer)
            else:
                item.future.set_result(answer)


def _failed(group: list[Any], error: Exception) -> list[Exception]:
    log.error("a group of requests could not be answered", exc_info=error)
    return [error] * len(group)
