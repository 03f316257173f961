"""The prediction service: one FastAPI application for every configured use case."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from sqlalchemy.exc import SQLAlchemyError

from airworthy.config import get_settings, use_cases
from airworthy.ledger.promotions import retire_worker
from airworthy.serving.guards import BodyLimit, check_binding, error_handlers
from airworthy.serving.metrics import Metrics, MetricsMiddleware
from airworthy.serving.plain_route import ShortWay, describe
from airworthy.serving.predictor import Predictor
from airworthy.serving.protocols import mlflow_scoring, open_inference
from airworthy.serving.routes import readiness, router

# As many as the ledger's connections: more threads would only wait for each other.
THREADS = 12
STAGE = "AIRWORTHY_SERVING_STAGE"
RETIRE_SECONDS = 2.0

log = logging.getLogger(__name__)


def create_app() -> ShortWay:
    """The service for the configured use cases. With exactly one, its routes are also at the root.

    The variable ``AIRWORTHY_SERVING_STAGE`` names a file with the digest of a release, and makes it follow that file instead
    of the promotion log, without a heartbeat: a delivery tries a release so before it is promoted, a drill the way back.

    Raises:
        ConfigurationError: settings or a use case cannot be used, or it would listen beyond this machine without a key.
    """
    settings = get_settings()
    check_binding(settings)
    stage = Path(os.environ[STAGE]) if os.environ.get(STAGE) else None
    predictors = {name: Predictor(case, settings, stage=stage) for name, case in use_cases().items()}
    metrics = Metrics(predictors)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        for predictor in predictors.values():
            predictor.start()
        # What is loaded stays: the collector need not look at it again and again, nor run for every few requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)
        try:
            yield
        finally:
            await _stop(list(predictors.values()))
            metrics.write()

    app: FastAPI = FastAPIOffline(
        redoc_url=None, title="Airworthy prediction service", version=version("airworthy"), lifespan=lifespan,
        description="Predictions of " + ", ".join(p.use_case.title for p in predictors.values()) + ".",
        exception_handlers=error_handlers(),
    )  # fmt: skip

    @app.get("/health", tags=["service"], summary="The process is alive")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready", tags=["service"], summary="Every use case has a champion to answer with")
    async def ready() -> JSONResponse:
        states = {name: readiness(p) for name, p in predictors.items()}
        good = all(s["ready"] for s in states.values())
        return JSONResponse({"ready": good, "use_cases": states}, status_code=200 if good else 503)

    @app.get("/metrics", tags=["service"], summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def figures() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type=metrics.media_type)

    for name, predictor in predictors.items():
        for routes in (router(predictor, metrics, settings), mlflow_scoring.router(predictor, metrics, settings)):
            app.include_router(routes, prefix=f"/{name}", tags=[name])
    app.include_router(open_inference.router(predictors, metrics, settings), tags=["open inference protocol"])
    if len(predictors) == 1:
        (predictor,) = predictors.values()
        app.include_router(router(predictor, metrics, settings, at_root=True), tags=[predictor.use_case.name])
        app.include_router(mlflow_scoring.router(predictor, metrics, settings), tags=[predictor.use_case.name])
    describe(app)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.add_middleware(BodyLimit)
    return ShortWay(app, handlers=error_handlers(), count=metrics.answered)


async def _stop(predictors: list[Predictor]) -> None:
    for predictor in predictors:
        await predictor.stop()
    if any(predictor.staged for predictor in predictors):
        return

    def tell() -> None:
        with suppress(SQLAlchemyError):  # the ledger forgets a silent worker by itself after ten seconds
            retire_worker(get_settings().service_instance, os.getpid())

    teller = threading.Thread(target=tell, daemon=True)  # a ledger that hangs must not keep the process
    teller.start()
    await anyio.to_thread.run_sync(teller.join, RETIRE_SECONDS)
