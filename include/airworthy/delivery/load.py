"""A load test over HTTP: some connections, kept alive, each asking one request after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from airworthy.config.operations_spec import Delivery

CONNECTIONS = 4
WARM_UP = 5
TIMEOUT_S = 10.0


@dataclass
class Load:
    """What a load test measured.

    Attributes:
        seconds: Latency of each answered request, the first of each connection left out (they warm).
        answers: The answers' predictions, all of them.
        errors: Requests without a good answer, in words.
        elapsed: Seconds for all of it.
    """

    seconds: list[float] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    elapsed: float = 0.0

    def percentile_ms(self, share: float) -> float:
        """The latency in milliseconds that a share of the requests did not exceed; infinite without requests."""
        ordered = sorted(self.seconds)
        if not ordered:
            return float("inf")
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 3)

    def figures(self) -> dict[str, float]:
        """``requests``, ``errors``, ``p50_ms``, ``p99_ms`` and ``qps``."""
        return {
            "requests": float(len(self.answers) + len(self.errors)),
            "errors": float(len(self.errors)),
            "p50_ms": self.percentile_ms(0.50),
            "p99_ms": self.percentile_ms(0.99),
            "qps": round(len(self.answers) / self.elapsed, 1) if self.elapsed else 0.0,
        }


def run(
    url: str,
    body: dict[str, Any],
    requests: int,
    *,
    headers: dict[str, str] | None = None,
    connections: int = CONNECTIONS,
) -> Load:
    """Ask ``/predict`` of a service so many times.

    Args:
        url: The service.
        body: One request.
        requests: How many that are measured; each connection asks a few more before, to warm.
        headers: Such as the API key.
        connections: How many ask at the same time.
    """
    tickets, lock = iter(range(requests)), threading.Lock()

    def more() -> bool:
        with lock:
            return next(tickets, None) is not None

    with _asking(url, body, more, headers or {}, connections) as load:
        pass  # until the tickets are used up
    return load


@contextmanager
def steady(
    url: str, body: dict[str, Any], *, headers: dict[str, str] | None = None, connections: int = CONNECTIONS
) -> Iterator[Load]:
    """Ask ``/predict`` again and again as long as the context lasts; arguments as of ``run``."""
    over = threading.Event()
    with _asking(url, body, lambda: not over.is_set(), headers or {}, connections) as load:
        try:
            yield load
        finally:
            over.set()


@contextmanager
def _asking(
    url: str, body: dict[str, Any], more: Callable[[], bool], headers: dict[str, str], connections: int
) -> Iterator[Load]:
    """Connections that ask while there is more to ask; leaving the context waits for their end."""
    load, lock = Load(), threading.Lock()

    def ask() -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
            for _ in range(WARM_UP):
                _one(client, body, load, lock, measured=False)
            while more():
                _one(client, body, load, lock, measured=True)

    threads = [threading.Thread(target=ask, name=f"load-{i}") for i in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        for thread in threads:
            thread.join()
        load.elapsed = time.perf_counter() - started


def beyond(spec: Delivery, measured: Load) -> str:
    """Which bound of the spec a load test did not keep, in words; empty when it kept all of them."""
    errors, asked = len(measured.errors), len(measured.errors) + len(measured.answers)
    if errors > spec.max_load_errors:
        allowed = f", {spec.max_load_errors} may" if spec.max_load_errors else ""
        return f"{errors} of {asked} requests failed under load{allowed}: {measured.errors[0]}"
    figures = measured.figures()
    for name, bound in (("p50", spec.max_p50_ms), ("p99", spec.max_p99_ms)):
        # Written so that a figure that is not there, infinity, keeps no bound.
        if bound is not None and not figures[f"{name}_ms"] <= bound:
            return f"{name} is {figures[f'{name}_ms']:.1f} ms under load, the bound is {bound:.1f} ms"
    if spec.min_qps is not None and not figures["qps"] >= spec.min_qps:
        return f"{figures['qps']:.1f} requests a second under load, at least {spec.min_qps:.1f} are asked for"
    return ""


def _one(client: httpx.Client, body: dict[str, Any], load: Load, lock: threading.Lock, *, measured: bool) -> None:
    started = time.perf_counter()
    try:
        response = client.post("/predict", json=body)
        seconds = time.perf_counter() - started
        predictions = response.json()["predictions"] if response.status_code == 200 else None
        problem = None if predictions else f"status {response.status_code}: {response.text[:200]}"
    except (httpx.HTTPError, ValueError, KeyError) as error:
        seconds, predictions, problem = 0.0, None, f"{type(error).__name__}: {error}"
    with lock:
        if predictions:
            load.answers.extend(predictions)
            if measured:
                load.seconds.append(seconds)
        else:
            load.errors.append(str(problem))
