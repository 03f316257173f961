"""The one clock of data time. Stages ask it and never the computer (ruff bans ``datetime.now`` there)."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy import Connection, Select, select, text
from sqlalchemy.exc import SQLAlchemyError

from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError
from airworthy.intervals import utc
from airworthy.ledger.database import own_connection, transaction
from airworthy.ledger.models import DataClock


def data_now(use_case: UseCase) -> datetime:
    """Data time now, UTC: the wall clock, or the replay cursor (``data.first`` before it was ever set)."""
    if get_settings().clock == "wall":
        return wall_now()
    with transaction() as session:
        return _read(use_case, session.scalar(_cursor(use_case)))


class Clock:
    """``data_now`` for who asks many times a second: over a connection of its own. Safe for threads, not for forks.

    Args:
        use_case: The use case.
    """

    def __init__(self, use_case: UseCase) -> None:
        self._use_case = use_case
        self._cursor = _cursor(use_case)
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Data time now, UTC.

        Raises:
            SQLAlchemyError: the ledger does not answer. The next call connects anew.
        """
        if get_settings().clock == "wall":
            return wall_now()
        with self._lock:
            kept = self._connection is not None
            try:
                return self._asked()
            except SQLAlchemyError:
                self._drop()
                if not kept:
                    raise
            try:
                return self._asked()  # the server may have been restarted meanwhile
            except SQLAlchemyError:
                self._drop()
                raise

    def close(self) -> None:
        """Close the connection, unless somebody waits for an answer that does not come."""
        if self._lock.acquire(timeout=1):
            try:
                self._drop()
            finally:
                self._lock.release()

    def _asked(self) -> datetime:
        if self._connection is None:
            self._connection = own_connection()
        return _read(self._use_case, self._connection.scalar(self._cursor))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.close()


def _cursor(use_case: UseCase) -> Select[datetime]:
    return select(DataClock.now).where(DataClock.use_case == use_case.name)


def _read(use_case: UseCase, cursor: datetime | None) -> datetime:
    return cursor.astimezone(UTC) if cursor else use_case.data.first_interval.start


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
