"""Feast's PostgreSQL online store, with two guards: values never go backwards, dead connections are replaced.

The store as Feast ships it overwrites a newer value with an older one when a late or parallel writer brings it, and
it keeps a connection that the server has closed. Here the database itself compares the times of every row that is
written, and every connection is looked at before it is used, or asked when it was idle.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NoReturn, Self, TypeAlias

import pandas as pd
from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, extract_text_and_num
from feast.infra.online_stores.postgres_online_store.postgres import PostgreSQLOnlineStore, PostgreSQLOnlineStoreConfig
from feast.infra.utils.postgres.connection_utils import _get_conn_kwargs, _get_conninfo
from feast.infra.utils.postgres.postgres_config import ConnectionType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from psycopg import Connection, sql
from psycopg.errors import DiskFull, IdleInTransactionSessionTimeout
from psycopg_pool import ConnectionPool, PoolTimeout
from pydantic import PositiveFloat, PositiveInt, StrictStr, model_validator

from airworthy.config import get_settings
from airworthy.errors import ConfigurationError, ServiceUnavailableError

OnlineRow: TypeAlias = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""An entity, its features, their event time, and when they became known. A time without a zone is UTC."""

FeatureValue: TypeAlias = float | int | str | bool | None

Found: TypeAlias = tuple[datetime, Mapping[str, FeatureValue]]
"""What is online of an entity: when its values hold from (UTC), and the values by feature."""

REMEMBERED = 10_000  # entities of a view, and values of entities, whose form is not made again for every request
FRESH_SECONDS = 1.0  # so long after its use a connection is only looked at

_FIELDS = {"string": "string_val", "int64": "int64_val", "float64": "double_val", "boolean": "bool_val"}
_BEGINNING = datetime.min.replace(tzinfo=UTC)

# Equal times pass: writing the same interval again must not fail to mend a value. Rows whose two times are equal and
# whose values differ are for the caller to avoid: a correction has a later created time.
_UPSERT = """
    INSERT INTO {table} AS o (entity_key, feature_name, value, value_text, event_ts, created_ts)
    SELECT * FROM unnest(%s::bytea[], %s::text[], %s::bytea[], %s::text[], %s::timestamptz[], %s::timestamptz[])
    ON CONFLICT (entity_key, feature_name) DO UPDATE SET
        value = EXCLUDED.value, value_text = EXCLUDED.value_text,
        event_ts = EXCLUDED.event_ts, created_ts = EXCLUDED.created_ts
    WHERE (EXCLUDED.event_ts, coalesce(EXCLUDED.created_ts, '-infinity'))
       >= (coalesce(o.event_ts, '-infinity'), coalesce(o.created_ts, '-infinity'))
"""


# One row for each entity: a client takes longer to read thirty rows than the server to put them together.
_SELECT = """
    SELECT {number}::int, entity_key, array_agg(feature_name), array_agg(value), max(event_ts)
    FROM {table} WHERE entity_key = ANY(%b) GROUP BY entity_key
"""


class _Used(Connection[Any]):
    """A connection that knows when its server was last heard."""

    used_at = float("-inf")  # monotonic


class GuardedPostgresOnlineStoreConfig(PostgreSQLOnlineStoreConfig):
    """The ``online_store`` section of the Feast configuration.

    ``host`` is a name or address, or the folder of a Unix socket (then with ``sslmode: disable`` and no password).
    The other fields are those of Feast's ``postgres`` store.

    Attributes:
        type: Import path of the store.
        password: Empty where the server does not ask for one.
        conn_type: Always a pool.
        min_conn: Connections that are kept open, by each process that uses the store.
        max_conn: Connections at the same time; more threads than these wait for one.
        pool_timeout_seconds: Wall time to wait for a working connection before giving up.
    """

    type: Literal["airworthy.features.online_store.GuardedPostgresOnlineStore"] = (
        "airworthy.features.online_store.GuardedPostgresOnlineStore"
    )
    password: StrictStr = ""
    conn_type: ConnectionType = ConnectionType.pool
    min_conn: PositiveInt = 1
    max_conn: PositiveInt = 4
    pool_timeout_seconds: PositiveFloat = 5.0

    @model_validator(mode="after")
    def _covered(self) -> Self:
        if self.conn_type is not ConnectionType.pool:
            raise ValueError("conn_type is always pool: a single connection would not survive its server's restart")
        if self.vector_enabled or self.enable_openai_compatible_store:
            raise ValueError("vectors are not supported: the guarded write does not know their columns")
        return self


