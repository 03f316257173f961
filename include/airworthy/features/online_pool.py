"""Connections to the online store: one pool for each process, which hands out only such as work.

After a restart of the server every connection of a pool is dead; here they are found out and replaced before anybody gets one.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from feast.infra.utils.postgres.connection_utils import _get_conn_kwargs, _get_conninfo
from psycopg import Connection
from psycopg.errors import DiskFull, IdleInTransactionSessionTimeout
from psycopg_pool import ConnectionPool, PoolTimeout

from airworthy.config import get_settings
from airworthy.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from airworthy.features.online_store import GuardedPostgresOnlineStoreConfig

FRESH_SECONDS = 1.0  # so long after its use a connection is only looked at


class _Used(Connection[Any]):
    """A connection that knows when its server was last heard."""

    used_at = float("-inf")  # monotonic


class GuardedPool:
    """The connections of a process; after a fork the child opens its own. Safe for threads."""

    def __init__(self) -> None:
        self._pool: ConnectionPool[_Used] | None = None
        self._pool_pid = 0

    @contextmanager
    def connection(self, config: GuardedPostgresOnlineStoreConfig, *, autocommit: bool = False) -> Iterator[_Used]:
        """A connection that was looked at, or asked. Leaving the block commits, an error rolls back; then it is the pool's again."""
        pool = self._of_this_process(config)
        try:
            with pool.connection() as connection:
                connection.set_autocommit(autocommit)
                yield connection
                connection.used_at = time.monotonic()
        except PoolTimeout as error:
            raise ServiceUnavailableError(
                f"the online store at {config.host} gave no connection: {error}",
                next_step="see that PostgreSQL runs; if it does, raise max_conn or pool_timeout_seconds",
            ) from error
        except (DiskFull, IdleInTransactionSessionTimeout) as error:
            full = isinstance(error, DiskFull)
            raise ServiceUnavailableError(
                f"the online store at {config.host} "
                + (
                    f"is full: {error}"
                    if full
                    else "ended the write of this process, which was stopped in the middle of it"
                ),
                next_step="free space on its disk and run it again" if full else "nothing: the next run publishes it",
            ) from error

    def close(self) -> None:
        """Close this process's connections. The next call opens new ones."""
        with _pool_lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pool_pid == os.getpid():
            pool.close()

    def _of_this_process(self, config: GuardedPostgresOnlineStoreConfig) -> ConnectionPool[_Used]:
        pool = self._pool
        if pool is not None and self._pool_pid == os.getpid():
            return pool
        with _pool_lock:
            if self._pool is None or self._pool_pid != os.getpid():
                if self._pool is not None:
                    # The parent still talks over these sockets: they must be neither used nor closed here.
                    _inherited.append(self._pool)
                self._pool, self._pool_pid = _open_pool(config), os.getpid()
            return self._pool


_pool_lock = threading.Lock()
_inherited: list[ConnectionPool[_Used]] = []  # pools of the parent process, kept from being finalised here


def _renew_lock() -> None:
    """A thread that held the lock at the fork does not exist in the child and would never let go of it."""
    global _pool_lock
    _pool_lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _open_pool(config: GuardedPostgresOnlineStoreConfig) -> ConnectionPool[_Used]:
    def check(connection: _Used) -> None:
        # Asking the server each time takes as long as a read. From one that went in good order there is something to read, if only
        # the end; one that vanished says nothing, so that a connection that was idle is asked.
        idle_s = time.monotonic() - connection.used_at
        if idle_s < FRESH_SECONDS and not _has_input(connection.fileno()):
            return
        try:
            ConnectionPool.check_connection(connection)
        except Exception:
            # After a restart of the server every idle connection is dead. The pool would find out one by one, with
            # a longer pause after each; so all are replaced now.
            pool.check()
            raise

    given = _get_conn_kwargs(config)
    lease = f"-c idle_in_transaction_session_timeout={get_settings().lease_seconds * 1000}"
    options = {
        **given,
        # A writer that is stopped in the middle must not keep its row locks from the others for ever.
        "options": f"{given.get('options') or ''} {lease}",
        "connect_timeout": max(2, math.ceil(config.pool_timeout_seconds)),
        "keepalives_idle": config.keepalives_idle,
        # What was sent to a machine that is gone is given up, and whoever waits for the answer goes on.
        "tcp_user_timeout": math.ceil(config.pool_timeout_seconds * 1000),
    }
    pool = ConnectionPool(
        _get_conninfo(config),
        connection_class=_Used,
        kwargs={name: value for name, value in options.items() if value is not None},
        min_size=config.min_conn,
        max_size=max(config.min_conn, config.max_conn),
        check=check,
        timeout=config.pool_timeout_seconds,
        # After this the pool stops its growing pauses between attempts; the next call starts afresh.
        reconnect_timeout=config.pool_timeout_seconds,
        name="airworthy-online-features",
        open=False,
    )
    pool.open()
    return pool


def _has_input(descriptor: int) -> bool:
    socket = select.poll()
    socket.register(descriptor, select.POLLIN)
    return bool(socket.poll(0))
