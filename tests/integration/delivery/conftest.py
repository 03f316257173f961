"""The tiny use case on a fresh platform, as for serving, with a short load test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airworthy.config import Settings, UseCase
from airworthy.config.use_case import use_cases
from airworthy.features import feast_repo

from ..serving import world  # noqa: TID252 - one small world for both


@pytest.fixture
def orders(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[UseCase]:
    """tiny_orders with features online, nothing released, and bounds that a busy machine keeps."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    monkeypatch.setenv("AIRWORTHY_MLFLOW_TIMEOUT", "1")
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AIRWORTHY_DELIVERY_LOAD_REQUESTS", "60")
    world.restart_settings()
    use_cases.cache_clear()
    use_case = world.orders()
    yield use_case.model_copy(update={"delivery": use_case.delivery.model_copy(update={"max_p99_ms": 5000.0})})
    feast_repo.close()
