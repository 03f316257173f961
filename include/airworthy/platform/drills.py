"""A dead man's switch for the drills: one that nobody runs, or that fails each week, is found here every day."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from airworthy.config.use_case import use_cases
from airworthy.delivery.rehearsal import RehearsalError, overdue_rehearsal
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import RecoveryDrill
from airworthy.platform import backup as backups

OVERDUE = timedelta(days=8)


def check_drills() -> str:
    """Look when the weekly drills last went well; returns that they did, in words.

    Raises:
        RehearsalError: one is overdue; each is named.
    """
    late = [words for case in use_cases().values() if (words := overdue_rehearsal(case))]
    late += [words for words in [_restore()] if words]
    if late:
        raise RehearsalError("; ".join(late), next_step="see the runs of .rollback_drill and platform.drill")
    return "rollback and restore were rehearsed lately, or there is nothing to rehearse yet"


def _restore() -> str:
    """Why the newest restore that went well is too long ago; counted from the oldest backup that there is."""
    with transaction() as session:
        last = session.scalar(
            select(RecoveryDrill.at).where(RecoveryDrill.passed).order_by(RecoveryDrill.id.desc()).limit(1)
        )
    saved = [backups.read_manifest(url).at for url in backups.backups()[:1]]
    since = last or next(iter(saved), None)
    if since is None or wall_now() - since <= OVERDUE:
        return ""
    words = f"the last one that went well was {last:%Y-%m-%d %H:%M} UTC" if last else "none went well yet"
    return f"a restore was not rehearsed for {OVERDUE.days} days: {words}"
