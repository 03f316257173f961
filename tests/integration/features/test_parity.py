"""The real worlds, lived through real ingest: each vector that was served is found again by the point-in-time join."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from airworthy.config import Settings, UseCase, get_settings, get_use_case, use_cases
from airworthy.intervals import Interval, days

TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "timestamp": pa.timestamp("us", "UTC")}
Asked = list[tuple[dict[str, Any], datetime]]


@pytest.fixture
def lived(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], UseCase]]:
    """Makes a platform for a use case: tables created, features registered."""
    from airworthy import ingest
    from airworthy.features import apply, close, table_schemas
    from airworthy.lake import tables

    def start(package: str) -> UseCase:
        monkeypatch.setenv("AIRWORTHY_USE_CASES", package)
        get_settings.cache_clear()
        use_cases.cache_clear()
        use_case = get_use_case(package.rsplit(".", 1)[-1])
        for name, schema in {**ingest.table_schemas(use_case), **table_schemas(use_case)}.items():
            tables.create(name, schema)
        apply(use_case)
        return use_case

    yield start
    close()


def take(use_case: UseCase, key: str) -> None:
    """Ingest a day that has landed, and let the features catch up."""
    from airworthy.features import catch_up
    from airworthy.ingest import ingest_interval

    assert ingest_interval(use_case, Interval.of(key), run="test").status == "published"
    catch_up(use_case, run="test")


def found_again(use_case: UseCase, asked: Asked) -> list[dict[str, Any]]:
    """The same requests through the point-in-time join."""
    from airworthy.features import feature_columns, historical, recompute

    prediction = use_case.prediction
    columns: dict[str, pa.Array] = {}
    for name, kind in prediction.request.items():
        values = [request.get(name) for request, _ in asked]
        if kind == "timestamp":
            values = [datetime.fromisoformat(v) for v in values]
        columns[name] = pa.array(values, TYPES[kind])
    columns[prediction.time] = pa.array([moment for _, moment in asked], TYPES["timestamp"])
    rows = pa.table(columns)
    joined = historical(use_case, rows).select(list(feature_columns(use_case)))
    # The skew job's way, from the clean tables alone, finds the same.
    assert recompute(use_case, rows, rows[prediction.time]).to_pylist() == joined.to_pylist()
    return joined.to_pylist()


def test_flights(lived: Callable[[str], UseCase]) -> None:
    from airworthy.features import OnlineFeatures, push
    from airworthy.ledger.clock import advance
    from use_cases.flight_delays.world import Ask, Land, Push, World

    use_case = lived("use_cases.flight_delays")
    world = World(use_case)
    first, live, last = "2013-01-01", "2013-01-04", "2013-01-05"
    for day in days(Interval.of(first), Interval.of(live).shift(-1)):
        advance(use_case, world.landing_time(day.key))
        world.land_day(day.key)
        take(use_case, day.key)
    online, asked, served = OnlineFeatures(use_case), [], []
    for event in world.events(live, last, requests_per_day=60):
        advance(use_case, event.at)
        if isinstance(event, Push):
            assert push(use_case, event.source, event.rows).rejected == []
        elif isinstance(event, Land):
            world.land_day(event.key)
            take(use_case, event.key)
        elif isinstance(event, Ask):
            served += online.lookup(event.requests, event.at)
            asked += [(request, event.at) for request in event.requests]

    # The last questions were asked in the night after the last day: the file of that night comes a day later.
    night = Interval.of(last).shift(1).key
    advance(use_case, world.landing_time(night))
    world.land_day(night)
    take(use_case, night)

    assert len(served) > 100
    assert [vector.values for vector in served] == found_again(use_case, asked)
    for name in ("temp", "departures_1h", "carrier_late_7d", "route_late_28d", "plane_seats"):
        assert sum(v.values[name] is not None for v in served) > len(served) / 2, name


def test_orders(lived: Callable[[str], UseCase]) -> None:
    from tiny_orders import world

    from airworthy.features import OnlineFeatures
    from airworthy.ledger.clock import advance

    use_case = lived("tiny_orders")
    lag = use_case.sources["orders"].lag
    online, asked, served = OnlineFeatures(use_case), [], []
    keys = [day.key for day in days(Interval.of("2024-01-01"), Interval.of("2024-01-10"))]
    pending: list[str] = []
    for key in keys:
        for request in world.requests_of(key)[::4]:
            moment = datetime.fromisoformat(request["ordered_at"])
            while pending and Interval.of(pending[0]).end + lag <= moment:
                advance(use_case, Interval.of(pending[0]).end + lag)
                world.land_day(use_case, pending[0])
                take(use_case, pending.pop(0))
            advance(use_case, moment)
            served += online.lookup([request], moment)
            asked.append((request, moment))
        pending.append(key)

    assert [vector.values for vector in served] == found_again(use_case, asked)
    assert sum(not vector.missing for vector in served) > len(served) / 2
