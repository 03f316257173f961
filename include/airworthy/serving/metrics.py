"""Figures of the service in Prometheus' text format: those of all its workers together, whichever of them is asked.

Each worker counts in files of a folder that they share (prometheus_client's multi-process mode), which is new at each start.
Writing to them costs more than counting, so a worker counts by itself and writes what it has twice a second.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airworthy.serving.contract import Prediction
from airworthy.serving.predictor import Predictor

BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PREFIX = "airworthy_"
WRITE_SECONDS = 0.5


disable_created_metrics()


class Metrics:
    """Counters of this process and of the others that share its folder. Only the event loop may use it.

    Args:
        predictors: By use case; their generation is read when the figures are asked for.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, predictors: Mapping[str, Predictor]) -> None:
        own = CollectorRegistry()  # what is shown is read from the folder
        self._predictors = predictors
        self._series: dict[tuple[Any, tuple[str, ...]], Any] = {}
        self._counted: dict[tuple[Counter, tuple[str, ...]], int] = {}
        self._timed: dict[str, _Times] = {}
        self._to_write: asyncio.TimerHandle | None = None
        self._answers = Counter(
            "airworthy_http_answers", "Answers by route and status.", ["route", "status"], registry=own
        )
        self._seconds = _Histogram(
            "airworthy_prediction_seconds", "Seconds from a checked request to its answer.", ["use_case"],
            buckets=BUCKETS, registry=own,
        )  # fmt: skip
        self._predictions = Counter(
            "airworthy_predictions", "Predictions by decision.", ["use_case", "decision"], registry=own
        )
        self._gaps = Counter(
            "airworthy_feature_gaps", "Feature views without a usable value, by reason.",
            ["use_case", "view", "reason"], registry=own,
        )  # fmt: skip
        self._degraded = Counter(
            "airworthy_degraded_predictions", "Predictions without the online store, by what the views declare.",
            ["use_case"], registry=own,
        )  # fmt: skip
        self._dropped = Counter(
            "airworthy_shadow_dropped", "Requests that the challenger did not score unseen: its queue was full.",
            ["use_case"], registry=own,
        )  # fmt: skip
        self._generation = Gauge(
            "airworthy_champion_generation", "Generation that answers (0: none), of the worker that was asked.",
            ["use_case"], registry=own, multiprocess_mode="mostrecent",
        )  # fmt: skip
        for name, predictor in predictors.items():
            predictor.shadow.on_drop = self._dropped.labels(name).inc

    def _of(self, metric: Any, *labels: str) -> Any:
        """A series of this process; making it costs more than counting."""
        key = (metric, labels)
        if key not in self._series:
            self._series[key] = metric.labels(*labels)
        return self._series[key]

    def _add(self, metric: Counter, *labels: str) -> None:
        key = (metric, labels)
        self._counted[key] = self._counted.get(key, 0) + 1
        if self._to_write is None:
            self._to_write = asyncio.get_running_loop().call_later(WRITE_SECONDS, self.write)

    def answered(self, route: str, status: int) -> None:
        """Count an answer."""
        self._add(self._answers, route, str(status))

    def prediction(self, use_case: str) -> _Timing:
        """Times a prediction: what happens within, whether it succeeds or not."""
        return _Timing(self._timed, use_case)

    def count(self, use_case: str, answers: Iterable[Prediction]) -> None:
        """Count predictions and the views that they lacked."""
        for answer in answers:
            self._add(self._predictions, use_case, "true" if answer.decision else "false")
            if answer.degraded:
                self._add(self._degraded, use_case)
            for view in answer.missing:
                self._add(self._gaps, use_case, view, "missing")
            for view in answer.stale:
                self._add(self._gaps, use_case, view, "stale")

    def write(self) -> None:
        """Write what was counted since to this worker's file."""
        if self._to_write is not None:
            self._to_write.cancel()
            self._to_write = None
        while self._counted:
            (metric, labels), count = self._counted.popitem()
            self._of(metric, *labels).inc(count)
        while self._timed:
            use_case, times = self._timed.popitem()
            self._of(self._seconds, use_case).add(times.buckets, times.seconds)

    def text(self) -> bytes:
        """All figures now; those of other workers may be half a second old."""
        self.write()
        for name, predictor in self._predictors.items():
            serving = predictor.keeper.serving
            self._of(self._generation, name).set(serving.generation if serving else 0)
        shown = CollectorRegistry()
        shown.register(_Ours())
        return generate_latest(shown)


class _Times:
    """How many answers took how long."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


class _Timing:
    """A clock around a prediction of a use case."""

    __slots__ = ("_started", "_timed", "_use_case")

    def __init__(self, timed: dict[str, _Times], use_case: str) -> None:
        self._timed, self._use_case = timed, use_case

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._timed.setdefault(self._use_case, _Times()).add(time.perf_counter() - self._started)


class _Histogram(Histogram):
    """One that takes many observations at once, which the library's own does not."""

    def add(self, buckets: Sequence[int], seconds: float) -> None:
        self._sum.inc(seconds)
        for bucket, count in zip(self._buckets, buckets, strict=True):
            if count:
                bucket.inc(count)


class _Ours(Collector):
    """What is in the folder, without what libraries count there for themselves."""

    def collect(self) -> Iterator[Metric]:
        for metric in MultiProcessCollector(None).collect():
            if metric.name.startswith(PREFIX):
                yield metric


class MetricsMiddleware:
    """Counts answers by the route's pattern, never by the path: the number of series stays bounded."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                self._metrics.answered(route, message["status"])
            await send(message)

        await self._app(scope, receive, counted)
