"""The connection to the ledger, and its migrations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from airworthy.config import get_settings

LOCKS = {"migrate": 1, "features": 2, "register": 3, "train": 4, "collect": 5, "housekeeping": 6, "tried": 7}


@lru_cache(maxsize=2)
def _engine(dsn: str, pid: int) -> Engine:
    # One engine a process: Airflow's tasks are forks, and connections do not survive a fork.
    return create_engine(
        dsn, pool_pre_ping=True, pool_size=4, max_overflow=8, connect_args={"options": "-c timezone=UTC"}
    )


def engine() -> Engine:
    """The engine of this process."""
    return _engine(get_settings().ledger_dsn, os.getpid())


@contextmanager
def transaction() -> Iterator[Session]:
    """A session in one transaction: committed at the end, rolled back on an exception."""
    with Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def exclusive(work: str, use_case: str) -> Iterator[None]:
    """Wait for, and hold, a PostgreSQL advisory lock: saves double work, decides nothing (fencing tokens do).

    Args:
        work: One of ``LOCKS``.
        use_case: The use case.
    """
    with engine().connect() as connection:
        connection.execute(
            text("SELECT pg_advisory_lock(:work, hashtext(:name))"), {"work": LOCKS[work], "name": use_case}
        )
        try:
            yield
        finally:
            connection.rollback()
            connection.execute(
                text("SELECT pg_advisory_unlock(:work, hashtext(:name))"), {"work": LOCKS[work], "name": use_case}
            )


def migrate() -> None:
    """Bring the ledger's schema to the newest revision; safe to call from several processes."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with exclusive("migrate", ""), engine().begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
