"""Calls in flight are answered as a group; too many are refused; each gets its own answer or error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from airworthy.errors import ServiceUnavailableError
from airworthy.serving.together import ENOUGH_ROWS, GROUPS, Together


def answers(group: Sequence[int]) -> list[int | Exception]:
    return [ValueError(str(n)) if n == 7 else n * 2 for n in group]


async def never(group: Sequence[int]) -> list[int | Exception]:
    raise AssertionError(f"quick calls {group} were not computed at once")


def together_of(
    slow: Callable[[Sequence[int]], Awaitable[Sequence[int | Exception]]], **options: int
) -> Together[int, int]:
    made: Together[int, int] = Together(answers, slow, list, **options)
    made.start()
    return made


def test_what_waits_is_answered_together_and_each_gets_its_own() -> None:
    groups: list[list[int]] = []

    async def ask() -> list[int | BaseException]:
        go = asyncio.Event()

        async def slow(group: Sequence[int]) -> list[int | Exception]:
            groups.append(list(group))
            await go.wait()
            return answers(group)

        together = together_of(slow)
        waiting = []
        for turn in range(GROUPS + 2):
            waiting += [asyncio.ensure_future(together.ask(4 * turn + n, 1)) for n in range(4)]
            await asyncio.sleep(0.01)
        go.set()
        try:
            return await asyncio.gather(*waiting, return_exceptions=True)
        finally:
            await together.stop()

    found = asyncio.run(ask())
    count = 4 * (GROUPS + 2)
    assert [n for n in found if not isinstance(n, BaseException)] == [n * 2 for n in range(count) if n != 7]
    assert str(found[7]) == "7"
    # So many turns are under way at once, and what came meanwhile is taken together.
    assert list(map(len, groups)) == [*[4] * GROUPS, 8]
    assert [n for group in groups for n in group] == list(range(count))


def test_a_group_has_enough_rows_or_one_large_call() -> None:
    groups: list[list[int]] = []

    async def slow(group: Sequence[int]) -> list[int | Exception]:
        groups.append(list(group))
        await asyncio.sleep(0)
        return list(group)

    async def ask() -> list[int]:
        together = together_of(slow)
        large, half = 2 * ENOUGH_ROWS, ENOUGH_ROWS // 2
        try:
            asked = (together.ask(n, rows) for n, rows in enumerate([large, ENOUGH_ROWS, half, half, 1, large, 1, 1]))
            return await asyncio.gather(*asked)
        finally:
            await together.stop()

    assert asyncio.run(ask()) == list(range(8))
    assert groups == [[0], [5], [1], [2, 3], [4, 6, 7]]


def test_large_calls_leave_a_place_to_the_others() -> None:
    async def ask() -> None:
        go, large = asyncio.Event(), list[int]()

        async def slow(group: Sequence[int]) -> list[int | Exception]:
            if group[0] >= 100:
                large.extend(group)
                await go.wait()
            return list(group)

        together = together_of(slow)
        waiting = [asyncio.ensure_future(together.ask(100 + n, ENOUGH_ROWS + 1)) for n in range(GROUPS + 2)]
        for n in range(5):
            assert await asyncio.wait_for(together.ask(n, 1), 5) == n
        assert large == [100 + n for n in range(GROUPS - 1)]
        go.set()
        assert await asyncio.gather(*waiting) == [100 + n for n in range(GROUPS + 2)]
        await together.stop()

    asyncio.run(ask())


def test_what_is_under_way_when_it_stops_is_answered() -> None:
    async def ask() -> None:
        async def slow(group: Sequence[int]) -> list[int | Exception]:
            await asyncio.sleep(0.1)
            return list(group)

        together = together_of(slow)
        waiting = [asyncio.ensure_future(together.ask(n, ENOUGH_ROWS)) for n in range(GROUPS + 1)]
        await asyncio.sleep(0.01)
        await together.stop()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == list(range(GROUPS + 1))

    asyncio.run(ask())


def test_a_group_that_fails_as_a_whole_gives_its_error_to_each_and_the_next_one_is_answered() -> None:
    async def slow(group: Sequence[int]) -> list[int | Exception]:
        await asyncio.sleep(0)
        if 1 in group:
            raise OSError("gone")
        return list(group)

    async def ask() -> None:
        together = together_of(slow)
        for _ in range(2 * GROUPS):  # none of them is under way for ever
            found = await asyncio.gather(together.ask(1, 1), together.ask(2, 1), return_exceptions=True)
            assert list(map(str, found)) == ["gone", "gone"]
        assert await together.ask(3, 1) == 3
        await together.stop()

    asyncio.run(ask())


def test_too_many_waiting_rows_are_refused_at_once_and_room_comes_back() -> None:
    async def ask() -> None:
        go = asyncio.Event()

        async def slow(group: Sequence[int]) -> list[int | Exception]:
            await go.wait()
            return list(group)

        together = together_of(slow, waiting=1000)
        waiting = asyncio.ensure_future(together.ask(1, 900))
        await asyncio.sleep(0)
        with pytest.raises(ServiceUnavailableError, match="900 requests are waiting"):
            await together.ask(2, 101)
        go.set()
        assert await waiting == 1
        assert await together.ask(2, 101) == 2
        await together.stop()

    asyncio.run(ask())


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

    together: Together[int, int] = Together(compute, never, keep)
    together.start()
    found = asyncio.run(ask())
    asyncio.run(together.stop())
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

    together: Together[int, int] = Together(compute, never, list)
    together.start()
    asyncio.run(ask(rows=1, count=20))
    assert groups == [list(range(20))]
    asyncio.run(ask(rows=ENOUGH_ROWS // 4, count=20))
    assert max(map(len, groups)) <= 6
    assert [n for group in groups for n in group] == list(range(20))
    asyncio.run(together.stop())


def test_an_answer_that_cannot_be_kept_is_not_given() -> None:
    def keep(_: Sequence[int | Exception]) -> list[int | Exception]:
        raise OSError("gone")

    async def ask(*, quick: bool) -> None:
        with pytest.raises(OSError, match="gone"):
            await together.ask(1, 1, quick=quick)

    async def slow(group: Sequence[int]) -> list[int | Exception]:
        return list(group)

    together: Together[int, int] = Together(list, slow, keep)
    together.start()
    asyncio.run(ask(quick=True))
    asyncio.run(ask(quick=False))
    asyncio.run(together.stop())
