"""The kill switch: while it is pulled, nothing new reaches clients. The way back (rollback, abort) stays open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from airworthy.errors import PausedError
from airworthy.ledger import audit
from airworthy.ledger.database import LOCKS, transaction
from airworthy.ledger.models import PromotionPause

EVERY = "*"
PAUSABLE = ("promote", "shadow", "canary")


@dataclass(frozen=True)
class Pause:
    """A pause: of one use case or of all (``*``), by whom, why, since when (wall time)."""

    use_case: str
    who: str
    why: str
    at: datetime


def pause(use_case: str, who: str, why: str, via: audit.Via = "shell") -> Pause:
    """Pause promotions, shadow and canary. Again changes nothing: the first reason stands.

    When this returns, no promotion that began before can commit any more.

    Args:
        use_case: The use case; ``EVERY`` for all of them, also those to come.
        who: The person.
        why: The reason.
        via: ``shell`` or ``airflow``.
    """
    with transaction() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(:lock, 0)"), {"lock": LOCKS["switch"]})
        row = session.get(PromotionPause, use_case)
        outcome = "paused" if row is None else f"was paused already by {row.who}"
        if row is None:
            row = PromotionPause(use_case=use_case, who=who, why=why[: audit.LONGEST])
            session.add(row)
            session.flush()
            session.refresh(row)
        audit.record_action(who, "pause", _concerns(use_case), "promotions", why, via, outcome, session=session)
        return _pause(row)


def resume(use_case: str, who: str, why: str, via: audit.Via = "shell") -> Pause | None:
    """End a pause.

    Returns:
        The pause of all use cases that still holds this one, or None: promotions go on.

    Raises:
        PausedError: there is no such pause; the message names those there are.
    """
    with transaction() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(:lock, 0)"), {"lock": LOCKS["switch"]})
        row = session.get(PromotionPause, use_case)
        if row is None:
            others = ", ".join(session.scalars(select(PromotionPause.use_case))) or "none"
            raise PausedError(
                f"{_name(use_case)} is not paused", next_step=f"pauses there are: {others} ({EVERY} is every use case)"
            )
        session.delete(row)
        audit.record_action(who, "resume", _concerns(use_case), "promotions", why, via, "resumed", session=session)
    return paused(use_case)


def paused(use_case: str) -> Pause | None:
    """The pause that holds this use case: its own, or that of all; None when promotions go on."""
    with transaction() as session:
        return _holding(session, use_case)


def refuse_while_paused(session: Session, use_case: str, action: str) -> None:
    """Refuse a row of the promotion log while it is paused, in the transaction that would write it.

    Raises:
        PausedError: promotions are paused; rollback and abort never are.
    """
    if action not in PAUSABLE:
        return
    # Shared, until this transaction ends: a pause waits for promotions under way, and those after it see its row.
    session.execute(text("SELECT pg_advisory_xact_lock_shared(:lock, 0)"), {"lock": LOCKS["switch"]})
    found = _holding(session, use_case)
    if found:
        raise PausedError(
            f"{action} of {use_case} is refused: promotions of {_name(found.use_case)} were paused by {found.who} at "
            f"{found.at:%Y-%m-%d %H:%M} UTC ({found.why})",
            next_step="when the reason is gone: `airworthy resume`; rollback and abort work while it is paused",
        )


def _holding(session: Session, use_case: str) -> Pause | None:
    rows = session.scalars(select(PromotionPause).where(PromotionPause.use_case.in_((use_case, EVERY)))).all()
    return _pause(max(rows, key=lambda row: row.use_case == use_case)) if rows else None


def _pause(row: PromotionPause) -> Pause:
    return Pause(row.use_case, row.who, row.why, row.at)


def _concerns(use_case: str) -> str:
    return audit.PLATFORM if use_case == EVERY else use_case


def _name(use_case: str) -> str:
    return "every use case" if use_case == EVERY else use_case
