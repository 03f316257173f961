"""A small real candidate with its rows: fitted, written and loaded as in production, without ledger and MLflow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from airworthy.config import UseCase
from airworthy.config.gate_spec import Behaviour, Gate
from airworthy.config.use_case import load_use_case
from airworthy.evaluation import gate
from airworthy.evaluation.examine import Opponent, examine
from airworthy.evaluation.records import Evidence
from airworthy.evaluation.subject import Holdout, Subject, labels_of
from airworthy.records import Check, TrainingSetRef
from airworthy.training import model_files
from airworthy.training.building import fit_estimator, flipped

START = datetime(2024, 1, 1, tzinfo=UTC)
SPLIT, END = START + timedelta(days=40), START + timedelta(days=60)
COLUMNS = {"channel": "string", "amount": "float64", "hour": "int64", "delay": "float64"}
TREES = "sklearn.ensemble.HistGradientBoostingClassifier"
SMALL = {"max_iter": 40, "learning_rate": 0.1, "early_stopping": False}
GATE = Gate(
    rule=["channel", "hour"],
    slices=["channel"],
    groups=["region"],
    min_slice_rows=200,
    behaviours=[
        Behaviour(name="more delay", kind="increasing", column="delay", by=20, tolerance=0.02, max_violations=0.05),
        Behaviour(name="the desk", kind="invariance", column="desk", tolerance=0.02),
    ],
    behaviour_rows=500,
    importance_rows=300,
    importance_repeats=3,
)


def rows(n: int, seed: int) -> pa.Table:
    """Orders: dear and delayed ones, and those from the app, come back more often."""
    rng = np.random.default_rng(seed)
    channel, region = rng.choice(["app", "phone", "web"], n), rng.choice(["north", "south"], n)
    amount, delay = np.round(rng.gamma(2, 40, n), 2), np.round(rng.exponential(15, n), 1)
    desk = rng.integers(0, 8, n)
    risk = amount / 60 + (channel == "app") + delay / 15 + rng.normal(0, 0.7, n)
    return pa.table(
        {
            "label": pa.array(risk > 3.0),
            "order_id": pa.array([f"o{seed}{i:05d}" for i in range(n)]),
            "region": pa.array(region.tolist()),
            "channel": pa.array(channel.tolist()),
            "amount": pa.array(amount.tolist(), mask=rng.random(n) < 0.03),
            "hour": pa.array(rng.integers(0, 24, n)),
            "delay": pa.array(delay.tolist()),
            "desk": pa.array(desk.astype(float).tolist()),
        }
    )


@dataclass(frozen=True)
class World:
    """All that a verdict depends on; a mutation is another one.

    Attributes:
        in_log: Release that is champion by the promotion log once scoring is done.
        asked: Model digest that the verdict is asked for.
    """

    use_case: UseCase
    subject: Subject
    ref: TrainingSetRef
    opponent: Opponent | None
    in_log: str | None
    asked: str

    def judged(self) -> tuple[str, dict[str, Check], Evidence]:
        """The decision, the checks by name, the evidence."""
        found = examine(self.use_case, self.subject, self.ref, self.opponent, asked=self.asked).evidence
        champion = self.opponent.model.model_digest if self.opponent else None
        found = found.model_copy(update={"champion_asked": champion, "champion_in_log": self.in_log})
        decision, checks, _ = gate.decide(self.use_case.gate, found)
        return decision, {c.name: c for c in checks}, found

    def with_gate(self, **bounds: Any) -> World:
        """The same under other bounds."""
        changed = self.use_case.gate.model_copy(update=bounds)
        return replace(self, use_case=self.use_case.model_copy(update={"gate": changed}))

    def with_holdout(self, table: pa.Table) -> World:
        """The same with other holdout rows."""
        return replace(self, subject=replace(self.subject, holdout=Holdout.of(table)))

    def with_candidate(self, subject: Subject) -> World:
        """The same with another candidate."""
        return replace(self, subject=subject, asked=subject.model.model_digest)


class Maker:
    """Fits, writes and loads candidates.

    Args:
        folder: Where models are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.train, self.holdout = rows(3000, 1), rows(2000, 2)

    def candidate(
        self,
        algorithm: str = TREES,
        parameters: dict[str, Any] | None = None,
        *,
        columns: dict[str, str] = COLUMNS,
        flip: float = 0.0,
        train: pa.Table | None = None,
        requirements: list[str] | None = None,
    ) -> Subject:
        """A candidate as training makes it."""
        train, parameters = self.train if train is None else train, SMALL if parameters is None else parameters
        labels = flipped(labels_of(train), flip, 7)
        estimator, encoder, _ = fit_estimator(train, labels, columns, algorithm, parameters, 7)
        schema = model_files.ModelSchema(
            use_case="tiny_orders", feature_service="tiny_orders_v1", feature_digest="f" * 64, columns=columns
        )
        recipe = {"algorithm": algorithm, "parameters": parameters, "seed": 7, "flip_labels": flip}
        digest, folder = model_files.write_model(
            str(self.folder), estimator=estimator, encoder=encoder, schema=schema,
            golden=model_files.golden_features(train, columns), card={"recipe": recipe}, requirements=requirements,
        )  # fmt: skip
        model = model_files.load(folder, digest, recorded=True)
        return Subject(model, estimator, folder, train, Holdout.of(self.holdout), 7)

    def world(self) -> World:
        """A good candidate, and a champion that learned from wrong labels."""
        champion, subject = self.candidate(flip=0.3), self.candidate()
        ref = TrainingSetRef(
            use_case="tiny_orders", digest="d" * 64, url="", data_versions={}, feature_service="tiny_orders_v1",
            feature_digest="f" * 64, columns=COLUMNS, train_rows=3000, holdout_rows=2000, train_start=START,
            train_end=SPLIT, holdout_start=SPLIT, holdout_end=END, data_time=END, label_rate=0.4,
        )  # fmt: skip
        use_case = load_use_case("tiny_orders").model_copy(update={"gate": GATE})
        opponent = Opponent(champion.model, "c" * 64, START)
        return World(use_case, subject, ref, opponent, "c" * 64, subject.model.model_digest)
