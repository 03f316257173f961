"""Calls in flight are answered as a group; too many are refused; each gets its own answer or error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from airworthy.errors import ServiceUnavailableError
from airworthy.serving.together import ENOUGH_ROWS, Together


def test_what_waits_is_answered_together_and_each_gets_its_own() -> None:
    groups: list[list[int]] = []
    go = threading.Event()

    def answer(group: Sequence[int]) -> list[int | Exception]:
        groups.append(list(group))
        go.wait(10)
        return [ValueError(str(n)) if n == 7 else n * 2 for n in group]

    async def ask() -> list[int | BaseException]:
        waiting = []
        for turn in range(5):
            waiting += [asyncio.ensure_future(together.ask(4 * turn + n, 1)) for n in range(4)]
            await asyncio.sleep(0.01)
            while len(groups) < min(2, turn + 1):  # each of the threads begins with a turn
                await asyncio.sleep(0.01)
        go.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    together: Together[int, int] = Together(answer, list, most=8)
    together.start()
    found = asyncio.run(ask())
    together.stop()
    assert [n for n in found if not isinstance(n, BaseException)] == [n * 2 for n in range(20) if n != 7]
    assert str(found[7]) == "7"
    # Both threads have a turn each, and what came meanwhile is taken together, until there are enough rows.
    assert sorted(map(len, groups)) == [4, 4, 4, 8]
    assert sorted(n for group in groups for n in group) == list(range(20))


def test_large_calls_of_one_turn_are_groups_of_their_own() -> None:
    groups: list[list[int]] = []

    def answer(group: Sequence[int]) -> list[int | Exception]:
        groups.append(list(group))
        return list(group)

    async def ask() -> list[int]:
        return await asyncio.gather(*(together.ask(n, rows) for n, rows in enumerate([8, 8, 3, 5, 1])))

    together: Together[int, int] = Together(answer, list, most=8)
    together.start()
    assert asyncio.run(ask()) == [0, 1, 2, 3, 4]
    together.stop()
    assert sorted(groups) == [[0], [1], [2, 3], [4]]


def test_too_many_waiting_rows_are_refused_at_once_and_room_comes_back() -> None:
    go = threading.Event()

    def answer(group: Sequence[int]) -> list[int | Exception]:
        go.wait(10)
        return list(group)

    async def ask() -> None:
        waiting = asyncio.ensure_future(together.ask(1, 900))
        await asyncio.sleep(0)
        with pytest.raises(ServiceUnavailableError, match="900 requests are waiting"):
            await together.ask(2, 101)
        go.set()
        assert await waiting == 1
        assert await together.ask(2, 101) == 2

    together: Together[int, int] = Together(answer, list, most=1000, waiting=1000)
    together.start()
    asyncio.run(ask())
    together.stop()


def test_quick_calls_of_one_turn_are_computed_on_the_loop_and_given_when_they_are_kept() -> None:
    groups: list[list[int]] = []
    threads: set[str] = set()
    go = threading.Event()

    def compute(group: Sequence[int]) -> list[int | Exception]:
        threads.add(threading.current_thread().name)
        groups.append(list(group))
        return [ValueError(str(n)) if n == 2 else n for n in group]

    def keep(answers: Sequence[int | Exception]) -> list[int | Exception]:
        threads.add(threading.current_thread().name)
        go.wait(10)
        return [ServiceUnavailableError("full", next_step="") if n == 3 else n for n in answers]

    async def ask() -> list[int | BaseException]:
        waiting = [asyncio.ensure_future(together.ask(n, 1, quick=True)) for n in range(5)]
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in waiting)
        go.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    together: Together[int, int] = Together(compute, keep, most=1000)
    together.start()
    found = asyncio.run(ask())
    together.stop()
    assert groups == [[0, 1, 2, 3, 4]]
    assert threads == {"MainThread", "answers-kept"}
    assert [type(n).__name__ for n in found] == ["int", "int", "ValueError", "ServiceUnavailableError", "int"]


def test_quick_calls_gather_as_long_as_more_come_but_not_without_end() -> None:
    groups: list[list[int]] = []

    def compute(group: Sequence[int]) -> list[int | Exception]:
        groups.append(list(group))
        return list(group)

    async def ask(rows: int, count: int) -> None:
        groups.clear()
        loop, waiting = asyncio.get_running_loop(), list[asyncio.Future[int]]()

        def one_more_each_turn() -> None:
            waiting.append(asyncio.ensure_future(together.ask(len(waiting), rows=rows, quick=True)))
            if len(waiting) < count:
                loop.call_soon(one_more_each_turn)

        one_more_each_turn()
        while len(waiting) < count:
            await asyncio.sleep(0)
        assert await asyncio.gather(*waiting) == list(range(count))

    together: Together[int, int] = Together(compute, list, most=1000)
    together.start()
    asyncio.run(ask(rows=1, count=20))
    assert groups == [list(range(20))]
    asyncio.run(ask(rows=ENOUGH_ROWS // 4, count=20))
    assert max(map(len, groups)) <= 6
    assert [n for group in groups for n in group] == list(range(20))
    together.stop()


def test_an_answer_that_cannot_be_kept_is_not_given() -> None:
    def keep(_: Sequence[int | Exception]) -> list[int | Exception]:
        raise OSError("gone")

    async def ask(*, quick: bool) -> None:
        with pytest.raises(OSError, match="gone"):
            await together.ask(1, 1, quick=quick)

    together: Together[int, int] = Together(list, keep, most=1000)
    together.start()
    asyncio.run(ask(quick=True))
    asyncio.run(ask(quick=False))
    together.stop()
