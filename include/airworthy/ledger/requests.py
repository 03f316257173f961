"""Retraining requests: rows with a cause. All open ones are claimed at once, so that a storm makes one training."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from airworthy.ledger.database import transaction
from airworthy.ledger.models import RetrainingRequest


def request_retraining(use_case: str, cause: str, evidence: dict[str, Any], *, by: str, data_time: datetime) -> int:
    """Ask for a training; returns the request's id.

    Args:
        use_case: The use case.
        cause: ``new_data``, ``drift``, ``decay``, ``age``, ``schedule`` or ``on_demand``.
        evidence: The numbers behind it.
        by: The Airflow run or the person.
        data_time: The data clock.
    """
    with transaction() as session:
        row = RetrainingRequest(use_case=use_case, cause=cause, evidence=evidence, requested_by=by, data_time=data_time)
        session.add(row)
        session.flush()
        return row.id


def open_requests(use_case: str) -> list[RetrainingRequest]:
    """Requests that no training has claimed, oldest first."""
    with transaction() as session:
        return list(
            session.scalars(
                select(RetrainingRequest)
                .where(RetrainingRequest.use_case == use_case, RetrainingRequest.claimed_by.is_(None))
                .order_by(RetrainingRequest.id)
            )
        )


def claim_requests(use_case: str, run: str) -> list[RetrainingRequest]:
    """Claim every open request for a run, in one statement. A retry of the same run gets its own rows again."""
    with transaction() as session:
        session.execute(
            update(RetrainingRequest)
            .where(RetrainingRequest.use_case == use_case, RetrainingRequest.claimed_by.is_(None))
            .values(claimed_by=run, claimed_at=func.now())
        )
        return list(
            session.scalars(
                select(RetrainingRequest)
                .where(RetrainingRequest.use_case == use_case, RetrainingRequest.claimed_by == run)
                .order_by(RetrainingRequest.id)
            )
        )


def close_requests(use_case: str, run: str, outcome: str) -> None:
    """Write what came of the requests that a run claimed."""
    with transaction() as session:
        session.execute(
            update(RetrainingRequest)
            .where(RetrainingRequest.use_case == use_case, RetrainingRequest.claimed_by == run)
            .values(outcome=outcome)
        )


def last_training_time(use_case: str) -> datetime | None:
    """Data time of the newest claimed request that led to a training (a cool-down's start)."""
    with transaction() as session:
        return session.scalar(
            select(func.max(RetrainingRequest.data_time)).where(
                RetrainingRequest.use_case == use_case,
                RetrainingRequest.outcome.is_not(None),
                ~RetrainingRequest.outcome.like("skipped%"),
            )
        )
