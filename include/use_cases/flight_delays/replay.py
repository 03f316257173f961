"""Plays the outside world of 2013 against a running platform: sets the replay clock, pushes, asks, lands and waits.

The world plays upstream systems and a client, so it uses nothing of the platform but its landing zone, its clock and
its HTTP service.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import httpx

from airworthy.config import get_settings
from airworthy.errors import AirworthyError, ServiceUnavailableError
from airworthy.ledger.clock import advance, data_now
from use_cases.flight_delays.world import REQUESTS_PER_DAY, Land, Push, World

__all__ = ["RequestRefusedError", "World", "play", "push_latest"]

COUNTS = ("days", "files_landed", "rows_pushed", "rows_not_accepted", "predictions", "sent_again")
PATIENCE_S = 60.0
PAUSE_S = 0.5
TRY_AGAIN = (429, 502, 503, 504)


class RequestRefusedError(AirworthyError):
    """Raised when the service refuses what the world sends: a bug on one side or the other, no retry helps."""


def play(
    world: World,
    *,
    first: str | date,
    last: str | date,
    wait_for_ingest: Callable[[str], None],
    clock: Callable[[datetime], None] | None = None,
    service: str | None = None,
    report: Callable[[str], None] = lambda words: None,
    requests_per_day: int = REQUESTS_PER_DAY,
    seed: int = 7,
) -> dict[str, int | float]:
    """Play the days from ``first`` to ``last`` (UTC, both included); see ``World.events``.

    Questions that lie before the present data time are left out: a world that was stopped in the middle of a day goes
    on from there, and nobody asks about the past.

    Args:
        world: The world.
        first: UTC day.
        last: UTC day, included.
        wait_for_ingest: Called with the day's key after its files landed; returns when its features are published.
        clock: Sets data time, before each event; the platform's replay clock by default.
        service: URL of the prediction service; the settings' by default.
        report: Called with a line of words after each day.
        requests_per_day: Flights asked about a UTC day.
        seed: Same seed, same questions.

    Returns:
        Counts ``days``, ``files_landed``, ``rows_pushed``, ``rows_not_accepted``, ``predictions`` and ``sent_again``
        (HTTP requests repeated), and ``seconds_waited_for_ingest``.

    Raises:
        ServiceUnavailableError: the service did not answer for a minute of wall time.
        RequestRefusedError: the service refused a push or a question.
    """
    case = world.use_case
    set_clock = clock or (lambda moment: advance(case, moment))
    present = data_now(case)
    total: Counter[str] = Counter()
    waited, today, began = 0.0, Counter[str](), time.monotonic()
    with httpx.Client(base_url=service or get_settings().service_url, headers=_headers(), timeout=30.0) as client:
        for event in world.events(first, last, requests_per_day, seed):
            set_clock(event.at)
            if isinstance(event, Land):
                today["files_landed"] += world.land_day(event.key)
                waiting = time.monotonic()
                wait_for_ingest(event.key)
                waited += time.monotonic() - waiting
                today["days"] += 1
                report(_words(event.key, today, time.monotonic() - began, time.monotonic() - waiting))
                total, today, began = total + today, Counter(), time.monotonic()
            elif isinstance(event, Push):
                answer = _post(client, f"/observations/{event.source}", {"rows": event.rows}, today)
                today["rows_pushed"] += len(event.rows)
                today["rows_not_accepted"] += len(answer.get("rejected", []))
            elif event.at >= present:
                _post(client, "/predict", {"requests": event.requests}, today)
                today["predictions"] += len(event.requests)
    return {**{name: total[name] for name in COUNTS}, "seconds_waited_for_ingest": round(waited, 1)}


def push_latest(world: World, service: str | None = None) -> int:
    """Push the newest observations that are known at the present data time, before the first client asks.

    Returns:
        Rows pushed.

    Raises:
        ServiceUnavailableError, RequestRefusedError: as ``play``.
    """
    sent = 0
    with httpx.Client(base_url=service or get_settings().service_url, headers=_headers(), timeout=30.0) as client:
        for event in world.latest(data_now(world.use_case)):
            _post(client, f"/observations/{event.source}", {"rows": event.rows}, Counter())
            sent += len(event.rows)
    return sent


def _words(key: str, today: Counter[str], seconds: float, waited: float) -> str:
    return (
        f"{key}: {today['rows_pushed']} observations pushed, {today['predictions']} predictions, "
        f"{today['files_landed']} files landed, {seconds:.1f} s ({waited:.1f} s until published)"
    )


def _headers() -> dict[str, str]:
    key = get_settings().service_api_key
    return {"X-API-Key": key.get_secret_value()} if key else {}


def _post(client: httpx.Client, path: str, body: dict[str, Any], today: Counter[str]) -> dict[str, Any]:
    """Post and return the answer. A service that is away is asked again: a client does not stop for a restart."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        problem = ""
        try:
            response = client.post(path, json=body)
            if response.is_success:
                answer: dict[str, Any] = response.json()
                return answer
            problem = f"{response.status_code} {response.text[:300]}"
            if response.status_code not in TRY_AGAIN:
                raise RequestRefusedError(
                    f"POST {path} was refused: {problem}", next_step="compare the request with the service's /docs"
                )
        except httpx.TransportError as error:
            problem = f"{type(error).__name__}: {error}"
        if time.monotonic() > deadline:
            raise ServiceUnavailableError(
                f"POST {path} got no answer in {PATIENCE_S:.0f} s: {problem}",
                next_step="look at the service's log; `airworthy doctor` checks it",
            )
        today["sent_again"] += 1
        time.sleep(PAUSE_S)
