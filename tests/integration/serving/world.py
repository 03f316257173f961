"""A small world for the tests of serving and delivery: online features, released models, the real service over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from airworthy import features
from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.features.catalog import catalog
from airworthy.features.publish import write
from airworthy.ledger import deliveries, promotions
from airworthy.ledger.clock import advance, data_now
from airworthy.ledger.models import DeliveryRow
from airworthy.records import Check, Release, Verdict
from airworthy.registry.store import write_release
from airworthy.training import model_files
from airworthy.training.building import fit_estimator

NOW = datetime(2024, 3, 11, 13, tzinfo=UTC)
TESTS = Path(__file__).parents[2]
ORDER: dict[str, Any] = {
    "order_id": "o-1",
    "customer": "c01",
    "channel": "web",
    "amount": 40.0,
    "items": 1,
    "ordered_at": "2024-03-11T12:00:00Z",
}


def orders() -> UseCase:
    """The tiny use case with Feast applied, values online for the customers c00 to c09, and its replay clock set."""
    use_case = get_use_case("tiny_orders")
    features.apply(use_case)
    (view,) = catalog(use_case).views
    day = NOW.replace(hour=0)
    rows = [
        {
            "customer": f"c{i:02d}", "event_timestamp": day, "available_at": day,
            "returned_share_7d": i / 10, "orders_7d": i, "mean_amount_7d": 50.0 + i,
        }
        for i in range(10)
    ]  # fmt: skip
    write(use_case, view, pa.Table.from_pylist(rows))
    advance(use_case, NOW)
    return use_case


def release(
    use_case: UseCase, *, seed: int, version: int = 1, against: str | None = None,
    definitions: dict[str, str] | None = None, flip: bool = False, **verdict: Any,
) -> Release:  # fmt: skip
    """A really fitted, released challenger, whose verdict was measured against a champion.

    ``definitions`` are those that it was trained on, by view; the present ones by default. ``flip``: it learned the opposite.
    """
    columns = features.feature_columns(use_case)
    rng = np.random.default_rng(seed)
    table = pa.table({name: _column(rng, kind, 400) for name, kind in columns.items()})
    labels = (np.asarray(table["order_amount"]) + rng.normal(0, 20, 400) > 60) != flip
    training = use_case.training
    estimator, encoder, _ = fit_estimator(table, labels, columns, training.algorithm, training.parameters, seed)
    digest, folder = model_files.write_model(
        model_files.models_url(), estimator=estimator, encoder=encoder,
        golden=model_files.golden_features(table, columns),
        schema=model_files.ModelSchema(
            use_case=use_case.name, feature_service=training.feature_service,
            feature_digest=features.feature_digest(use_case), columns=columns,
            view_digests=features.view_digests(use_case) | (definitions or {}),
        ),
        card={"title": use_case.title, "seed": seed},
    )  # fmt: skip
    return release_of(use_case, digest, folder, version=version, against=against, **verdict)


def release_of(
    use_case: UseCase, model: str, folder: str, *, version: int, against: str | None, known: bool = True, **changes: Any
) -> Release:
    """A release of a model's folder with a passing verdict; not ``known``, it is a folder of which the ledger has no row."""
    check = Check(
        name="roc_auc", value=0.8, bound=0.6, reason="absolute", passed=True, words="ROC AUC 0.800, at least 0.600"
    )
    verdict = Verdict(
        id=uuid.uuid4().hex, use_case=use_case.name, model_digest=model, champion_digest=against, decision="pass",
        mode="enabled",
        checks=(check,), metrics={"roc_auc": 0.8}, champion_metrics={}, holdout_rows=600, training_set_digest="t" * 64,
        summary="ROC AUC 0.800", data_time=data_now(use_case),
    )  # fmt: skip
    _, files = model_files.read_folder(folder, model)
    made = write_release(files, verdict, run_id="run", version=version)
    if not known:
        return made
    promotions.record_verdict(verdict.model_copy(update=changes), {})
    promotions.record_release(made)
    return made


def _column(rng: np.random.Generator, kind: str, rows: int) -> pa.Array:
    if kind == "string":
        return pa.array(rng.choice(["web", "app", "phone"], rows))
    if kind == "int64":
        return pa.array(rng.integers(0, 24, rows))
    return pa.array(rng.random(rows) * 120)


