"""The one clock of data time. Stages ask it and never the computer (ruff bans ``datetime.now`` there)."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select, text

from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError
from airworthy.intervals import utc
from airworthy.ledger.database import first_row, transaction
from airworthy.ledger.models import DataClock


def data_now(use_case: UseCase) -> datetime:
    """Data time now, UTC: the wall clock, or the replay cursor (``data.first`` before it was ever set)."""
    if get_settings().clock == "wall":
        return wall_now()
    row = first_row(select(DataClock.now).where(DataClock.use_case == use_case.name))
    return row.now.astimezone(UTC) if row else use_case.data.first_interval.start


def wall_now() -> datetime:
    """Wall time, UTC: for leases, time-outs and heartbeats only."""
    return datetime.now(UTC)  # noqa: TID251 - the one place


def advance(use_case: UseCase, moment: datetime) -> None:
    """Set the replay clock; it never goes backwards.

    Raises:
        ConfigurationError: the platform runs on the wall clock, or the moment has no time zone.
    """
    if get_settings().clock == "wall":
        raise ConfigurationError(
            "the wall clock cannot be set", next_step="set AIRWORTHY_CLOCK=replay to replay a use case"
        )
    with transaction() as session:
        session.execute(
            text(
                "INSERT INTO data_clock AS c (use_case, now) VALUES (:name, :now) "
                "ON CONFLICT (use_case) DO UPDATE SET now = greatest(c.now, EXCLUDED.now)"
            ),
            {"name": use_case.name, "now": utc(moment)},
        )
