"""One connection too many is closed at once, and room comes back; an answer is one packet, at once."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
import uvloop
from fastapi import FastAPI

from airworthy.serving import patience
from ports import free_port

MOST = 5
ASK = b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def served(app: Any) -> Iterator[int]:
    """A real server with the service's protocol; its port."""
    given = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=given, http=patience.PatientProtocol, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield given
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that has room for few."""
    monkeypatch.setattr(patience, "MAX_CONNECTIONS", MOST)
    with served(FastAPI()) as given:
        yield given


def said(one: socket.socket) -> bytes:
    """What the server answers; nothing when it has closed the connection."""
    try:
        one.sendall(ASK)
        return one.recv(12)
    except (ConnectionResetError, BrokenPipeError):
        return b""


def test_one_connection_too_many_is_closed_and_the_others_are_served(port: int) -> None:
    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=20)

    held = [connect() for _ in range(MOST)]
    assert {said(one) for one in held[1:]} == {b"HTTP/1.1 200"}
    assert said(connect()) == b""
    assert said(held[0]) == b"HTTP/1.1 200"
    held.pop().close()
    deadline = time.monotonic() + 10
    while not (answer := said(connect())):
        assert time.monotonic() < deadline, "no room came back"
    assert answer == b"HTTP/1.1 200"


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def test_an_answer_is_one_packet_and_leaves_before_anything_else_is_begun() -> None:
    there = threading.Event()
    waited: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if scope["path"] == "/busy":  # the loop has other work, which goes on until the client has its answer
                asyncio.get_running_loop().call_soon(lambda: waited.append(there.wait(10)))
            await answer(send, b"the body")

    with served(app) as port, socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        for _ in range(50):
            one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one.recv(65536).endswith(b"the body")
        one.sendall(b"GET /busy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one.recv(65536).endswith(b"the body")
        there.set()
    assert waited == [True]


def test_an_answer_to_a_client_that_is_gone_is_no_error() -> None:
    wrong: list[dict[str, Any]] = []

    async def lose() -> None:
        loop, made = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        loop.set_exception_handler(lambda _, context: wrong.append(context))

        class Accepting(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                made.set_result(transport)

        server = await loop.create_server(Accepting, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        transport = await made
        transport.abort()
        await asyncio.sleep(0.05)
        patience._OneWrite(transport, loop).write(b"too late")
        await asyncio.sleep(0.05)
        writer.close()
        server.close()

    uvloop.run(lose())
    assert wrong == []
