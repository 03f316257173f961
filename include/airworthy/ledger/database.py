"""The connection to the ledger, and its migrations."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import DiskFull, IdleInTransactionSessionTimeout
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from airworthy.config import get_settings
from airworthy.errors import ServiceUnavailableError

log = logging.getLogger(__name__)

# A server whose machine is gone says nothing: whoever waits for it goes on after so long.
GONE = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
LOCKS = {
    "migrate": 1, "features": 2, "register": 3, "train": 4, "collect": 5, "housekeeping": 6, "tried": 7, "search": 8,
    "switch": 9,
}  # fmt: skip


@lru_cache(maxsize=2)
def _engine(dsn: str, pid: int) -> Engine:
    # One engine a process: Airflow's tasks are forks, and connections do not survive a fork.
    # A process that is stopped in the middle of a transaction must not keep its row locks from the others for ever.
    options = f"-c timezone=UTC -c idle_in_transaction_session_timeout={get_settings().lease_seconds * 1000}"
    arguments = {"options": options, **GONE}
    return create_engine(dsn, pool_pre_ping=True, pool_size=4, max_overflow=8, connect_args=arguments)


def engine() -> Engine:
    """The engine of this process."""
    return _engine(get_settings().ledger_dsn, os.getpid())


@contextmanager
def transaction() -> Iterator[Session]:
    """A session in one transaction: committed at the end, rolled back on an exception.

    Raises:
        ServiceUnavailableError: the server's disk is full, or this process gave no sign of life for ``lease_seconds`` in the
            middle of it, so that the server ended it; nothing of it was written.
    """
    with _awake(), Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session


def own_connection() -> Connection:
    """A connection outside the pool and without transactions, for who asks all the time; the caller closes it."""
    connection = engine().connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.detach()
    return connection


@contextmanager
def _awake() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        where = unquote(engine().url.render_as_string())  # without its password, and a folder as people write it
        if isinstance(error.orig, DiskFull):
            raise ServiceUnavailableError(
                f"the disk of the ledger at {where} is full: {str(error.orig).splitlines()[0]}; nothing of it was written",
                next_step="free space on the database server's disk and run it again: nothing has to be repaired",
            ) from error
        if not isinstance(error.orig, IdleInTransactionSessionTimeout):
            raise
        raise ServiceUnavailableError(
            f"this process was stopped for more than {get_settings().lease_seconds} s, and the ledger at {where} ended its "
            "transaction: nothing of it was written",
            next_step="nothing: it is run again by itself, and finds what others have done meanwhile",
        ) from error


@contextmanager
def exclusive(work: str, use_case: str) -> Iterator[None]:
    """Wait for, and hold, a PostgreSQL advisory lock: saves double work, decides nothing (fencing tokens do).

    Who holds it gives a sign of life all the time. A holder that gives none for ``lease_seconds`` (stopped, or its machine
    is gone) loses it, and another one goes on; when it wakes, the newer claim refuses what it would still publish.

    Args:
        work: One of ``LOCKS``.
        use_case: The use case.
    """
    done = threading.Event()
    with engine().connect() as connection, _awake():
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:work, hashtext(:name))"), {"work": LOCKS[work], "name": use_case}
        )
        alive = threading.Thread(target=_sign_of_life, args=(connection, done, f"{work} {use_case}"), daemon=True)
        alive.start()
        try:
            yield
        finally:
            done.set()
            alive.join()
            with suppress(SQLAlchemyError):  # the lock is lost already: there is nothing to give back
                connection.rollback()


def _sign_of_life(connection: Connection, done: threading.Event, lock: str) -> None:
    while not done.wait(get_settings().lease_seconds / 4):
        try:
            connection.execute(text("SELECT 1"))
        except SQLAlchemyError as error:
            log.warning("the lock %s was lost, another process may work now: %s", lock, str(error).splitlines()[0])
            return


def migrate() -> None:
    """Bring the ledger's schema to the newest revision; safe to call from several processes."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with exclusive("migrate", ""), engine().begin() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
        if present is not None and present not in {
            r.revision for r in ScriptDirectory.from_config(config).walk_revisions()
        }:
            # A newer release ran here and this one is run again. Migrations only add, so that it can be.
            log.warning("the ledger's schema is at %s, which is newer than this code: it is left so", present)
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