def promote(
    use_case: UseCase, made: Release, *, expected: str | None = None, action: str = "promote"
) -> promotions.Champion:
    """Make a release champion in the log."""
    return promotions.promote(
        use_case.name, made.digest, expected=expected, action=action, verdict_id=made.verdict_id, who="test",
        why="test", data_time=NOW,
    )  # fmt: skip


def delivered(use_case: UseCase, made: Release, *states: str) -> DeliveryRow:
    """The rows that a delivery of a release leaves which goes from ``staging`` through these states."""
    row = deliveries.begin(use_case.name, made.digest, made.champion_digest, "test")
    for state in states:
        row = deliveries.move(row, state, "test")
    return row


def undone(use_case: UseCase, made: Release) -> None:
    """What is left of a promotion that the workers could not follow."""
    delivered(use_case, made, "approval", "promote", "refused")
    promotions.set_release_state(made.digest, "refused", "workers did not load it")


def inputs(model: model_files.LoadedModel, rows: int) -> list[dict[str, Any]]:
    """Model inputs as a client would have them: some of them missing, some of a category that was never seen."""
    values = {
        "string": lambda n: ("web", "app", "fax")[n % 3],
        "int64": lambda n: n % 23,
        "float64": lambda n: None if n % 5 == 0 else (n % 40) + 0.5,
    }
    return [
        {name: values[kind](row * 7 + at) for at, (name, kind) in enumerate(model.columns.items())}
        for row in range(rows)
    ]


@dataclass
class Service:
    """The service in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=20)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=20, **more)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def wait(self, path: str, status: int, seconds: float = 90) -> httpx.Response:
        """Wait until a path is answered with a status."""
        deadline, seen = time.monotonic() + seconds, "nothing"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                answer = self.get(path)
                if answer.status_code == status:
                    return answer
                seen = f"{answer.status_code} {answer.text}"
            except httpx.HTTPError as error:
                seen = repr(error)
            time.sleep(0.1)
        raise AssertionError(f"{path} was not answered with {status} but {seen}\n{self.log.read_text()[-4000:]}")

    def wait_generation(self, use_case: UseCase, generation: int, seconds: float = 30) -> None:
        behind = promotions.wait_for_generation(use_case.name, generation, seconds)
        assert not behind, [(w.generation, w.error) for w in behind]


@contextmanager
def service(port: int, folder: Path, **environment: str) -> Iterator[Service]:
    """Run ``python -m airworthy.serving``; ready or not is for the test to see."""
    log = folder / f"service-{port}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "airworthy.serving"], stdout=output, stderr=output,
            env={
                **os.environ, "PYTHONPATH": str(TESTS / "use_cases"), "AIRWORTHY_SERVICE_PORT": str(port),
                **environment,
            },
        )  # fmt: skip
    running = Service(process, f"http://127.0.0.1:{port}", log)
    try:
        running.wait("/health", 200, 240)
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


@dataclass
class Traffic:
    """Clients that ask without a pause, each on its own connection."""

    url: str
    threads: int = 4
    answers: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self.url, timeout=20) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/predict", json={**ORDER, "customer": f"c{number:02d}"})
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    return
                if answer.status_code == 200:
                    self.answers.extend(answer.json()["predictions"])
                else:
                    self.failures.append(answer.text)

    @contextmanager
    def running(self) -> Iterator[Traffic]:
        workers = [threading.Thread(target=self._ask, args=(i,)) for i in range(self.threads)]
        for worker in workers:
            worker.start()
        try:
            yield self
        finally:
            self._stop.set()
            for worker in workers:
                worker.join()

    def wait(self, answers: int, seconds: float = 90) -> None:
        """Wait until so many more answers came."""
        target, deadline = len(self.answers) + answers, time.monotonic() + seconds
        while len(self.answers) < target and not self.failures and time.monotonic() < deadline:
            time.sleep(0.02)


def same(probabilities: Any, expected: Any) -> None:
    """Equal but for the rounding of a sum in another order, which the size of a batch changes."""
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-12)


def restart_settings() -> Settings:
    """The settings after the environment was changed."""
    get_settings.cache_clear()
    return get_settings()
