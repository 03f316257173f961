"""What tasks used, and what that cost by the rates of the settings."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from airworthy.config import get_settings
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TaskUsage
from airworthy.measuring import Usage

log = logging.getLogger(__name__)

GB = 1e9
HOUR = 3600.0


@dataclass(frozen=True)
class TaskName:
    """Which try of which task.

    Attributes:
        run: ``<dag_id>/<run_id>``.
        dag: ``<use_case>.<family>``.
        executor: Airflow's executor; ``command`` outside Airflow.
    """

    run: str
    dag: str
    task: str
    map_index: int = -1
    try_number: int = 1
    executor: str = "command"


@dataclass(frozen=True)
class Cost:
    """What work used and cost; sums of any number of tasks.

    Attributes:
        tasks: Tries of tasks that were measured.
        seconds: Of their wall time, summed.
        cpu_seconds, bytes_written: Summed.
        gb_seconds: Peak memory of each, for as long as it ran.
        peak_memory_bytes: The largest.
        amount: By the rates of the settings, in their currency.
    """

    tasks: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gb_seconds: float = 0.0
    peak_memory_bytes: int = 0
    bytes_written: int = 0

    @property
    def amount(self) -> float:
        """The price, in ``cost_currency``."""
        rates = get_settings()
        return (
            self.cpu_seconds / HOUR * rates.cost_per_cpu_hour
            + self.gb_seconds / HOUR * rates.cost_per_gb_hour
            + self.bytes_written / GB * rates.cost_per_gb_written
        )

    @property
    def words(self) -> str:
        """Such as ``12.3 CPU-s, peak 0.41 GB, 0.002 GB written: 0.00014 EUR``."""
        return (
            f"{self.cpu_seconds:.1f} CPU-s, peak {self.peak_memory_bytes / GB:.2f} GB, "
            f"{self.bytes_written / GB:.3f} GB written: {price(self.amount)}"
        )


def price(amount: float) -> str:
    """An amount with its currency; small ones with two digits that count."""
    digits = 2 if amount >= 1 else 5
    return f"{amount:.{digits}f} {get_settings().cost_currency}"


def record_usage(name: TaskName, used: Usage, outcome: str) -> None:
    """Write what a task used. It never fails: a task must not end badly because it could not be measured."""
    use_case, _, family = name.dag.partition(".")
    try:
        ended = wall_now()
        with transaction() as session:
            session.add(
                TaskUsage(
                    run=name.run, use_case=use_case, family=family, task=name.task, map_index=name.map_index,
                    try_number=name.try_number, outcome=outcome, executor=name.executor, host=socket.gethostname(),
                    started_at=ended - timedelta(seconds=used.seconds), ended_at=ended, cpu_seconds=used.cpu_seconds,
                    peak_memory_bytes=used.peak_memory_bytes, bytes_written=used.bytes_written,
                )
            )  # fmt: skip
    except Exception:
        log.warning("what %s of %s used could not be written down", name.task, name.run, exc_info=True)


def usage_of(run: str) -> list[TaskUsage]:
    """What the tasks of a run used, in the order in which they ended."""
    with transaction() as session:
        return list(session.scalars(select(TaskUsage).where(TaskUsage.run == run).order_by(TaskUsage.id)))


def usages(use_case: str | None = None, since: datetime | None = None) -> list[TaskUsage]:
    """What tasks used, oldest first: of one use case or all, that ended at ``since`` (wall time) or later."""
    query = select(TaskUsage).order_by(TaskUsage.id)
    if use_case is not None:
        query = query.where(TaskUsage.use_case == use_case)
    if since is not None:
        query = query.where(TaskUsage.ended_at >= since)
    with transaction() as session:
        return list(session.scalars(query))


def cost(rows: Iterable[TaskUsage]) -> Cost:
    """The sum over tasks."""
    found = list(rows)
    return Cost(
        tasks=len(found),
        seconds=sum(_seconds(r) for r in found),
        cpu_seconds=sum(r.cpu_seconds for r in found),
        gb_seconds=sum(r.peak_memory_bytes / GB * _seconds(r) for r in found),
        peak_memory_bytes=max((r.peak_memory_bytes for r in found), default=0),
        bytes_written=sum(r.bytes_written for r in found),
    )


def _seconds(row: TaskUsage) -> float:
    return (row.ended_at - row.started_at).total_seconds()
