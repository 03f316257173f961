"""The tiny shop on a whole platform, with a help desk whose tickets are in a database; and what happens around them."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from tiny_orders import world

from airworthy import features, ingest
from airworthy.config import UseCase, get_settings, get_use_case
from airworthy.intervals import Interval
from airworthy.lake.landing import land
from airworthy.ledger import attempts, promotions
from airworthy.ledger.clock import advance, data_now
from airworthy.platform import postgres
from airworthy.platform.airflow_api import AirflowApi
from airworthy.serving.spool import Spool
from whole_platform import CASES, whole_platform

NAME, DESK = "tiny_orders", "tiny_tickets"
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
# Planted: who reads logs, values between tasks, reports or errors must not find them.
PERSON, ORDER, PASSWORD, KEY = (
    "pl4nted-customer-zq7",
    "pl4nted-order-of-zq7",
    "pl4nted-passw0rd-0f-a-dsn",
    "pl4nted-4pi-key",
)
PLANTED = {"a customer": PERSON, "an order": ORDER, "a database's password": PASSWORD, "the service's key": KEY}
PERSONAL = ("order_id", "customer")
PLANTED_DAY = "2024-01-10"


class Shop:
    """The shop on the platform, and what happens around it."""

    def __init__(self, desk: HelpDesk) -> None:
        self.desk = desk
        self.case: UseCase = get_use_case(NAME)
        self.api = AirflowApi()
        self.seen = {row.run for row in attempts.attempts(NAME)}

    def history(self) -> None:
        """Five weeks, published; their labels are in."""
        # Airflow makes up for the last Monday before the platform was there. It must find nothing to train on yet.
        until(lambda: bool(self.scheduled()), 120, "the run of the last Monday has ended")
        for family in ("arrivals", "deliver"):
            self.api._send("PATCH", f"/api/v2/dags/{NAME}.{family}", {"is_paused": True})
        keys = world.land_history(self.case, LAST)
        land_orders(self.case, PLANTED_DAY, planted(PLANTED_DAY))
        for key in keys:
            ingest.ingest_interval(self.case, Interval.of(key), run="test")
        advance(self.case, Interval.of(LAST).end + timedelta(hours=7))
        features.catch_up(self.case, run="test")

    def scheduled(self) -> list[dict[str, Any]]:
        """Runs of the schedule that ended."""
        runs = self.api.runs(f"{NAME}.train")
        return [r for r in runs if r["run_type"] == "scheduled" and r["state"] in ("success", "failed")]

    def later(self, **ahead: float) -> None:
        advance(self.case, data_now(self.case) + timedelta(**ahead))

    def next_run_is_now(self, dag: str, partition: str | None = None) -> None:
        """Let the scheduler believe that the time of a DAG's next run has come: the run of this partition, if it has any.

        Returns once that run is there. Whenever Airflow reads the DAG's file, it works out the next run anew: then it is told again.
        """
        before = self.by_schedule(dag)

        def made() -> bool:
            # The scheduler makes the run and forgets that it was due in one transaction.
            if not self._is_due(dag) and self.by_schedule(dag) == before:
                self._due_now(dag, partition)
            return self.by_schedule(dag) != before

        until(made, 120, f"the schedule of {dag} makes a run")

    def by_schedule(self, dag: str) -> list[str]:
        """Ids of the runs that a DAG's schedule made."""
        return [run["dag_run_id"] for run in self.api.runs(dag) if run["run_type"] == "scheduled"]

    def _is_due(self, dag: str) -> bool:
        with postgres.connect(get_settings().socket_dir, "airflow") as connection:
            query = "SELECT next_dagrun_create_after <= now() FROM dag WHERE dag_id = %s"
            return connection.execute(query, (dag,)).fetchone() == (True,)

    def _due_now(self, dag: str, partition: str | None) -> None:
        moments = ["create_after"] if partition else ["create_after", "data_interval_start", "data_interval_end"]
        values = {f"next_dagrun_{name}": "now()" for name in moments}
        if partition:
            values |= {
                "next_dagrun_partition_key": f"'{partition}'",
                "next_dagrun_partition_date": f"'{partition} 00:00Z'",
            }
        else:
            values["next_dagrun"] = "now()"
        with postgres.connect(get_settings().socket_dir, "airflow") as connection:
            pairs = ", ".join(f"{name} = {value}" for name, value in values.items())
            connection.execute(f"UPDATE dag SET {pairs} WHERE dag_id = %s", (dag,))

    def ran(self, dag: str, partition: str) -> dict[str, Any]:
        """Run a DAG for one partition; the run at its end."""
        return self.api.wait(dag, self.api.trigger(dag, partition_key=partition), timeout_s=240)

    def tries(self, dag: str) -> list[dict[str, Any]]:
        """Every task of every run of a DAG, with the run's partition."""
        return [
            task | {"partition_key": run["partition_key"]}
            for run in self.api.runs(dag)
            for task in self.api.tasks(dag, run["dag_run_id"])
        ]

    def states(self, dag: str, without: set[str]) -> set[str]:
        """States of the tasks of a DAG's runs, but for these."""
        return {task["state"] for task in self.tries(dag) if task["dag_run_id"] not in without}

    def quiet(self, dag: str) -> bool:
        """Whether no run of a DAG is under way."""
        return not [r for r in self.api.runs(dag) if r["state"] not in ("success", "failed")]

    def open_backfills(self, dag: str) -> list[dict[str, Any]]:
        """Backfills of a DAG that Airflow has not closed yet: it does that some time after their last run."""
        found = self.api._all("/api/v2/backfills", "backfills", {"dag_id": dag})
        return [one for one in found if one["completed_at"] is None]

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


