"""Attempts: each training and experiment as one row, told piece by piece as its tasks learn more."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select, text

from airworthy.ledger.database import transaction
from airworthy.ledger.models import Attempt

KINDS = ("train", "experiment")


def note_attempt(use_case: str, run: str, kind: str, **facts: Any) -> None:
    """Add facts to a run's attempt, in one statement; a later value of the same name replaces the earlier.

    Args:
        use_case: The use case.
        run: ``<dag_id>/<run_id>``, or who ran the command.
        kind: One of ``KINDS``.
        facts: JSON values by name.
    """
    statement = text(
        "INSERT INTO attempt AS a (run, use_case, kind, record) VALUES (:run, :use_case, :kind, CAST(:facts AS jsonb)) "
        "ON CONFLICT (run) DO UPDATE SET record = a.record || EXCLUDED.record, updated_at = now()"
    )
    values = {"run": run, "use_case": use_case, "kind": kind, "facts": json.dumps(facts, default=str)}
    with transaction() as session:
        session.execute(statement, values)


def attempt_of(run: str) -> Attempt | None:
    """The attempt of a run."""
    with transaction() as session:
        return session.get(Attempt, run)


def attempts(use_case: str) -> list[Attempt]:
    """Every attempt of a use case, newest first."""
    with transaction() as session:
        query = select(Attempt).where(Attempt.use_case == use_case)
        return list(session.scalars(query.order_by(Attempt.started_at.desc(), Attempt.run)))
