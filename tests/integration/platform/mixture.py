"""Every kind of run on one interval at the same moment: held back where each claims it, then let go together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from airworthy import ingest
from airworthy.config import get_settings
from airworthy.intervals import Interval
from airworthy.lake import landing
from airworthy.ledger import commits
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Commit
from airworthy.platform import postgres

from .airflow_shop import NAME, Shop, until

INGEST, ARRIVALS = f"{NAME}.ingest", f"{NAME}.arrivals"
PATIENCE = 240.0
_CLAIMING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO claim%'
"""


@dataclass(frozen=True)
class Taken:
    """What a run did with the interval: a task ``clean``, as Airflow has it."""

    run: str
    kind: str
    run_state: str
    state: str
    note: str
    digest: str


class Mixture:
    """Runs of the shop on one interval."""

    def __init__(self, shop: Shop, interval: Interval) -> None:
        self.shop, self.interval = shop, interval
        self._counted: set[str] = set()

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """Nobody can claim the interval, which somebody claimed before; at the end all go on together.

        Yields:
            Waits until so many tasks stand at the claim.
        """
        with self._ledger() as holder, holder.transaction(), self._ledger() as looker:
            resource = f"{NAME}/ingest/{self.interval.key}"
            assert holder.execute("SELECT 1 FROM claim WHERE resource = %s FOR UPDATE", (resource,)).fetchone()

            def stand_there(count: int) -> None:
                until(lambda: looker.execute(_CLAIMING).fetchone() == (count,), PATIENCE, f"{count} tasks claim")

            yield stand_there

    def start(self) -> None:
        """A backfill, the schedule and a person. The backfill first: it passes over a day that another run works on."""
        self.shop.api.backfill(INGEST, self.interval.start, self.interval.start)
        self.shop.next_run_is_now(INGEST, self.interval.key)
        self.shop.api.trigger(INGEST, partition_key=self.interval.key)

    def again(self) -> None:
        """The same three runs once more."""
        for run in self._of_the_day():
            self.shop.api.clear(INGEST, run["dag_run_id"])

    def ended(self) -> list[Taken]:
        """What each run did, once all have ended and nothing is due: the three, and what ``.arrivals`` took since the last time."""
        shop = self.shop
        until(
            lambda: not ingest.wakes(shop.case) and shop.quiet(INGEST) and shop.quiet(ARRIVALS), PATIENCE,
            "every run has ended",
        )  # fmt: skip
        found = [self._taken(INGEST, run, task) for run in self._of_the_day() for task in self._clean(INGEST, run)]
        # One that found nothing due has no mapped task.
        came = [
            self._taken(ARRIVALS, run, task)
            for run in shop.api.runs(ARRIVALS)
            for task in self._clean(ARRIVALS, run)
            if task["map_index"] >= 0 and run["dag_run_id"] not in self._counted
        ]
        self._counted |= {one.run.partition("/")[2] for one in came}
        return found + came

    def versions(self) -> list[str]:
        """Digest of each clean version of the interval that was committed, in order; a rewrite of the same rows is none."""
        table = self.shop.case.table("clean", "orders")
        query = select(Commit.digest).where(Commit.table_name == table, Commit.interval == self.interval.key)
        with transaction() as session:
            return list(dict.fromkeys(session.scalars(query.order_by(Commit.id))))

    def emitted(self) -> list[str]:
        """Runs that told Airflow that the interval is published, in order."""
        events = self.shop.api._all("/api/v2/assets/events", "asset_events", {"order_by": "timestamp"})
        mine = [e for e in events if (e["name"], e["partition_key"]) == (f"{NAME}/clean", self.interval.key)]
        return [f"{event['source_dag_id']}/{event['source_run_id']}" for event in mine]

    def published_by(self, taken: list[Taken]) -> Taken:
        """The run that published what is landed: one, and the others say why they did not."""
        landed = landing.landed(self.shop.case, self.interval)
        assert landed is not None
        assert {one.run_state for one in taken} == {"success"}, taken
        published = [one for one in taken if one.state == "success"]
        assert [one.digest for one in published] == [landed.digest], taken
        winner = published[0]
        reasons = rf"the claim \d+ on {NAME}/ingest/{self.interval.key} is superseded: .+ holds token \d+"
        reasons += f"|already ingested {landed.digest[:12]}"
        others = [one for one in taken if one is not winner]
        assert {one.state for one in others} == {"skipped"}, taken
        assert [one for one in others if not re.fullmatch(reasons, one.note)] == []
        decided = commits.decided_intervals(NAME)[self.interval.key]
        newest = commits.newest_commits(self.shop.case.table("clean", "orders"))[self.interval.key]
        assert (decided.status, decided.landed_digest, decided.token) == ("published", landed.digest, newest.token)
        return winner

    def _ledger(self) -> Any:
        return postgres.connect(get_settings().socket_dir, "ledger")

    def _of_the_day(self) -> list[dict[str, Any]]:
        return [r for r in self.shop.api.runs(INGEST) if str(r["partition_key"])[:10] == self.interval.key]

    def _clean(self, dag: str, run: dict[str, Any]) -> list[dict[str, Any]]:
        return [task for task in self.shop.api.tasks(dag, run["dag_run_id"]) if task["task_id"] == "clean"]

    def _taken(self, dag: str, run: dict[str, Any], task: dict[str, Any]) -> Taken:
        def left(key: str) -> Any:
            return self.shop.api.xcom(dag, run["dag_run_id"], "clean", key, task["map_index"])

        outcome = left("return_value") or {}
        return Taken(
            f"{dag}/{run['dag_run_id']}", run["run_type"], run["state"], task["state"], str(left("note")),
            outcome.get("landed_digest", ""),
        )  # fmt: skip