def land_orders(case: UseCase, key: str, rows: list[dict[str, Any]]) -> None:
    """Land a day's orders, these ones."""
    interval = Interval.of(key)
    land(case, "orders", interval, world.to_csv(rows), len(rows), interval.end + timedelta(hours=6))


def planted(key: str) -> list[dict[str, Any]]:
    """A day's orders: one with the planted id, which is good, and one of the planted customer, whose number is none."""
    rows = world.orders_of(key)
    rows[0]["order_id"] = f"{ORDER}-{key}"
    rows[1]["customer"] = PERSON
    return rows


def tagged(folder: Path) -> str:
    """The shop with its ids and customers tagged as personal, as a package of its own; its name."""
    shutil.copytree(CASES / NAME, folder / "tagged_orders")
    file = folder / "tagged_orders" / "use_case.yaml"
    text, count = re.subn(
        rf"^( +(?:{'|'.join(PERSONAL)}): {{type: string)}}$",
        r"\1, tags: [personal]}",
        file.read_text(),
        flags=re.MULTILINE,
    )
    assert count == len(PERSONAL)
    file.write_text(text)
    return "tagged_orders"


class HelpDesk:
    """The database of the help desk, which belongs to somebody else."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self.url = f"postgresql+psycopg://desk:{PASSWORD}@/desk?host={server}"
        for statement in (f"CREATE ROLE desk LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE desk OWNER desk"):
            self.sql(statement, database="postgres")
        self.sql("CREATE SCHEMA desk AUTHORIZATION desk")
        self.sql(
            "CREATE TABLE desk.tickets (ticket bigint, customer text, amount numeric, opened_at timestamptz, escalated boolean)"
        )
        self.sql("CREATE TABLE desk.calls (call text, started timestamp, minutes int)")
        self.sql("GRANT SELECT ON ALL TABLES IN SCHEMA desk TO desk")

    def open_tickets(self, day: str) -> None:
        """One each hour from a day's midnight on, 49 of them, and one a quarter of an hour after the last."""
        self.sql(
            f"INSERT INTO desk.tickets SELECT n, 'c' || n % 3, 12.5, timestamptz '{day} 00:00Z' + n * interval '1 hour', "
            "n % 4 = 0 FROM generate_series(0, 48) n"
        )
        self.sql(
            f"INSERT INTO desk.tickets VALUES (99, 'c1', NULL, timestamptz '{day} 00:15Z' + interval '2 days', NULL)"
        )

    def sql(self, statement: str, database: str = "desk") -> None:
        with psycopg.connect(f"host={self._server} user=postgres dbname={database}", autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def opened(server: Path, folder: Path) -> Iterator[Shop]:
    """The platform, up, with five weeks of the shop published on it, and an empty help desk beside it."""
    desk = HelpDesk(server)
    with whole_platform(f"{tagged(folder)},{DESK}", folder, TINY_TICKETS_URL=desk.url, AIRWORTHY_SERVICE_API_KEY=KEY):
        shop = Shop(desk)
        shop.history()
        yield shop
