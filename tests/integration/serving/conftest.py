"""The tiny use case on a fresh platform."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airworthy.config import Settings, UseCase
from airworthy.config.use_case import use_cases
from airworthy.features import feast_repo

from . import world


@pytest.fixture
def orders(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[UseCase]:
    """tiny_orders with features online and nothing released."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    monkeypatch.setenv("AIRWORTHY_MLFLOW_TIMEOUT", "1")
    world.restart_settings()
    use_cases.cache_clear()
    yield world.orders()
    feast_repo.close()
