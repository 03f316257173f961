"""A played day on the real platform: what was looked up at two hours before departure is what the past says later."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from airworthy import features
from airworthy.config import UseCase
from airworthy.config.settings import Settings
from airworthy.ingest import ingest_interval, table_schemas
from airworthy.intervals import Interval, days
from airworthy.lake import tables
from airworthy.ledger.clock import advance
from use_cases.flight_delays.world import Ask, Land, Push, World

HISTORY_END, PLAYED, DAY_AFTER = "2013-01-03", "2013-01-04", "2013-01-05"


def test_served_vectors_equal_the_vectors_of_the_past(platform_env: Settings, world: World, case: UseCase) -> None:
    for table, schema in {**table_schemas(case), **features.table_schemas(case)}.items():
        tables.create(table, schema)
    features.apply(case)
    world.land_history(HISTORY_END)
    advance(case, world.landing_time(HISTORY_END))
    for interval in days(case.data.first_interval, Interval.of(HISTORY_END)):
        assert ingest_interval(case, interval, run="test").status == "published"
    features.catch_up(case, run="test")

    online = features.OnlineFeatures(case)
    served: list[tuple[dict[str, Any], Any, features.FeatureVector]] = []
    for event in world.events(PLAYED, PLAYED, requests_per_day=60):
        advance(case, event.at)
        match event:
            case Push():
                outcome = features.push(case, event.source, event.rows)
                assert (outcome.accepted, list(outcome.rejected)) == (len(event.rows), [])
            case Ask():
                vectors = online.lookup(event.requests, event.at)
                served += [(r, event.at, v) for r, v in zip(event.requests, vectors, strict=True)]
            case Land():
                world.land_day(event.key)
    for key in (PLAYED, DAY_AFTER):  # observations of the small hours belong to the next day
        world.land_day(key)
        advance(case, world.landing_time(key))
        assert ingest_interval(case, Interval.of(key), run="test").status == "published"
    features.catch_up(case, run="test")

    columns: dict[str, list[Any]] = {name: [r[name] for r, _, _ in served] for name in case.prediction.request}
    kinds = {"string": pa.string(), "int64": pa.int64(), "timestamp": pa.timestamp("us", "UTC")}
    entities = pa.table({n: _array(columns[n], kinds[k]) for n, k in case.prediction.request.items()})
    moments = pa.array([at for _, at, _ in served], pa.timestamp("us", "UTC"))
    entities = entities.append_column(case.prediction.time, moments)
    past = features.historical(case, entities).select(list(features.feature_columns(case))).to_pylist()

    assert len(served) > 40
    for (request, at, vector), row in zip(served, past, strict=True):
        for name, value in row.items():
            assert vector.values[name] == value, (request, at, name, vector.values[name], value)
    fresh = [v for _, _, v in served if not v.stale and set(v.missing) <= {"flight_delays_aircraft"}]
    assert len(fresh) > 0.9 * len(served)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, pa.string()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)
