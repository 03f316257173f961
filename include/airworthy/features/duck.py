"""DuckDB sessions that mean the same everywhere: UTC, nothing downloaded, one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own, in memory. The caller closes it.

    One thread, because a sum of floats depends on the order of its parts: the same inputs give the same bytes.
    """
    connection = duckdb.connect(
        ":memory:",
        config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False},
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@contextmanager
def session() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that is closed at the end of the block."""
    connection = connect()
    try:
        yield connection
    finally:
        connection.close()


def quote(name: str) -> str:
    """An identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'
