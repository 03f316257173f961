"""A fresh platform with MLflow, the tiny use case, and training sets made of rows."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_orders import world

from airworthy import features, ingest
from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger.clock import advance
from airworthy.records import TrainingSetRef
from airworthy.training.folders import put

START = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS = {"order_channel": "string", "order_amount": "float64", "order_hour": "int64", "orders_7d": "int64"}


@pytest.fixture
def tiny(platform_env: Settings, mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> UseCase:
    """The tiny use case on a fresh ledger; MLflow is shared, so every test has names of its own."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", mlflow_server)
    get_settings.cache_clear()
    use_case = get_use_case("tiny_orders")
    name = f"t{secrets.token_hex(5)}"
    training = use_case.training.model_copy(update={"feature_service": f"{name}_v1"})
    return use_case.model_copy(update={"name": name, "training": training})


def rows(days: int = 30, per_day: int = 40, seed: int = 1) -> pa.Table:
    """Orders with features and labels; the last ten days are the holdout."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    amount = np.round(rng.gamma(2, 40, n), 2)
    day = np.repeat(np.arange(days), per_day)
    channel = rng.choice(["app", "phone", "web"], n)
    return pa.table(
        {
            "part": pa.array(np.where(day >= days - 10, "holdout", "train").tolist()),
            "label": pa.array(amount / 60 + (channel == "app") + rng.normal(0, 0.7, n) > 2.0),
            "prediction_time": pa.array(
                [START + timedelta(days=int(d), minutes=int(i)) for i, d in enumerate(day)],
                pa.timestamp("us", tz="UTC"),
            ),
            "order_id": pa.array([f"o{i:06d}" for i in range(n)]),
            "order_channel": pa.array(channel.tolist()),
            "order_amount": pa.array(amount.tolist(), mask=rng.random(n) < 0.05),
            "order_hour": pa.array(rng.integers(0, 24, n)),
            "orders_7d": pa.array(rng.integers(0, 9, n).tolist(), mask=rng.random(n) < 0.2),
        }
    )


@pytest.fixture
def training_set(tiny: UseCase) -> Callable[..., TrainingSetRef]:
    """Makes a training set of rows, kept as the real one is."""

    def make(seed: int = 1) -> TrainingSetRef:
        table = rows(seed=seed)
        digest = tables.digest(table)
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        url = f"{get_settings().release_url}/training_sets/{digest}.parquet"
        put(url, buffer.getvalue())
        return TrainingSetRef(
            use_case=tiny.name, digest=digest, url=url, data_versions={tiny.table("clean", "orders"): 3},
            feature_service=tiny.training.feature_service, feature_digest="f" * 64, columns=COLUMNS, train_rows=800,
            holdout_rows=400, train_start=START, train_end=START + timedelta(days=20),
            holdout_start=START + timedelta(days=20), holdout_end=START + timedelta(days=30),
            data_time=START + timedelta(days=31), label_rate=0.4,
        )  # fmt: skip

    return make


LAST = "2024-01-14"


@pytest.fixture
def shop(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> UseCase:
    """The tiny use case with two weeks landed, ingested and known."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    get_settings.cache_clear()
    case = get_use_case("tiny_orders")
    case = case.model_copy(
        update={"training": case.training.model_copy(update={"holdout_days": 4, "min_train_days": 5})}
    )
    for name, schema in {**ingest.table_schemas(case), **features.table_schemas(case)}.items():
        tables.create(name, schema)
    features.apply(case)
    for key in world.land_history(case, LAST):
        advance(case, Interval.of(key).end)
        ingest.ingest_interval(case, Interval.of(key), run="test")
    advance(case, Interval.of(LAST).end + timedelta(hours=6))
    return case
