"""A fresh platform with MLflow, the tiny use case, and training sets of made-up orders over chosen days."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.lake import tables
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TrainingSet
from airworthy.records import TrainingSetRef
from airworthy.training.folders import put

COLUMNS = {"order_channel": "string", "order_amount": "float64", "order_hour": "int64"}
JANUARY, FEBRUARY = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
PER_DAY = 60


@pytest.fixture
def tiny(
    platform_env: Settings, mlflow_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> UseCase:
    """The tiny use case on a fresh ledger; MLflow is shared, so every test has names of its own."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", mlflow_server)
    get_settings.cache_clear()
    use_case = get_use_case("tiny_orders")
    name = f"e{abs(hash(request.node.nodeid)) % 10**12}"
    training = use_case.training.model_copy(update={"feature_service": f"{name}_v1"})
    return use_case.model_copy(update={"name": name, "training": training})


def orders(start: datetime, days: int, holdout_days: int, seed: int) -> pa.Table:
    """Orders of some days with features and labels; the last days are the holdout."""
    rng = np.random.default_rng(seed)
    n = days * PER_DAY
    amount, channel = np.round(rng.gamma(2, 40, n), 2), rng.choice(["app", "phone", "web"], n)
    day = np.repeat(np.arange(days), PER_DAY)
    times = [start + timedelta(days=int(d), minutes=int(i) % PER_DAY) for i, d in enumerate(day)]
    return pa.table(
        {
            "part": pa.array(np.where(day >= days - holdout_days, "holdout", "train").tolist()),
            "label": pa.array(amount / 60 + (channel == "app") + rng.normal(0, 0.7, n) > 2.0),
            "prediction_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "order_id": pa.array([f"o{start:%m}{i:06d}" for i in range(n)]),
            "channel": pa.array(channel.tolist()),
            "order_channel": pa.array(channel.tolist()),
            "order_amount": pa.array(amount.tolist(), mask=rng.random(n) < 0.05),
            "order_hour": pa.array(rng.integers(0, 24, n)),
        }
    )


@pytest.fixture
def training_set(tiny: UseCase) -> Callable[..., TrainingSetRef]:
    """Keeps rows as the real training sets are kept: a file by digest and a row in the ledger."""

    def make(
        start: datetime = JANUARY, days: int = 30, holdout_days: int = 12, seed: int = 1, table: pa.Table | None = None
    ) -> TrainingSetRef:
        rows = orders(start, days, holdout_days, seed) if table is None else table
        digest, buffer = tables.digest(rows), io.BytesIO()
        pq.write_table(rows, buffer)
        url = f"{get_settings().release_url}/training_sets/{digest}.parquet"
        put(url, buffer.getvalue())
        split, end = start + timedelta(days=days - holdout_days), start + timedelta(days=days)
        ref = TrainingSetRef(
            use_case=tiny.name,
            digest=digest,
            url=url,
            data_versions={tiny.table("clean", "orders"): 3},
            feature_service=tiny.training.feature_service,
            feature_digest="f" * 64,
            columns={n: t for n, t in COLUMNS.items() if n in rows.schema.names},
            train_rows=(days - holdout_days) * PER_DAY,
            holdout_rows=holdout_days * PER_DAY,
            train_start=start,
            train_end=split,
            holdout_start=split,
            holdout_end=end,
            data_time=end,
            label_rate=0.4,
        )
        with transaction() as session:
            session.merge(TrainingSet(digest=digest, use_case=tiny.name, ref=ref.to_json()))
        return ref

    return make
