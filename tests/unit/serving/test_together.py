"""Calls in flight are answered as a group; too many are refused; each gets its own answer or error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from airworthy.errors import ServiceUnavailableError
from airworthy.serving.together import Together


def test_what_waits_is_answered_together_and_each_gets_its_own() -> None:
    groups: list[list[int]] = []
    go = threading.Event()

    def answer(group: Sequence[int]) -> list[int | Exception]:
        go.wait(10)
        groups.append(list(group))
        return [ValueError(str(n)) if n == 7 else n * 2 for n in group]

    async def ask() -> list[int | BaseException]:
        waiting = [asyncio.ensure_future(together.ask(n, 1)) for n in range(20)]
        await asyncio.sleep(0.2)
        go.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    together: Together[int, int] = Together(answer, most=8)
    together.start()
    found = asyncio.run(ask())
    together.stop()
    assert [n for n in found if not isinstance(n, BaseException)] == [n * 2 for n in range(20) if n != 7]
    assert str(found[7]) == "7"
    assert max(map(len, groups)) == 8
    assert sorted(n for group in groups for n in group) == list(range(20))


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

    together: Together[int, int] = Together(answer, most=1000, waiting=1000)
    together.start()
    asyncio.run(ask())
    together.stop()
