"""A small platform with two days of the shop published."""

from __future__ import annotations

import pytest
from tiny_orders import world

from airworthy import features, ingest
from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger.clock import advance
from airworthy.platform.every_table import table_schemas

from .versions import repository, two_weeks, version

__all__ = ["repository", "shop", "two_weeks", "version"]

KEYS = ("2024-01-01", "2024-01-02")


@pytest.fixture
def shop(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> UseCase:
    """Two days published with their features."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    get_settings.cache_clear()
    case = get_use_case("tiny_orders")
    for name, schema in table_schemas(case).items():
        tables.create(name, schema)
    features.apply(case)
    advance(case, Interval.of("2024-01-10").end)
    for key in KEYS:
        world.land_day(case, key)
        ingest.ingest_interval(case, Interval.of(key), run="test")
    features.catch_up(case, run="test")
    return case
