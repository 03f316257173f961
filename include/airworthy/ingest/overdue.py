"""Dead man's switch: intervals that should have landed by now, in data time, and have not. Silence is reported too."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update

from airworthy.config import UseCase
from airworthy.ingest.extract import ready
from airworthy.intervals import Interval, days
from airworthy.lake import landing
from airworthy.ledger import commits
from airworthy.ledger.clock import data_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import OverdueInterval
from airworthy.records import OverdueOutcome

SHOWN = 5


def deadline(use_case: UseCase, interval: Interval) -> datetime:
    """When an interval must have landed whole: its end, the longest lag of a source that it needs, and the grace."""
    lag = max((s.lag for s in use_case.sources.values() if s.required), default=timedelta(0))
    moment: datetime = interval.end + lag + use_case.data.overdue_after
    return moment


def overdue(use_case: UseCase) -> dict[str, list[str]]:
    """Intervals past their deadline that nobody decided on, with what each lacks, oldest first. Writes nothing.

    A replayed world's history is not looked at: an operator's backfill takes it, whenever that is.
    """
    data, now = use_case.data, data_now(use_case)
    decided = commits.decided_intervals(use_case.name)
    first = Interval.of(data.live_from or data.first)
    late = [i for i in days(first, data.last_interval) if deadline(use_case, i) <= now and i.key not in decided]
    return {interval.key: _lacks(use_case, interval) for interval in late}


def report_overdue(use_case: UseCase) -> OverdueOutcome:
    """Find what is overdue, and write it into the ledger: when it was first seen, and when it came after all.

    An interval is new in one report only, so that whoever sends alerts sends one for each.
    """
    now, found = data_now(use_case), overdue(use_case)
    with transaction() as session:
        known = session.scalars(select(OverdueInterval).where(OverdueInterval.use_case == use_case.name)).all()
        open_before = {row.interval for row in known if row.arrived is None}
        new = sorted(set(found) - open_before)
        for key in new:
            row = OverdueInterval(
                use_case=use_case.name, interval=key, lacks={"lacks": found[key]}, data_time=now, arrived=None
            )
            session.merge(row)
        arrived = sorted(open_before - set(found))
        session.execute(
            update(OverdueInterval)
            .where(OverdueInterval.use_case == use_case.name, OverdueInterval.interval.in_(arrived))
            .values(arrived=now)
        )
    outcome = OverdueOutcome(use_case=use_case.name, overdue=found, new=tuple(new), arrived=tuple(arrived))
    return outcome.model_copy(update={"reason": words(use_case, outcome)})


def words(use_case: UseCase, outcome: OverdueOutcome) -> str:
    """The report in a line."""
    if not outcome.overdue:
        return f"{use_case.name}: nothing is overdue" + (
            f"; {', '.join(outcome.arrived[:SHOWN])} came late" if outcome.arrived else ""
        )
    shown = [f"{key} ({', '.join(lacks)})" for key, lacks in list(outcome.overdue.items())[:SHOWN]]
    more = len(outcome.overdue) - len(shown)
    return (
        f"OVERDUE {use_case.name}: {len(outcome.overdue)} intervals did not land by their deadline, {len(outcome.new)} of "
        f"them new: {', '.join(shown)}{f' and {more} more' if more else ''}"
    )


def _lacks(use_case: UseCase, interval: Interval) -> list[str]:
    """The sources that an interval waits for; when all are there, that nobody ingested it."""
    if ready(use_case, interval):
        return ["landed, not ingested"]
    missing = landing.missing(use_case, interval)
    return [f"no {url.split('/')[-3]}" for url in missing]
