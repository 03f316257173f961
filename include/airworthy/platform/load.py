"""Continuous load on the prediction service, to see that a switch costs no client a request."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from airworthy.config import UseCase, get_settings
from airworthy.serving.contract import example


class Load:
    """Sends requests from a few threads until it is left.

    Args:
        use_case: The use case.
        threads: How many clients.
        pause: Seconds that each waits between two requests.
        questions: Requests, one after the other; the use case's example by default. A trial splits requests by their key, so
            that the same question always has the same answerer.

    Attributes:
        answered: Requests that got a prediction.
        waiting: Requests before the first prediction that were told "no champion yet" (503): the agreed answer then.
        failed: Everything else: any other status, a broken connection, or a 503 after the first prediction.
        versions: Predictions by the release that answered.
        generations: Time (monotonic seconds) of the first answer of each generation.
    """

    def __init__(
        self, use_case: UseCase, *, threads: int = 2, pause: float = 0.02,
        questions: Sequence[dict[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        self._questions = itertools.cycle(questions or [example(use_case)])
        self.pause = pause
        self.answered = self.waiting = self.failed = 0
        self.versions: Counter[str] = Counter()
        self.generations: dict[int, float] = {}
        self.errors: list[str] = []
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _send(self) -> None:
        settings = get_settings()
        headers = {"X-API-Key": settings.service_api_key.get_secret_value()} if settings.service_api_key else {}
        with httpx.Client(base_url=settings.service_url, timeout=10, headers=headers) as client:
            while not self._stop.is_set():
                try:
                    self._count(client.post("/predict", json={"requests": [self._next()]}))
                except httpx.HTTPError as error:
                    with self._lock:
                        self.failed += 1
                        self.errors.append(repr(error)[:200])
                self._stop.wait(self.pause)

    def _next(self) -> dict[str, Any]:
        with self._lock:
            return next(self._questions)

    def _count(self, response: httpx.Response) -> None:
        with self._lock:
            if response.status_code == httpx.codes.OK:
                answer: dict[str, Any] = response.json()["predictions"][0]
                self.answered += 1
                self.versions[str(answer["version"])] += 1
                self.generations.setdefault(int(answer["generation"]), time.monotonic())
            elif response.status_code == httpx.codes.SERVICE_UNAVAILABLE and not self.answered:
                self.waiting += 1
            else:
                self.failed += 1
                self.errors.append(f"{response.status_code} {response.text[:200]}")

    def wait_for(self, answered: int, timeout_s: float = 120) -> None:
        """Wait until so many predictions were answered, or the time is up."""
        deadline = time.monotonic() + timeout_s
        while self.answered < answered and time.monotonic() < deadline:
            time.sleep(0.05)

    def figures(self) -> dict[str, Any]:
        """The counts, for the record."""
        return {
            "answered": self.answered, "failed": self.failed, "no_champion_yet": self.waiting,
            "by_version": dict(self.versions), "errors": self.errors[:5],
        }  # fmt: skip
