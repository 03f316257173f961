"""What people did by hand: one row each, kept for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from airworthy.errors import AirworthyError, SupersededError
from airworthy.ledger.database import transaction
from airworthy.ledger.models import HumanAction

Via = Literal["shell", "airflow"]
PLATFORM = ""
LONGEST = 1000


class Acting:
    """An action under way.

    Attributes:
        outcome: What came of it, in words; ``done`` when nobody says more.
    """

    def __init__(self) -> None:
        self.outcome = "done"


def record_action(
    who: str, action: str, use_case: str, subject: str, why: str, via: Via, outcome: str = "done", *,
    run: str | None = None, session: Session | None = None,
) -> int | None:  # fmt: skip
    """Write down what a person did.

    Args:
        who: The person: the Airflow user, or the user of the operating system.
        action: What was done, in a word or two, such as ``rollback`` or ``release quarantine``.
        use_case: The use case; ``PLATFORM`` for what concerns all of them.
        subject: What it was done to: a release, an interval, a run.
        why: The reason that was given.
        via: ``shell`` or ``airflow``.
        outcome: What came of it.
        run: The Airflow run that a person started, if that is what was done: it is written down once.
        session: Write it in this transaction, so that it is kept exactly when the action is.

    Returns:
        The row's id; None when this run is written down already.
    """
    values = {
        "who": who, "via": via, "action": action, "use_case": use_case, "subject": subject[:LONGEST],
        "why": why[:LONGEST], "outcome": outcome[:LONGEST], "run": run,
    }  # fmt: skip
    statement = insert(HumanAction).values(values).on_conflict_do_nothing().returning(HumanAction.id)
    if session is not None:
        return session.scalar(statement)
    with transaction() as own:
        return own.scalar(statement)


@contextmanager
def acting(
    who: str, action: str, use_case: str, subject: str, why: str, via: Via, *, run: str | None = None
) -> Iterator[Acting]:
    """Write down an action before it begins, and what came of it when it ends: a killed one stays without an outcome.

    An error that the platform raises on purpose becomes the outcome in its own words; of any other only the kind is kept.

    Raises:
        SupersededError: this run did it already; cleared, it would do it again in the name of who asked then.
    """
    number, act = record_action(who, action, use_case, subject, why, via, outcome="", run=run), Acting()
    if number is None:
        raise SupersededError(
            f"{run} was begun before, and an action is not repeated in somebody's name",
            next_step="look at what came of it (`airworthy audit`), and fill in the form again if need be",
        )
    try:
        yield act
    except BaseException as error:
        words = error.what if isinstance(error, AirworthyError) else type(error).__name__
        _end(number, f"failed: {words}")
        raise
    _end(number, act.outcome or "done")


def _end(number: int, outcome: str) -> None:
    with transaction() as session:
        session.execute(update(HumanAction).where(HumanAction.id == number).values(outcome=outcome[:LONGEST]))


def actions(use_case: str | None = None, since: datetime | None = None) -> list[HumanAction]:
    """What people did, oldest first.

    Args:
        use_case: Only what concerns this use case, with what concerned the whole platform; None for all.
        since: Only from this moment on, wall time.
    """
    query = select(HumanAction).order_by(HumanAction.id)
    if use_case is not None:
        query = query.where(HumanAction.use_case.in_((use_case, PLATFORM)))
    if since is not None:
        query = query.where(HumanAction.at >= since)
    with transaction() as session:
        return list(session.scalars(query))
