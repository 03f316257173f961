"""The landing zone against the ledger: what landed that no coming scheduled run will take."""

from __future__ import annotations

from datetime import timedelta

from airworthy.config import UseCase
from airworthy.config.data_spec import SCHEDULE_WAIT
from airworthy.intervals import Interval
from airworthy.lake.landing import landed, landed_digests, landed_since
from airworthy.ledger.clock import data_now
from airworthy.ledger.commits import decided_intervals
from airworthy.ledger.models import IngestedInterval


def wakes(use_case: UseCase) -> list[str]:
    """Keys of the complete intervals that ``.arrivals`` must take now, oldest first.

    These are corrections of any day (decided before with other files, or refused and landed once more); in a replayed
    world the live intervals that are over; on the wall clock intervals that landed after their scheduled run. A
    replayed world's history is an operator's backfill, never taken here. Cheap: one listing and one query, for a
    watcher that asks every few seconds.
    """
    digests = landed_digests(use_case)
    if not digests:
        return []
    decided = decided_intervals(use_case.name)
    now, live_from = data_now(use_case), use_case.data.live_from

    def taken_by_nobody_else(key: str) -> bool:
        if key in decided:
            return decided[key].landed_digest != digests[key] or _landed_again(use_case, decided[key])
        end = Interval.of(key).end
        if live_from is None:
            return end + SCHEDULE_WAIT < now
        return key >= live_from.isoformat() and end <= now

    return [key for key in sorted(digests) if taken_by_nobody_else(key)]


def time_to_wait(use_case: UseCase, interval: Interval, wait: timedelta = SCHEDULE_WAIT) -> timedelta:
    """How much longer a scheduled run may wait for an interval: until ``wait`` after its end, in data time.

    The same moment for every try of the run, so that it has given up when ``wakes`` hands the interval to ``.arrivals``.
    Zero or less when it is over, and never more than ``wait``: a replayed world's clock may stand still.
    """
    left: timedelta = interval.end + wait - data_now(use_case)
    return min(left, wait)


def _landed_again(use_case: UseCase, decided: IngestedInterval) -> bool:
    """Whether a refused delivery was landed once more with the same content: a damaged upload is mended like that."""
    if decided.status != "rejected":
        return False
    found = landed(use_case, Interval.of(decided.interval))
    return found is not None and landed_since(use_case, found, decided.decided_at)


def arrivals(use_case: UseCase) -> list[Interval]:
    """The intervals of ``wakes``, for the tasks that ingest them."""
    return [Interval.of(key) for key in wakes(use_case)]
