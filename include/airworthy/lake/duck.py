"""DuckDB sessions that mean the same everywhere: UTC, nothing downloaded, one thread.

A database costs 17 ms to start and a connection to it almost nothing, so a process starts one, in memory, and every
session is a connection of its own: what it registers and its temporary tables are seen by nobody else.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import ibis
from ibis.backends.duckdb import Backend

_database: duckdb.DuckDBPyConnection | None = None
_inherited: list[duckdb.DuckDBPyConnection] = []  # of the parent process: neither used here nor closed
_lock = threading.Lock()


def connect() -> duckdb.DuckDBPyConnection:
    """A connection of its own to this process's database. The caller closes it.

    One thread, because a sum of floats depends on the order of its parts: the same inputs give the same bytes.
    """
    global _database
    with _lock:
        if _database is None:
            _database = duckdb.connect(
                ":memory:",
                config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False},
            )
        connection = _database.cursor()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@contextmanager
def session() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that is closed at the end of the block."""
    connection = connect()
    try:
        yield connection
    except (duckdb.FatalException, duckdb.InternalException):
        _forget()  # DuckDB refuses everything on a database after such an error
        raise
    finally:
        connection.close()


@contextmanager
def ibis_session() -> Iterator[Backend]:
    """The same for Ibis expressions."""
    with session() as connection:
        yield ibis.duckdb.from_connection(connection)


def quote(name: str) -> str:
    """An identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _forget() -> None:
    global _database
    with _lock:
        _database = None


def _after_fork() -> None:
    """The parent's threads do not exist in a child, and its lock may be held for ever: the child starts afresh."""
    global _database, _lock
    _lock = threading.Lock()
    if _database is not None:
        _inherited.append(_database)
        _database = None


def _close() -> None:
    """Before the interpreter takes the modules apart, in whatever order."""
    if _database is not None:
        _database.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_close)
