"""Who may call from where, and how much at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from airworthy.config import Settings
from airworthy.errors import ConfigurationError
from airworthy.serving.contract import MAX_BODY
from airworthy.serving.guards import BodyLimit, check_binding, error_handlers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.7", "example.org"])
@pytest.mark.parametrize("key", [None, ""])
def test_beyond_this_machine_only_with_a_key(host: str, key: str | None) -> None:
    with pytest.raises(ConfigurationError, match="without an API key"):
        check_binding(Settings(service_host=host, service_api_key=key))
    check_binding(Settings(service_host=host, service_api_key="secret"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_on_this_machine_no_key_is_needed(host: str) -> None:
    check_binding(Settings(service_host=host))


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY, 200), (MAX_BODY + 1, 413)])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_never_reaches_the_application(size: int, status: int, chunked: bool) -> None:
    seen: list[int] = []
    app = FastAPI(exception_handlers=error_handlers())
    app.add_middleware(BodyLimit)

    @app.post("/")
    async def take(request: Request) -> dict[str, int]:
        seen.append(len(await request.body()))
        return {"size": seen[-1]}

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield b"x" * min(100_000, size - start)

    async def ask() -> httpx.Response:
        content: Any = chunks() if chunked else b"x" * size
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            return await client.post("/", content=content)

    answer = asyncio.run(ask())
    assert answer.status_code == status
    assert seen == ([size] if status == 200 else [])
