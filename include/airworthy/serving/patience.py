"""How long a client may take to send a request, how much before its body, how many may connect; one packet for each answer.

uvicorn waits for ever for the end of a request that has begun, and takes headers of any size: some slow or greedy clients could
hold all of a server's memory and descriptors.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS = 10.0
LOOK_SECONDS = 0.5
MAX_HEADERS = 64 << 10
MAX_CONNECTIONS = 2_000
MAX_HELD = 64 << 10


class _OneWrite:
    """A transport that hands on in one piece what is written until the answer is whole, or the turn of the event loop ends.

    uvicorn writes the head of an answer and its body apart, and each write is a packet: for small answers that is twice the work
    of the system, here and at the client.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self.is_closing = transport.is_closing  # asked for each answer
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_HELD:  # the transport must see it, to say when it is too much
            self.flush()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with a deadline for each request, and bounds on headers and connections.

    The deadline is looked at now and then: a timer for each request costs more than a part of the prediction.
    """

    _deadline = 0.0  # of the loop's clock; 0: nothing is waited for
    _look: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request; one connection too many is closed at once."""
        super().connection_made(_OneWrite(transport, self.loop))
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._wait()
        self._look = self.loop.call_later(LOOK_SECONDS, self._look_at_deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head = 0
        self._wait()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        self._measure(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._measure(len(name) + len(value))
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._deadline = 0.0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is whole: it leaves before anything else is begun."""
        self.transport.flush()
        super().on_response_complete()

    def _measure(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEADERS:
            raise ValueError("the headers are too large")  # the parser gives up, and the client gets 400

    def _wait(self) -> None:
        self._deadline = self.loop.time() + REQUEST_SECONDS

    def _look_at_deadline(self) -> None:
        if self._deadline and self.loop.time() > self._deadline:
            self._too_slow()
        else:
            self._look = self.loop.call_later(LOOK_SECONDS, self._look_at_deadline)

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
