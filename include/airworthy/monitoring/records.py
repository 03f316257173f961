"""What the ledger tells the policy, and what monitoring writes there."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, or_, select

from airworthy.config import UseCase
from airworthy.evaluation.champion import ChampionRecord
from airworthy.intervals import Interval
from airworthy.lake import landing
from airworthy.ledger import commits, promotions, requests
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import MonitoringWindow, RetrainingRequest
from airworthy.monitoring.policy import DataFacts, WindowFacts
from airworthy.records import MonitorOutcome

# A training that claimed requests and answered nothing for so long is dead; wall time, since it is a lease.
TRAINING_LEASE = timedelta(hours=6)


def data_facts(use_case: UseCase, champion: ChampionRecord | None, window: WindowFacts, now: datetime) -> DataFacts:
    """Data, trainings and requests as the ledger knows them."""
    decided = commits.decided_intervals(use_case.name)
    published = [Interval.of(key).end for key, row in decided.items() if row.status == "published"]
    last_training = requests.last_training_time(use_case.name)
    since = _champion_since(champion, now)
    seen = max(filter(None, [last_training, _challenger_time(use_case.name)]), default=None)
    landed = landing.landed_digests(use_case) if champion is None else {}
    return DataFacts(
        now=now,
        champion_since=since,
        published=sum(end > since for end in published) if since else len(published),
        fresh=sum(end > seen for end in published) if seen else len(published),
        undecided=sum(
            Interval.of(key).end <= now and (key not in decided or decided[key].landed_digest != digest)
            for key, digest in landed.items()
        ),
        last_training=last_training,
        open_requests=_open_requests(use_case.name),
        asked=asked_by(use_case.name, window.key),
        superseded=_superseded(use_case.name, window),
    )


def earlier_windows(use_case: str, window: WindowFacts) -> list[WindowFacts]:
    """Judged windows before this one, newest first; of overlapping ones (days judged by hand) only the newest."""
    with transaction() as session:
        rows = session.scalars(select(MonitoringWindow).where(MonitoringWindow.use_case == use_case)).all()
    found = sorted(
        (WindowFacts.model_validate(row.record["facts"]) for row in rows), key=lambda f: (f.last, f.first), reverse=True
    )
    kept: list[WindowFacts] = []
    before = window.first
    for facts in found:
        if facts.last < before:
            kept.append(facts)
            before = facts.first
    return kept


def asked_by(use_case: str, window: str) -> tuple[str, ...]:
    """Causes that a window has asked for a training with."""
    with transaction() as session:
        return tuple(
            session.scalars(
                select(RetrainingRequest.cause)
                .where(RetrainingRequest.use_case == use_case, RetrainingRequest.evidence["window"].astext == window)
                .order_by(RetrainingRequest.id)
            )
        )


def record_window(outcome: MonitorOutcome, facts: WindowFacts, *, violates: bool) -> None:
    """Keep what was found in a window; judging it again replaces it."""
    with transaction() as session:
        session.merge(
            MonitoringWindow(
                use_case=outcome.use_case, window=facts.key, champion_digest=facts.champion, violates=violates,
                record={"outcome": outcome.to_json(), "facts": facts.to_json()},
            )
        )  # fmt: skip


def _champion_since(champion: ChampionRecord | None, now: datetime) -> datetime | None:
    if champion is None:
        return None
    if champion.training_set is not None:
        return champion.training_set.data_time
    return champion.verdict.data_time if champion.verdict else now


def _challenger_time(use_case: str) -> datetime | None:
    verdicts = (promotions.get_verdict(row.verdict_id) for row in promotions.releases(use_case, "challenger"))
    return max((v.data_time for v in verdicts if v), default=None)


def _open_requests(use_case: str) -> int:
    alive = or_(RetrainingRequest.claimed_by.is_(None), RetrainingRequest.claimed_at > wall_now() - TRAINING_LEASE)
    with transaction() as session:
        return int(
            session.scalar(
                select(func.count())
                .select_from(RetrainingRequest)
                .where(RetrainingRequest.use_case == use_case, RetrainingRequest.outcome.is_(None), alive)
            )
            or 0
        )


def _superseded(use_case: str, window: WindowFacts) -> bool:
    with transaction() as session:
        rows = session.scalars(select(MonitoringWindow).where(MonitoringWindow.use_case == use_case)).all()
    return any(row.record["facts"]["last"] > window.last for row in rows)
