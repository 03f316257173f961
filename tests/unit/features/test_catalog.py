"""Definitions are checked before anything runs, and mean the same in each process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import ibis
import pyarrow as pa
import pytest
from tiny_sensors import features

from airworthy.config import UseCase, load_use_case
from airworthy.errors import ConfigurationError
from airworthy.features import catalog, feature_columns, feature_digest, table_schemas

READING, HISTORY, SENSOR = features.VIEWS


@pytest.fixture
def case() -> Iterator[UseCase]:
    catalog.forget()
    yield load_use_case("tiny_sensors")
    catalog.forget()


def test_columns_are_the_request_s_first_then_the_views_in_order(case: UseCase) -> None:
    assert feature_columns(case) == {
        "load": "float64", "hour": "int64", "minutes_ahead": "int64", "by_site": "string", "heat": "float64",
        "hot": "boolean",
        "alarm": "boolean", "mode": "string", "jobs_3d": "int64", "failed_share_3d": "float64",
        "built": "int64", "maker": "string",
    }  # fmt: skip


def test_tables_have_keys_two_times_and_features(case: UseCase) -> None:
    moment = pa.timestamp("us", "UTC")
    assert table_schemas(case)["tiny_sensors/features/tiny_sensors_history"] == pa.schema(
        [
            ("site", pa.string()),
            ("event_timestamp", moment),
            ("available_at", moment),
            ("jobs_3d", pa.int64()),
            ("failed_share_3d", pa.float64()),
        ]
    )


@pytest.mark.parametrize("package", ["tiny_sensors", "tiny_orders", "use_cases.flight_delays"])
def test_the_digest_is_the_same_in_another_process(package: str) -> None:
    """Else every process would rebuild every interval."""
    code = (
        "from airworthy.config import load_use_case; from airworthy.features import feature_digest; "
        f"print(feature_digest(load_use_case({package!r})))"
    )
    path = ":".join(p for p in sys.path if p)
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path, "PYTHONHASHSEED": "7"},
    )

    assert other.stdout.strip() == feature_digest(load_use_case(package))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (replace(READING, name="reading"), "lacks the use case"),
        (replace(READING, entities=()), "no entity"),
        (replace(READING, entities=("load",)), "entity load is no field"),
        (replace(READING, sources=("weather",)), "unknown sources"),
        (replace(READING, sources=()), "no source"),
        (replace(READING, lookback_days=-1, pushed=False), "lookback_days"),
        (replace(READING, lookback_days=1), "it is pushed"),
        (replace(HISTORY, lookback_days=0, pushed=True), "it is pushed"),
        (replace(READING, build=lambda t, s: t["readings"]), "lacks event_timestamp"),
        (replace(READING, build=lambda t, s: t["nothing"]), "cannot be built"),
        (replace(READING, build=lambda t, s: READING.build(t, s).drop("heat", "hot", "alarm", "mode")), "no feature"),
        (
            replace(READING, build=lambda t, s: READING.build(t, s).mutate(heat=ibis.date("2024-01-01"))),
            "feature heat .* has the type date",
        ),
        (
            replace(
                READING, build=lambda t, s: READING.build(t, s).mutate(event_timestamp=ibis.timestamp("2024-01-01"))
            ),
            "timestamp in UTC",
        ),
    ],
)
def test_a_view_that_cannot_be_used_is_named_with_the_reason(
    case: UseCase, monkeypatch: pytest.MonkeyPatch, view: Any, message: str
) -> None:
    monkeypatch.setattr(features, "VIEWS", [view])
    with pytest.raises(ConfigurationError, match=message):
        feature_columns(case)


def test_names_are_unique_over_the_use_case(case: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = replace(SENSOR, build=lambda t, s: SENSOR.build(t, s).rename(heat="built"))
    monkeypatch.setattr(features, "VIEWS", [READING, twin])
    with pytest.raises(ConfigurationError, match="feature heat of tiny_sensors is defined twice"):
        feature_columns(case)
    monkeypatch.setattr(features, "VIEWS", [READING, READING])
    with pytest.raises(ConfigurationError, match="feature view tiny_sensors_reading of tiny_sensors is defined twice"):
        feature_columns(case)


def test_the_digest_knows_what_a_value_means(case: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {feature_digest(case)}
    for changed in (
        [replace(READING, ttl=timedelta(hours=4)), HISTORY, SENSOR],
        [READING, replace(HISTORY, lookback_days=3), SENSOR],
        [READING, SENSOR, HISTORY],
    ):
        monkeypatch.setattr(features, "VIEWS", changed)
        catalog.forget()
        digests.add(feature_digest(case))
    monkeypatch.setattr(features, "request_features", lambda request: {"load": request.load * 2})
    catalog.forget()
    digests.add(feature_digest(case))

    assert len(digests) == 5


def test_no_value_is_null_and_never_nan(case: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    monkeypatch.setattr(
        features,
        "request_features",
        lambda request: {"root": (request.load - request.load) / (request.load - request.load)},
    )
    compiled = catalog.catalog(case)
    rows = pa.table(
        {
            n: pa.array([0 if n == "__row" else 1.0 if n == "load" else None], t)
            for n, t in zip(compiled.request_schema.names, compiled.request_schema.types, strict=True)
        }
    )
    with duckdb.connect() as connection:
        connection.register("request", rows)
        assert connection.execute(compiled.request_sql).fetchall() == [(0, None)]