class GuardedPostgresOnlineStore(PostgreSQLOnlineStore):
    """An online store whose values never go backwards in time. Safe for threads, and for processes that fork.

    What it does not do: entities that vanish from the feature tables stay, and the ttl is not applied, so readers look
    at the age of what they get.
    """

    def __init__(self) -> None:
        self._pool: ConnectionPool[_Used] | None = None
        self._pool_pid = 0

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[OnlineRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows in one transaction; a feature that already has a later (event time, created time) is left alone.

        A missing created time counts as earlier than any. Order of rows does not matter.

        Args:
            config: Feast's configuration.
            table: The feature view.
            data: The rows, any number, an entity as often as one likes.
            progress: Called once with the number of rows.

        Raises:
            ConfigurationError: a row has no event time.
            ServiceUnavailableError: no working connection in time; nothing was written.
            psycopg.Error: the database refused; nothing was written.
        """
        # Writers that lock rows in one order cannot lock each other out.
        # One row for each value: of several the latest, which is the last in that order.
        rows = list({row[:2]: row for row in sorted(_rows(config, data), key=_order)}.values())
        name = compute_table_id(config.project, table, config.registry.enable_online_feature_view_versioning)
        if rows:
            statement = sql.SQL(_UPSERT).format(table=sql.Identifier(name))
            # One statement for all rows: between those of a batch the server waits without a time-out, and a writer that
            # is stopped there would keep its row locks for ever.
            with self._get_conn(config) as connection:
                connection.execute(statement, [list(column) for column in zip(*rows, strict=True)])
        if progress:
            progress(len(data))

    def delete_entities(self, config: RepoConfig, table: FeatureView, keys: list[EntityKey]) -> int:
        """Remove every value of some entities from a view; returns how many values that were."""
        name = compute_table_id(config.project, table, config.registry.enable_online_feature_view_versioning)
        wanted = [serialize_entity_key(key, config.entity_key_serialization_version) for key in keys]
        statement = sql.SQL("DELETE FROM {table} WHERE entity_key = ANY(%s)").format(table=sql.Identifier(name))
        with self._get_conn(config) as connection:
            return connection.execute(statement, (wanted,)).rowcount

    def read_views(
        self, config: RepoConfig, asked: Sequence[tuple[FeatureView, Sequence[bytes | None]]]
    ) -> list[list[Found | None]]:
        """Read entities of several views in one query: all values are of one moment, and the server is asked once.

        Args:
            config: Feast's configuration.
            asked: Views with the entities to look up, as ``entity_bytes`` makes them; None is nobody.

        Returns:
            For each view, what is online of each of its entities, in order; None where there is nothing.

        Raises:
            ServiceUnavailableError: no working connection in time.
            psycopg.Error: the database refused.
        """
        versioned = config.registry.enable_online_feature_view_versioning
        keys = [list({key for key in entities if key is not None}) for _, entities in asked]
        query = _select(tuple(compute_table_id(config.project, view, versioned) for view, _ in asked))
        found: list[dict[bytes | None, Found]] = [{} for _ in asked]
        with self._get_conn(config, autocommit=True) as connection:
            rows = connection.execute(query, keys, binary=True).fetchall()
        for number, key, features, values, moment in rows:
            found[number][key] = moment, _read(_one_of(tuple(features)), tuple(values))
        return [[each.get(key) for key in wanted] for each, (_, wanted) in zip(found, asked, strict=True)]

    async def online_write_batch_async(self, *args: Any, **kwargs: Any) -> None:
        """Refused, as every asynchronous call: use the synchronous one in a thread.

        Raises:
            ConfigurationError: always.
        """
        self._refuse_async()

    def close_pool(self) -> None:
        """Close this process's connections. The next call opens new ones."""
        with _pool_lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pool_pid == os.getpid():
            pool.close()

    async def close(self) -> None:
        """Close this process's connections (Feast calls this when a server stops)."""
        self.close_pool()

    @contextmanager
    def _get_conn(self, config: RepoConfig, autocommit: bool = False) -> Iterator[_Used]:
        """A connection that was looked at, or asked. Leaving the block commits, an error rolls back; then it is the pool's again."""
        pool = self._get_pool(config.online_store)
        try:
            with pool.connection() as connection:
                connection.set_autocommit(autocommit)
                yield connection
                connection.used_at = time.monotonic()
        except PoolTimeout as error:
            raise ServiceUnavailableError(
                f"the online store at {config.online_store.host} gave no connection: {error}",
                next_step="see that PostgreSQL runs; if it does, raise max_conn or pool_timeout_seconds",
            ) from error
        except (DiskFull, IdleInTransactionSessionTimeout) as error:
            full = isinstance(error, DiskFull)
            raise ServiceUnavailableError(
                f"the online store at {config.online_store.host} "
                + (
                    f"is full: {error}"
                    if full
                    else "ended the write of this process, which was stopped in the middle of it"
                ),
                next_step="free space on its disk and run it again" if full else "nothing: the next run publishes it",
            ) from error

    def _get_conn_async(self, config: RepoConfig, autocommit: bool = False) -> AbstractAsyncContextManager[Any]:
        self._refuse_async()

    def _get_pool(self, config: GuardedPostgresOnlineStoreConfig) -> ConnectionPool[_Used]:
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

    @staticmethod
    def _refuse_async() -> NoReturn:
        raise ConfigurationError(
            "the guarded online store has no asynchronous calls", next_step="call the synchronous ones in a thread"
        )


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


def entity_bytes(names: tuple[str, ...], kinds: tuple[str, ...], values: tuple[Any, ...], version: int) -> bytes:
    """An entity as the store's rows name it.

    Args:
        names, kinds: Its join keys and their Ibis types.
        values: One for each of them.
        version: Of Feast's way of writing entities.

    Raises:
        TypeError, ValueError: a value does not fit its type.
    """
    return bytes(serialize_entity_key(entity_key(names, kinds, values), version))


def entity_key(names: Sequence[str], kinds: Sequence[str], values: Sequence[Any]) -> EntityKey:
    """An entity as Feast has it; arguments and errors as for ``entity_bytes``."""
    return EntityKey(join_keys=names, entity_values=[proto(v, kind) for v, kind in zip(values, kinds, strict=True)])


def proto(value: Any, kind: str) -> Value:
    """A value of an Ibis type as Feast has it."""
    return Value() if value is None else Value(**{_FIELDS[kind]: value})


@lru_cache(maxsize=REMEMBERED)
def _read(features: tuple[str, ...], contents: tuple[bytes, ...]) -> Mapping[str, FeatureValue]:
    return {name: _value(content) for name, content in zip(features, contents, strict=True)}


@lru_cache(maxsize=256)
def _one_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Always the same one of equal tuples, so that each is in memory once."""
    return names


def _value(content: bytes) -> FeatureValue:
    value = Value.FromString(content)
    field = value.WhichOneof("val")
    found: FeatureValue = getattr(value, field) if field and field != "null_val" else None
    return found


@lru_cache(maxsize=64)
def _select(tables: tuple[str, ...]) -> bytes:
    """One query over several tables; made once, since that costs as much as a part of the answer."""
    parts = (sql.SQL(_SELECT).format(number=sql.Literal(n), table=sql.Identifier(t)) for n, t in enumerate(tables))
    return sql.SQL(" UNION ALL ").join(parts).as_bytes(None)


def _rows(config: RepoConfig, data: list[OnlineRow]) -> Iterator[tuple[Any, ...]]:
    """One row of the table for each feature of each entity."""
    for entity, values, event_time, created_time in data:
        key = serialize_entity_key(entity, config.entity_key_serialization_version)
        event, created = _utc(event_time), _utc(created_time)
        if event is None:
            raise ConfigurationError(
                f"a row for the online store has no event time: {entity!s:.200}", next_step="give each row its time"
            )
        for name, value in values.items():
            yield key, name, value.SerializeToString(), extract_text_and_num(value, False)[0], event, created


def _order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    key, name, _, _, event, created = row
    return key, name, event, created or _BEGINNING


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or pd.isna(moment):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
