"""Records of work that was done: trials of searches that nobody can go on with, and what tasks used a year ago.

What came of a search is in its attempt and in MLflow's run; what is kept here serves a search that was killed, and plots.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, select, text

from airworthy.config import UseCase
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TaskUsage
from airworthy.training.studies import SCHEMA, open_storage

# `airworthy cost` and the estimates of experiments look back; a year shows the seasons.
YEAR = timedelta(days=365)
_LAST = text(
    f"SELECT s.study_name FROM {SCHEMA}.studies s JOIN {SCHEMA}.trials t USING (study_id) "  # noqa: S608 - our own name
    "WHERE starts_with(s.study_name, :prefix) GROUP BY s.study_name "
    "HAVING max(coalesce(t.datetime_complete, t.datetime_start)) < :oldest ORDER BY 1"
)


def old_studies(use_case: UseCase, keep: timedelta) -> list[str]:
    """Names of the studies of a use case whose last trial is longer ago than ``keep`` (wall time)."""
    # Optuna writes the local time of its process, without a zone: this is half a day right.
    oldest = (wall_now() - keep).replace(tzinfo=None)
    with transaction() as session:
        return list(session.scalars(_LAST, {"prefix": f"{use_case.name}/", "oldest": oldest}))


def remove_studies(use_case: UseCase, keep: timedelta) -> int:
    """Remove them with their trials; returns how many."""
    names = old_studies(use_case, keep)
    for name in names:
        storage = open_storage()
        storage.delete_study(storage.get_study_id_from_name(name))
    return len(names)


def old_usage(use_case: UseCase) -> int:
    """How many tries of tasks ended more than a year ago."""
    with transaction() as session:
        return int(session.scalar(select(func.count()).where(*_ended_before(use_case, wall_now() - YEAR))) or 0)


def remove_usage(use_case: UseCase) -> int:
    """Remove what they used; returns how many."""
    with transaction() as session:
        return len(
            session.scalars(
                delete(TaskUsage).where(*_ended_before(use_case, wall_now() - YEAR)).returning(TaskUsage.id)
            ).all()
        )


def _ended_before(use_case: UseCase, oldest: datetime) -> tuple[ColumnElement[bool], ...]:
    return (TaskUsage.use_case == use_case.name, TaskUsage.ended_at < oldest)
