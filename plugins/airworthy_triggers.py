"""Triggers that look outside Airflow: the landing zone and the ledger. They only wake; the ledger decides.

Each re-sends its event while there is still something to do, since Airflow's asset events may be lost or doubled.
They touch the ledger and file listings only: nothing in the triggerer uses Delta or DuckDB.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airworthy.config import UseCase
    from airworthy.intervals import Interval

REMIND_SECONDS = 60.0


class _Watch(BaseEventTrigger):
    """Send an event when the list of work changes, and remind when it stays."""

    def __init__(self, use_case: str, poke_interval: float = 1.0) -> None:
        super().__init__()
        self.use_case, self.poke_interval = use_case, poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return (
            f"airworthy_triggers.{type(self).__name__}",
            {"use_case": self.use_case, "poke_interval": self.poke_interval},
        )

    def work(self) -> list[str]:
        """What waits to be done."""
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Endless: one event for a list that is new, or old and still there."""
        sent: list[str] = []
        sent_at = time.monotonic()
        while True:
            try:
                work = await asyncio.to_thread(self.work)
            except Exception:
                self.log.exception("%s cannot look now; it tries again", type(self).__name__)
                work = []
            if work and (work != sent or time.monotonic() - sent_at > REMIND_SECONDS):
                yield TriggerEvent({"work": work[:50], "count": len(work)})
                sent_at = time.monotonic()
            sent = work
            await asyncio.sleep(self.poke_interval)


class LandingWatcher(_Watch):
    """Wakes ``.arrivals``: intervals that landed and that no scheduled run will take."""

    def work(self) -> list[str]:
        """Keys of those intervals."""
        from airworthy.config import get_use_case
        from airworthy.ingest import wakes

        return wakes(get_use_case(self.use_case))


class RequestWatcher(_Watch):
    """Wakes ``.train``: open retraining requests in the ledger.

    ``.monitor`` runs by partition, and Airflow never lets an event of a partitioned run wake an unpartitioned DAG.
    """

    def work(self) -> list[str]:
        """Ids of the open requests."""
        from airworthy.ledger.requests import open_requests

        return [str(request.id) for request in open_requests(self.use_case)]


class _UntilInterval(BaseTrigger):
    """Ends when something is true of an interval."""

    def __init__(self, use_case: str, interval: str, poke_interval: float = 10.0) -> None:
        super().__init__()
        self.use_case, self.interval, self.poke_interval = use_case, interval, poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        arguments = {"use_case": self.use_case, "interval": self.interval, "poke_interval": self.poke_interval}
        return (f"airworthy_triggers.{type(self).__name__}", arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event."""
        while not await asyncio.to_thread(self._look):
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent({"interval": self.interval})

    def ready(self, use_case: UseCase, interval: Interval) -> bool:
        """Whether the waiting is over."""
        raise NotImplementedError

    def _look(self) -> bool:
        from airworthy.config import get_use_case
        from airworthy.intervals import Interval

        try:
            return self.ready(get_use_case(self.use_case), Interval.of(self.interval))
        except Exception:
            self.log.exception("cannot look for %s %s now; trying again", self.use_case, self.interval)
            return False


class LandedIntervalTrigger(_UntilInterval):
    """Ends when every required source of an interval has landed, or is complete in its database."""

    def ready(self, use_case: UseCase, interval: Interval) -> bool:
        """By the landing zone and the databases."""
        from airworthy.ingest import ready

        return ready(use_case, interval)


class DecidedIntervalTrigger(_UntilInterval):
    """Ends when an interval was published or refused."""

    def ready(self, use_case: UseCase, interval: Interval) -> bool:
        """By the ledger."""
        from airworthy.ledger.commits import decided_intervals

        return interval.key in decided_intervals(use_case.name)
