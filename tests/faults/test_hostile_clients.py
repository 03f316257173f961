"""Slow clients and floods: bounded, and the others are served meanwhile."""

from __future__ import annotations

import concurrent.futures
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from airworthy.config import Settings, UseCase
from airworthy.config.use_case import use_cases
from airworthy.features import feast_repo
from airworthy.serving.patience import REQUEST_SECONDS
from integration.serving import world
from integration.serving.world import ORDER, Service, promote, release, service
from ports import free_port

SLOW = 150
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 400\r\n"


@pytest.fixture
def api(platform_env: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Service, UseCase]]:
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    world.restart_settings()
    use_cases.cache_clear()
    case = world.orders()
    champion = promote(case, release(case, seed=1))
    with service(free_port(), tmp_path) as running:
        running.wait_generation(case, champion.generation, 60)
        yield running, case
    feast_repo.close()


def connect(api: Service) -> socket.socket:
    host, port = api.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def rest(one: socket.socket) -> bytes:
    """All that the service still says before it closes."""
    found = b""
    try:
        while data := one.recv(4096):
            found += data
    except ConnectionResetError:
        pass
    return found


def test_slow_clients_are_let_go_and_hold_nobody_up(api: tuple[Service, UseCase]) -> None:
    running, _ = api
    # Given clients that send nothing, half a head, a head without its end, and a head without its body.
    starts = [b"", b"POST /pre", HEAD, HEAD + b"\r\n" + b'{"order_id"']
    began = time.monotonic()
    slow = [connect(running) for _ in range(SLOW)]
    for number, one in enumerate(slow):
        one.sendall(starts[number % len(starts)])
    # When others ask meanwhile, they are answered as always.
    with httpx.Client(base_url=running.url, timeout=20) as client:
        while time.monotonic() < began + REQUEST_SECONDS / 2:
            assert client.post("/predict", json=ORDER).status_code == 200
            # A client that goes on a byte at a time is as slow.
            slow[1].sendall(b"x")
        # Then every slow one is let go in time.
        for number, one in enumerate(slow):
            said = rest(one)
            assert time.monotonic() < began + REQUEST_SECONDS + 30, f"client {number} is still connected"
            assert said == b"" or said.startswith(b"HTTP/1.1 4"), said
        assert client.post("/predict", json=ORDER).status_code == 200


def test_heads_without_end_are_refused(api: tuple[Service, UseCase]) -> None:
    running, _ = api
    one = connect(running)
    one.sendall(HEAD)
    with pytest.raises(OSError):  # noqa: PT012 - at some point it is closed
        for number in range(100_000):
            one.sendall(f"x-{number}: {'y' * 200}\r\n".encode())
    assert running.post("/predict", ORDER).status_code == 200


def test_a_flood_of_batches_is_answered_or_refused_in_bounded_memory(api: tuple[Service, UseCase]) -> None:
    running, _ = api
    body = json.dumps({"requests": [{**ORDER, "order_id": f"o-{n}"} for n in range(1000)]}).encode()
    process = psutil.Process(running.process.pid)
    running.post("/predict", json.loads(body))
    before = process.memory_info().rss

    def flood(_: int) -> int:
        answer = httpx.post(
            f"{running.url}/predict", content=body, headers={"Content-Type": "application/json"}, timeout=180
        )
        return answer.status_code

    with concurrent.futures.ThreadPoolExecutor(48) as clients:
        statuses = list(clients.map(flood, range(48)))
    # Then each was answered, or told to come again; never anything else, and the memory did not grow with the flood.
    assert 200 in statuses
    assert set(statuses) <= {200, 503}
    assert process.memory_info().rss - before < 600e6
    assert running.post("/predict", ORDER).status_code == 200
