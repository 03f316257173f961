"""One connection too many is closed at once; those that are there are served, and room comes back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI

from airworthy.serving import patience
from ports import free_port

MOST = 5
ASK = b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A real server with the service's protocol, and room for few."""
    monkeypatch.setattr(patience, "MAX_CONNECTIONS", MOST)
    given = free_port()
    server = uvicorn.Server(uvicorn.Config(FastAPI(), port=given, http=patience.PatientProtocol, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield given
    server.should_exit = True
    thread.join(20)


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
