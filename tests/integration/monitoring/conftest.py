"""A fresh platform with the tiny use case, a champion in the ledger, and a world that predicts and delivers labels."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airworthy import ingest, monitoring
from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger import clock, commits, promotions
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TrainingSet
from airworthy.records import Check, IngestOutcome, Release, TrainingSetRef, Verdict
from airworthy.serving.spool import Spool
from airworthy.training.folders import put

COLUMNS = {
    "order_channel": "string",
    "order_amount": "float64",
    "order_hour": "int64",
    "vip": "boolean",
    "never_known": "float64",
}
JANUARY = datetime(2024, 1, 1, tzinfo=UTC)


def vectors(
    n: int, rng: np.random.Generator, *, shift: float = 0.0, channels: tuple[float, ...] = (0.3, 0.2, 0.5)
) -> dict[str, list[Any]]:
    """Feature values; ``shift`` moves the amounts, ``channels`` are the shares of app, phone and web."""
    amount = rng.gamma(2, 40, n) + shift
    return {
        "order_channel": rng.choice(["app", "phone", "web"], n, p=channels).tolist(),
        "order_amount": [None if gap else float(a) for a, gap in zip(amount, rng.random(n) < 0.05, strict=True)],
        "order_hour": rng.integers(0, 24, n).tolist(),
        "vip": (rng.random(n) < 0.1).tolist(),
        "never_known": [None] * n,
    }


@dataclass
class World:
    """What happens outside: predictions into the spool, labels into the clean table."""

    use_case: UseCase
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))
    release: str = "r" * 64
    spool: Spool = field(init=False)

    def __post_init__(self) -> None:
        self.spool = Spool(get_settings().spool, self.use_case.name, "test")

    def records(self, day: str, n: int, **changes: Any) -> list[dict[str, Any]]:
        """Prediction records of a day; ids ``o-<day>-<i>``, probabilities that the labels of :meth:`label` follow."""
        values = vectors(n, self.rng, **changes)
        start = Interval.of(day).start
        return [
            {
                "prediction_id": uuid.uuid4().hex,
                "use_case": self.use_case.name,
                "at": "2026-01-01T00:00:00+00:00",
                "prediction_time": (start + timedelta(minutes=i)).isoformat(),
                "id": {"order_id": f"o-{day}-{i:04d}"},
                "request": {"order_id": f"o-{day}-{i:04d}"},
                "features": {k: v[i] for k, v in values.items()},
                "probability": (i % 10) / 10 + 0.05,
                "decision": False,
                "model_digest": "m" * 64,
                "release": self.release,
                "generation": 1,
                "missing": [],
                "stale": [],
                "latency_ms": 1.5,
            }
            for i in range(n)
        ]

    def predict(self, day: str, n: int, **changes: Any) -> list[dict[str, Any]]:
        """Ask for predictions of a day."""
        records = self.records(day, n, **changes)
        self.spool.append(records)
        return records

    def label(
        self, day: str, n: int, *, good: bool = True, lag: timedelta = timedelta(hours=6), nothing: int = 0
    ) -> None:
        """Publish the outcomes of a day: as the probabilities say, or without any relation to them."""
        interval = Interval.of(day)
        known = interval.end + lag
        returned = [bool(self.rng.random() < ((i % 10) / 10 + 0.05 if good else 0.3)) for i in range(n)]
        schema = ingest.table_schemas(self.use_case)[self.use_case.table("clean", "orders")]
        values = {
            "order_id": [f"o-{day}-{i:04d}" for i in range(n)],
            "customer": ["c1"] * n,
            "channel": ["app"] * n,
            "amount": [1.0] * n,
            "items": [1] * n,
            "ordered_at": [interval.start + timedelta(minutes=i) for i in range(n)],
            "returned": [None if i < nothing else r for i, r in enumerate(returned)],
            "available_at": [known] * n,
        }
        rows = pa.table({f.name: pa.array(values[f.name], f.type) for f in schema if f.name != tables.INTERVAL})
        resource = f"{self.use_case.name}/ingest/{day}"
        token = commits.claim(resource, "test")
        refs = tables.publish(
            self.use_case.table("clean", "orders"), {day: rows}, resource=resource, token=token, inputs={day: "x"}
        )
        self.decide(day, token=token, partitions=tuple(refs))

    def decide(self, day: str, status: str = "published", token: int | None = None, **changes: Any) -> None:
        """Record an interval as published or rejected."""
        resource = f"{self.use_case.name}/ingest/{day}"
        outcome = IngestOutcome(
            use_case=self.use_case.name, interval=Interval.of(day), status=status, landed_digest=f"d-{day}", **changes
        )
        commits.decide_interval(resource, token or commits.claim(resource, "test"), outcome)

    def now(self, moment: str) -> None:
        """Set the data clock."""
        clock.advance(self.use_case, datetime.fromisoformat(moment).replace(tzinfo=UTC))


@pytest.fixture
def world(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> World:
    """The tiny use case with its tables, nobody serving yet."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    get_settings.cache_clear()
    use_case = get_use_case("tiny_orders")
    for table, schema in {**ingest.table_schemas(use_case), **monitoring.table_schemas(use_case)}.items():
        tables.create(table, schema)
    return World(use_case)


@pytest.fixture
def champion(world: World) -> Callable[..., Release]:
    """Makes a champion trained on January's first 60 days, with a verdict of ROC AUC 0.83."""

    def make(digest: str = "r" * 64, data_time: datetime = JANUARY + timedelta(days=60), auc: float = 0.83) -> Release:
        rng, n = np.random.default_rng(1), 3000
        rows = pa.table(
            {
                "part": ["train"] * n,
                **{k: pa.array(v, pa.float64() if k == "never_known" else None) for k, v in vectors(n, rng).items()},
            }
        )
        training_set, buffer = tables.digest(rows), io.BytesIO()
        pq.write_table(rows, buffer)
        url = f"{get_settings().release_url}/training_sets/{training_set}.parquet"
        put(url, buffer.getvalue())
        name = world.use_case.name
        ref = TrainingSetRef(
            use_case=name,
            digest=training_set,
            url=url,
            data_versions={},
            feature_service=f"{name}_v1",
            feature_digest="f" * 64,
            columns=COLUMNS,
            train_rows=n,
            holdout_rows=0,
            train_start=JANUARY,
            train_end=data_time - timedelta(days=14),
            holdout_start=data_time - timedelta(days=14),
            holdout_end=data_time,
            data_time=data_time,
            label_rate=0.3,
        )
        with transaction() as session:
            session.merge(TrainingSet(digest=training_set, use_case=name, ref=ref.to_json()))
        verdict = Verdict(
            id=f"v-{digest[:8]}",
            use_case=name,
            model_digest="m" * 64,
            champion_digest=None,
            decision="pass",
            mode="enabled",
            checks=(Check(name="roc_auc", value=auc, bound=0.6, reason="r", passed=True, words="w"),),
            metrics={"roc_auc": auc},
            champion_metrics={},
            holdout_rows=1000,
            training_set_digest=training_set,
            summary="passed",
            data_time=data_time,
        )
        promotions.record_verdict(verdict, {})
        release = Release(
            use_case=name,
            digest=digest,
            model_digest="m" * 64,
            version=1,
            verdict_id=verdict.id,
            champion_digest=None,
            run_id="run",
        )
        promotions.record_release(release)
        before = promotions.champion(name)
        promotions.promote(
            name,
            digest,
            expected=before.digest if before else None,
            action="promote",
            verdict_id=verdict.id,
            who="t",
            why="t",
            data_time=data_time,
        )
        return release

    return make
