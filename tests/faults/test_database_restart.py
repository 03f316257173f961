"""F9: PostgreSQL is killed and started again under the service, an ingest and a delivery. Nothing is lost, clients never notice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from tiny_orders import world as shop

from airworthy import features, ingest
from airworthy.config import UseCase, get_settings
from airworthy.config.use_case import use_cases
from airworthy.features import close
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger import commits, deliveries, promotions
from airworthy.ledger.database import engine, migrate
from airworthy.ledger.promotions import live_workers
from airworthy.platform import postgres
from airworthy.platform.every_table import table_schemas
from airworthy.platform.layout import Layout
from airworthy.serving import spool
from ports import free_port

from ..integration.serving import world  # noqa: TID252 - one small world

pytestmark = pytest.mark.timeout(900)

DAYS = [f"2024-01-{day:02d}" for day in range(1, 9)]
AWAY_S, RECOVERED_S = 4.0, 60.0


@contextmanager
def on_its_own_postgres(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UseCase]:
    """The tiny use case in a folder, on a PostgreSQL of its own there, which may be hurt."""
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_") and n != "AIRWORTHY_TESTS_COMPLETE"]:
        monkeypatch.delenv(name)
    for name, value in {
        "VAR": str(folder / "var"), "USE_CASES": "tiny_orders", "MLFLOW_URL": "http://127.0.0.1:1", "MLFLOW_TIMEOUT": "1",
        "DELIVERY_LOAD_REQUESTS": "60", "CLOCK": "replay",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AIRWORTHY_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(world.TESTS / "use_cases"))
    settings = world.restart_settings()
    use_cases.cache_clear()
    postgres.start(settings)
    settings = world.restart_settings()
    postgres.create_databases(settings.socket_dir, ["ledger", "feast", "online"])
    migrate()
    case = world.orders()
    for name, schema in table_schemas(case).items():
        tables.create(name, schema)
    try:
        yield case
    finally:
        close()
        engine().dispose()
        postgres.stop(get_settings())
        get_settings.cache_clear()
        use_cases.cache_clear()


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> Iterator[UseCase]:
    folder = Path(tempfile.mkdtemp(prefix="aw", dir="/tmp"))
    with on_its_own_postgres(folder, monkeypatch) as case:
        yield case
    shutil.rmtree(folder, ignore_errors=True)


def kill_postgres() -> None:
    """As the kernel does when memory runs out: no process of the server gets to say anything."""
    pid = postgres.postmaster(Layout(get_settings()).postgres.resolve())
    assert pid is not None
    server = psutil.Process(pid)
    for process in [server, *server.children(recursive=True)]:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs([server], timeout=60)


def start_postgres() -> None:
    """As the supervisor does: again, until the server has read its log and answers."""
    deadline = time.monotonic() + 120
    while not postgres.answers(get_settings().socket_dir):
        assert time.monotonic() < deadline
        with suppress(Exception):  # the start gives up before a server on a busy machine has recovered
            postgres.start(get_settings())
        time.sleep(0.2)


def command(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "airworthy.cli", *arguments], stdout=log, stderr=log)


def assert_published_once(orders: UseCase, days: list[str]) -> None:
    """Each day is published with every row that landed and was not rejected."""
    decided, newest = commits.decided_intervals(orders.name), commits.newest_commits(orders.table("clean", "orders"))
    for day in days:
        outcome = decided[day].outcome
        assert (decided[day].status, newest[day].rows) == (
            "published",
            outcome["rows_in"]["orders"] - outcome["rows_rejected"]["orders"],
        )
        interval = Interval.of(day)
        assert tables.read(orders.table("clean", "orders"), interval, interval).num_rows == newest[day].rows


def until(what: str, check: object, seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s: {what}"
        time.sleep(0.05)


def test_service_ingest_and_delivery_outlive_a_killed_database(orders: UseCase, tmp_path: Path) -> None:
    # Given a champion that answers clients, a challenger, and eight landed days.
    first = world.release(orders, seed=1, version=1)
    world.promote(orders, first)
    second = world.release(orders, seed=2, version=2, against=first.digest)
    for day in DAYS:
        shop.land_day(orders, day)
    days = "; ".join(f"ingest_interval(c, Interval.of('{day}'), run='test')" for day in DAYS)
    script = (
        "from airworthy.config import get_use_case; from airworthy.ingest import ingest_interval; "
        f"from airworthy.intervals import Interval; c = get_use_case('tiny_orders'); {days}"
    )
    with world.service(free_port(), tmp_path) as api:
        api.wait_generation(orders, 1, 120)
        with world.Traffic(api.url, threads=2).running() as traffic:
            traffic.wait(50)
            # When the database is killed in the middle of an ingest and of a delivery, and is away for seconds.
            delivery = command(tmp_path, "delivery", "deliver", orders.name)
            until("a delivery is under way", lambda: deliveries.deliveries(orders.name))
            with (tmp_path / "ingest.log").open("ab") as log:
                taking = subprocess.Popen([sys.executable, "-c", script], stdout=log, stderr=log)
            until("a day is published", lambda: commits.decided_intervals(orders.name))
            published = len(commits.decided_intervals(orders.name))
            before = len(traffic.answers)
            kill_postgres()
            time.sleep(AWAY_S)
            during = len(traffic.answers)
            start_postgres()
            started = time.monotonic()
            until("the worker reports again", lambda: live_workers(orders.name), RECOVERED_S)
            recovered = time.monotonic() - started
            interrupted = (delivery.wait(300), taking.wait(300))
            traffic.wait(50)
            # And both are run again, as Airflow does.
            again = command(tmp_path, "delivery", "deliver", orders.name).wait(300)
        answered, failures = list(traffic.answers), list(traffic.failures)
        api.wait_generation(orders, promotions.champion(orders.name).generation, 60)  # type: ignore[union-attr]
    for day in DAYS:
        ingest.ingest_interval(orders, Interval.of(day), run="again")
    features.catch_up(orders, run="again")
    told = f"{published} days before, interrupted {interrupted}, recovered in {recovered:.1f} s\n" + "\n".join(
        log.read_text()[-1500:] for log in tmp_path.glob("*.log")
    )

    # Then clients were answered all the time, by the last good release, and every answer is kept;
    assert failures == [], told
    assert during > before, told
    kept = {
        record["prediction_id"]
        for file in spool.files(get_settings().spool, orders.name)
        for record, _ in spool.read(file)
    }
    assert {a["prediction_id"] for a in answered} <= kept
    assert recovered < RECOVERED_S
    # each day is published once, with every row that landed;
    assert_published_once(orders, DAYS)
    # and the delivery ended, by one promotion.
    assert again == 0, told
    assert [(r.action, r.to_digest) for r in promotions.changes(orders.name)] == [
        ("promote", first.digest), ("promote", second.digest)
    ], told  # fmt: skip
