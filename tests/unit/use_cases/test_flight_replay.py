"""The driver keeps data time, survives a service that is away for a while, and stops at a refusal.

The service here is a few lines that keep what they are asked; the real one is played against in the end-to-end test.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airworthy.config import UseCase
from airworthy.config.settings import Settings
from airworthy.errors import ServiceUnavailableError
from airworthy.intervals import Interval
from airworthy.lake.landing import landed
from airworthy.ledger.clock import advance, data_now
from use_cases.flight_delays import replay
from use_cases.flight_delays.replay import RequestRefusedError, play
from use_cases.flight_delays.world import World

KEY = "2013-04-02"


class Recorder(ThreadingHTTPServer):
    """Keeps each request with the data time at which it came; may fail some."""

    def __init__(self, case: UseCase) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.case = case
        self.seen: list[tuple[str, dict[str, Any], datetime]] = []
        self.failures: list[int] = []
        self.fail_always = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.fail_always or (self.server.failures.pop() if self.server.failures else 200)
        if status == 200:
            self.server.seen.append((self.path, body, data_now(self.server.case)))
        answer = json.dumps({"accepted": 1, "rejected": []}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def service(platform_env: Settings, case: UseCase) -> Iterator[Recorder]:
    server = Recorder(case)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(world: World, service: Recorder, **more: Any) -> dict[str, int | float]:
    return play(
        world,
        first=KEY,
        last=KEY,
        service=service.url,
        wait_for_ingest=more.pop("wait", lambda key: None),
        requests_per_day=12,
        **more,
    )


def test_a_day_is_pushed_asked_landed_and_waited_for(world: World, case: UseCase, service: Recorder) -> None:
    waited, words = [], []

    def wait(key: str) -> None:
        assert landed(case, Interval.of(key)) is not None
        assert data_now(case) == world.landing_time(key)
        waited.append(key)

    figures = run(world, service, wait=wait, report=words.append)

    assert waited == [KEY]
    assert [w[:10] for w in words] == [KEY]
    asked = [(body["requests"], at) for path, body, at in service.seen if path == "/predict"]
    assert figures["predictions"] == sum(len(requests) for requests, _ in asked) > 8
    for requests, at in asked:
        assert all(datetime.fromisoformat(r["sched_dep"]) - timedelta(hours=2) == at for r in requests)
    pushed = [body["rows"] for path, body, _ in service.seen if path == "/observations/airport_state"]
    assert {len(rows) for rows in pushed} == {3}
    assert figures["rows_pushed"] == sum(len(body["rows"]) for path, body, _ in service.seen if path != "/predict")
    assert (figures["days"], figures["files_landed"], figures["sent_again"]) == (1, 3, 0)
    times = [at for _, _, at in service.seen]
    assert times == sorted(times)


def test_a_service_that_is_away_is_asked_again(
    world: World, service: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PAUSE_S", 0.01)
    service.failures = [503, 502, 503]

    figures = run(world, service)

    assert figures["sent_again"] == 3
    assert figures["predictions"] == sum(len(body["requests"]) for path, body, _ in service.seen if path == "/predict")


def test_patience_ends(world: World, service: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAUSE_S", 0.01)
    monkeypatch.setattr(replay, "PATIENCE_S", 0.1)
    service.fail_always = 503

    with pytest.raises(ServiceUnavailableError, match="503"):
        run(world, service)


def test_nobody_listens(world: World, platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAUSE_S", 0.01)
    monkeypatch.setattr(replay, "PATIENCE_S", 0.1)

    with pytest.raises(ServiceUnavailableError, match="ConnectError"):
        play(world, first=KEY, last=KEY, service="http://127.0.0.1:9", wait_for_ingest=lambda key: None)


def test_a_refusal_is_not_repeated(world: World, service: Recorder) -> None:
    service.fail_always = 422

    with pytest.raises(RequestRefusedError, match="422"):
        run(world, service)


def test_a_world_that_was_stopped_goes_on_without_asking_about_the_past(
    world: World, case: UseCase, service: Recorder
) -> None:
    stopped = datetime(2013, 4, 2, 20, 30, tzinfo=UTC)
    advance(case, stopped)
    assert world.day_at(data_now(case)) == KEY

    run(world, service)

    asked = [r["sched_dep"] for path, body, _ in service.seen if path == "/predict" for r in body["requests"]]
    assert asked
    assert datetime.fromisoformat(min(asked)) - timedelta(hours=2) >= stopped
    pushes = {
        row["observed_at"] for path, body, _ in service.seen if path.endswith("airport_state") for row in body["rows"]
    }
    assert "2013-04-02T10:00:00Z" in pushes  # observations are sent again: they may have been lost


def test_a_key_is_sent_when_the_service_wants_one(
    world: World, service: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRWORTHY_SERVICE_API_KEY", "sesame")
    from airworthy.config import get_settings

    get_settings.cache_clear()
    assert replay._headers() == {"X-API-Key": "sesame"}
