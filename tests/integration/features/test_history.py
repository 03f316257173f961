"""The point-in-time join as training calls it: same rows, same order, right types, pinned versions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from tiny_sensors import world
from tiny_sensors.plant import Plant, plant

from airworthy.errors import ConfigurationError
from airworthy.intervals import Interval

__all__ = ["plant"]

DAYS = [f"2024-01-{day:02d}" for day in range(1, 8)]
MOMENT = pa.timestamp("us", "UTC")


def entities(jobs: list[dict[str, Any]]) -> pa.Table:
    """Jobs as the training stage gives them: with an id, and with a column that no feature needs."""
    return pa.table(
        {
            "job_id": pa.array([j["job_id"] for j in jobs], pa.string()),
            "site": pa.array([j["site"] for j in jobs], pa.string()),
            "sensor_id": pa.array([j["sensor_id"] for j in jobs], pa.int64()),
            "load": pa.array([j["load"] for j in jobs], pa.float64()),
            "starts_at": pa.array([j["starts_at"] for j in jobs], MOMENT),
            "predicted_at": pa.array([world.predicted_at(j) for j in jobs], MOMENT),
            "failed": pa.array([j["failed"] for j in jobs], pa.bool_()),
        }
    )


def build(plant: Plant, *keys: str) -> None:
    from airworthy.features import catch_up

    plant.publish(*keys)
    catch_up(plant.use_case, run="test")


def test_rows_keep_their_order_number_and_columns(plant: Plant) -> None:
    from airworthy.features import feature_columns, historical

    build(plant, *DAYS[:4])
    jobs = [job for key in reversed(DAYS[:5]) for job in world.jobs_of(key)]
    given = entities(jobs + jobs[:7])  # seven of them twice

    result = historical(plant.use_case, given)

    columns = feature_columns(plant.use_case)
    kept = [name for name in given.schema.names if name not in columns]
    assert result.schema.names == [*kept, *columns]
    assert result.select(kept) == given.select(kept)
    arrow = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "boolean": pa.bool_()}
    assert {n: result.schema.field(n).type for n in columns} == {n: arrow[t] for n, t in columns.items()}
    assert result.slice(len(jobs)).to_pylist() == result.slice(0, 7).to_pylist()
    assert result["load"].to_pylist() == given["load"].to_pylist()


def test_values_equal_a_search_by_hand(plant: Plant) -> None:
    """Event time and available_at both at or before the prediction, newest first, not older than the ttl."""
    from airworthy.features import historical

    build(plant, *DAYS[:5])
    jobs = [job for key in DAYS[:7] for job in world.jobs_of(key)]
    result = historical(plant.use_case, entities(jobs)).to_pylist()

    tables = {view: plant.features(view) for view in ("reading", "history", "sensor")}
    rules = {
        "reading": ("site", timedelta(hours=3)),
        "history": ("site", timedelta(days=4)),
        "sensor": ("sensor_id", None),
    }
    for job, row in zip(jobs, result, strict=True):
        moment = world.predicted_at(job)
        for view, (key, ttl) in rules.items():
            known = [
                r for r in tables[view] if r[key] == job[key] and max(r["event_timestamp"], r["available_at"]) <= moment
            ]
            best = max(known, key=lambda r: r["event_timestamp"], default=None)
            if best is not None and ttl is not None and moment - best["event_timestamp"] > ttl:
                best = None
            for name in set(tables[view][0]) - {key, "event_timestamp", "available_at", "interval"}:
                assert row[name] == (best and best[name]), (view, name, job)


def test_no_rows_and_rows_without_any_known_value(plant: Plant) -> None:
    from airworthy.features import feature_columns, historical

    empty = historical(plant.use_case, entities([]))
    assert empty.num_rows == 0
    assert set(feature_columns(plant.use_case)) <= set(empty.schema.names)

    result = historical(plant.use_case, entities(world.jobs_of(DAYS[0])))
    assert result["mode"].null_count == result.num_rows
    assert result["by_site"].null_count == 0


def test_a_version_reads_the_same_data_again(plant: Plant) -> None:
    from airworthy.features import data_versions, historical

    build(plant, *DAYS[:3])
    given, versions = entities(world.jobs_of(DAYS[3])), data_versions(plant.use_case)
    before = historical(plant.use_case, given)
    plant.publish_rows("jobs", DAYS[2], world.jobs_of(DAYS[2])[:3])
    build(plant)

    assert historical(plant.use_case, given) != before
    assert historical(plant.use_case, given, versions=versions) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns("site"), "lack the column site"),
        (
            lambda t: t.set_column(5, "predicted_at", t["predicted_at"].cast(pa.timestamp("us"))),
            "not a timestamp in UTC",
        ),
        (lambda t: t.set_column(2, "sensor_id", pa.array(["x"] * t.num_rows)), "sensor_id does not fit int64"),
    ],
)
def test_a_column_that_cannot_be_used_is_named(plant: Plant, change: Any, message: str) -> None:
    from airworthy.features import historical

    with pytest.raises(ConfigurationError, match=message):
        historical(plant.use_case, change(entities(world.jobs_of(DAYS[0]))))


def test_large_integer_keys_survive_beside_nulls(plant: Plant) -> None:
    """Pandas would turn them into floats, and 2**53 + 1 into 2**53."""
    from airworthy.features import historical

    big = 2**53 + 1
    plant.publish_rows(
        "sensors",
        DAYS[0],
        [{"sensor_id": big, "built": 7, "maker": None}, {"sensor_id": big - 1, "built": 8, "maker": None}],
    )
    build(plant)
    job = {**world.jobs_of(DAYS[2])[0], "starts_at": Interval.of(DAYS[3]).start}

    result = historical(plant.use_case, entities([{**job, "sensor_id": s} for s in (big, None, big - 1)]))

    assert result["built"].to_pylist() == [7, None, 8]


def test_definitions_that_are_not_registered_are_refused(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from tiny_sensors import features

    from airworthy.features import apply, catalog, historical

    reading, *others = features.VIEWS
    monkeypatch.setattr(features, "VIEWS", [replace(reading, ttl=timedelta(hours=9)), *others])
    catalog.forget()
    with pytest.raises(
        ConfigurationError, match="tiny_sensors_v1 of tiny_sensors is not registered with Feast as it is defined"
    ):
        historical(plant.use_case, entities(world.jobs_of(DAYS[0])))

    apply(plant.use_case)
    assert historical(plant.use_case, entities(world.jobs_of(DAYS[0]))).num_rows == 20
    catalog.forget()
