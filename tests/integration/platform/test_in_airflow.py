"""What starts a training, through the real scheduler: new data, the schedule, drift and decay in a storm, a person, age.

The embedded platform with the tiny shop on it. Deliveries are paused: what passes is promoted by hand here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from tiny_orders import world

from airworthy import features, ingest
from airworthy.config import UseCase, get_settings, get_use_case
from airworthy.config.use_case import use_cases
from airworthy.intervals import Interval
from airworthy.ledger import attempts, promotions, requests, usage
from airworthy.ledger.clock import advance, data_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import RetrainingRequest
from airworthy.platform import postgres
from airworthy.platform.airflow_api import AirflowApi
from airworthy.serving.spool import Spool
from ports import free_block

pytestmark = pytest.mark.timeout(1800)

NAME = "tiny_orders"
LAST = "2024-02-04"
WEEKS = {
    "first": "2024-01-08 (W02)",
    "early": "2024-01-15 (W03)",
    "before": "2024-01-22 (W04)",
    "newest": "2024-01-29 (W05)",
}
STRANGE = {
    "order_channel": "letter", "order_amount": 9e3, "amount_of_one": 9e3, "order_hour": 3, "returned_share_7d": 0.99,
    "orders_7d": 900, "mean_amount_7d": 9e3,
}  # fmt: skip
STORM, PROCESSES, EVENTS = 50, 5, 10


class Shop:
    """The shop on the platform, and what happens around it."""

    def __init__(self) -> None:
        self.case: UseCase = get_use_case(NAME)
        self.api = AirflowApi()
        self.seen = {row.run for row in attempts.attempts(NAME)}

    def history(self) -> None:
        """Five weeks, published; their labels are in."""
        # Airflow makes up for the last Monday before the platform was there. It must find nothing to train on yet.
        until(lambda: bool(self.scheduled()), 120, "the run of the last Monday has ended")
        for family in ("arrivals", "deliver"):
            self.api._send("PATCH", f"/api/v2/dags/{NAME}.{family}", {"is_paused": True})
        for key in world.land_history(self.case, LAST):
            ingest.ingest_interval(self.case, Interval.of(key), run="test")
        advance(self.case, Interval.of(LAST).end + timedelta(hours=7))
        features.catch_up(self.case, run="test")

    def scheduled(self) -> list[dict[str, Any]]:
        """Runs of the schedule that ended."""
        runs = self.api.runs(f"{NAME}.train")
        return [r for r in runs if r["run_type"] == "scheduled" and r["state"] in ("success", "failed")]

    def later(self, **ahead: float) -> None:
        advance(self.case, data_now(self.case) + timedelta(**ahead))

    def monitor(self, week: str) -> str:
        """Run the monitor of a week; its note."""
        run = self.api.trigger(f"{NAME}.monitor", partition_key=WEEKS[week])
        return str(self.api.wait(f"{NAME}.monitor", run, timeout_s=240)["note"])

    def trained(self) -> tuple[dict[str, Any], set[str]]:
        """Waits until exactly one more training has ended; its run and its causes."""

        def new() -> list[str]:
            return [r.run for r in attempts.attempts(NAME) if r.kind == "train" and r.run not in self.seen]

        until(lambda: bool(new()), 120, "a training begins")
        (name,) = new()
        run = self.api.wait(f"{NAME}.train", name.partition("/")[2], timeout_s=300)
        self.seen.add(name)
        assert run["state"] == "success", run
        record = attempts.attempt_of(name).record
        return run, {str(c["cause"]) for c in record["causes"].values()}

    def promote(self) -> None:
        """Make the newest challenger champion."""
        release = promotions.releases(NAME, "challenger")[-1]
        promotions.promote(
            NAME, release.digest, expected=None, action="promote", verdict_id=release.verdict_id, who="test",
            why="test", data_time=data_now(self.case),
        )  # fmt: skip

    def strange_week(self, week: str) -> None:
        """Predictions of the champion on orders like never before, and wrong ones."""
        monday = Interval.of(WEEKS[week][:10])
        release = promotions.champion(NAME).digest
        spool = Spool(get_settings().spool, NAME, f"test-{week}")
        orders = [o for n in range(7) for o in world.orders_of(monday.shift(n).key)[:60]]
        records = [
            {
                "prediction_id": uuid.uuid4().hex, "use_case": NAME, "at": "2026-01-01T00:00:00+00:00",
                "prediction_time": order["ordered_at"].replace("Z", "+00:00"),
                "id": {"order_id": order["order_id"]}, "request": {"order_id": order["order_id"]},
                "features": STRANGE, "probability": 0.1 if order["returned"] else 0.9, "decision": False,
                "model_digest": "m" * 64, "release": release, "generation": 1, "missing": [], "stale": [],
                "latency_ms": 1.0,
            }
            for order in orders
        ]  # fmt: skip
        spool.append(records)
        spool.close()


def until(check: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what}: not so after {seconds:.0f} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """The platform, up, with five weeks of the shop published on it."""
    from airworthy.platform import services

    folder, port, before = Path(tempfile.mkdtemp(prefix="aw", dir="/tmp")), free_block(10), dict(os.environ)
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_")]:
        del os.environ[name]
    ports = {"AIRFLOW": port, "MLFLOW": port + 5, "SERVICE": port + 6, "REPORTS": port + 7}
    os.environ |= {
        "AIRWORTHY_VAR": str(folder / "var"), "AIRWORTHY_USE_CASES": NAME,
        "PYTHONPATH": str(Path(__file__).parents[2] / "use_cases"),
        **{f"AIRWORTHY_{name}_URL": f"http://127.0.0.1:{number}" for name, number in ports.items()},
    }  # fmt: skip
    get_settings.cache_clear()
    use_cases.cache_clear()
    try:
        services.up()
        get_settings.cache_clear()
        made = Shop()
        made.history()
        yield made
    finally:
        services.down()
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)
        get_settings.cache_clear()
        use_cases.cache_clear()


def test_new_data_ask_for_the_first_training(shop: Shop) -> None:
    note = shop.monitor("early")

    run, causes = shop.trained()

    assert "asked for a training: new_data" in note
    assert causes == {"new_data"}
    assert run["run_type"] == "asset_triggered"
    assert promotions.verdicts(NAME)[-1].decision == "pass", run["note"]
    shop.promote()


def test_every_task_of_the_training_was_measured(shop: Shop) -> None:
    (name,) = shop.seen
    measured = {(row.task, row.outcome) for row in usage.usage_of(name)}
    api = {t["task_id"] for t in shop.api.tasks(f"{NAME}.train", name.partition("/")[2]) if t["state"] == "success"}
    assert {(task, "done") for task in api} == measured
    total = usage.cost(usage.usage_of(name))
    assert total.cpu_seconds > 0.1
    assert total.peak_memory_bytes > 50_000_000
    assert total.bytes_written > 10_000
    assert total.amount > 0
    assert {row.executor for row in usage.usage_of(name)} == {"LocalExecutor"}


def test_the_schedule_asks_once_its_time_has_come(shop: Shop) -> None:
    (first,) = shop.scheduled()
    assert "needed intervals are published" in str(first["note"])  # it asked for nothing
    shop.later(days=4)

    with postgres.connect(get_settings().socket_dir, "airflow") as connection:  # next Monday is now
        moments = (
            "next_dagrun",
            "next_dagrun_data_interval_start",
            "next_dagrun_data_interval_end",
            "next_dagrun_create_after",
        )
        columns = ", ".join(f"{name} = now()" for name in moments)
        connection.execute(f"UPDATE dag SET {columns} WHERE dag_id = %s", (f"{NAME}.train",))
        connection.commit()

    run, causes = shop.trained()
    assert run["run_type"] == "scheduled"
    assert causes == {"schedule"}


def _ask(number: int) -> None:
    case = get_use_case(NAME)
    for n in range(STORM // PROCESSES):
        evidence = {"storm": f"{number}/{n}"}
        requests.request_retraining(NAME, "drift", evidence, by=f"storm-{number}", data_time=data_now(case))


def test_a_storm_of_drift_and_decay_makes_one_training(shop: Shop) -> None:
    shop.later(days=4)
    shop.strange_week("before")
    shop.strange_week("newest")
    first = shop.monitor("before")
    assert "asked for a training" not in first  # one window is not enough
    (asset,) = [a for a in shop.api._all("/api/v2/assets", "assets") if a["name"] == f"{NAME}/retrain-request"]

    def event(_: int) -> None:
        shop.api._send("POST", "/api/v2/assets/events", {"asset_id": asset["id"], "extra": {}})

    monitor = shop.api.trigger(f"{NAME}.monitor", partition_key=WEEKS["newest"])
    until(lambda: any(r.cause == "decay" for r in _all_requests()), 120, "the monitor asks")
    processes = [get_context("fork").Process(target=_ask, args=(n,)) for n in range(PROCESSES)]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(EVENTS) as pool:
        list(pool.map(event, range(EVENTS)))
    for process in processes:
        process.join()
    _, causes = shop.trained()
    shop.api.wait(f"{NAME}.monitor", monitor)
    until(lambda: all(r.outcome for r in _all_requests()), 120, "every request is answered")

    assert {"drift", "decay"} <= causes
    assert [p.exitcode for p in processes] == [0] * PROCESSES
    storm = [r for r in _all_requests() if "storm" in r.evidence]
    assert len(storm) == STORM
    until(
        lambda: not [r for r in shop.api.runs(f"{NAME}.train") if r["state"] not in ("success", "failed")], 60, "quiet"
    )
    begun = {r.run for r in attempts.attempts(NAME) if r.kind == "train"}
    assert begun == shop.seen  # and no second one
    late = [r.outcome for r in storm if r.claimed_by not in begun]
    assert all(outcome.startswith("skipped: cool-down") for outcome in late), late


def test_a_person_asks_and_no_cool_down_holds_it_back(shop: Shop) -> None:
    shop.api.trigger(f"{NAME}.train", {"reason": "the boss wants to see it"})

    run, causes = shop.trained()

    assert run["run_type"] == "manual"
    assert causes == {"on_demand"}
    (why,) = [r.evidence["reason"] for r in _all_requests() if r.cause == "on_demand"]
    assert why == "the boss wants to see it"


def test_age_asks(shop: Shop) -> None:
    shop.later(days=61)

    note = shop.monitor("first")

    _, causes = shop.trained()
    assert "asked for a training: age" in note
    assert causes == {"age"}


def _all_requests() -> list[RetrainingRequest]:
    with transaction() as session:
        return session.query(RetrainingRequest).filter_by(use_case=NAME).order_by(RetrainingRequest.id).all()
