"""Feast's PostgreSQL online store, with two guards: values never go backwards, dead connections are replaced.

The store as Feast ships it overwrites a newer value with an older one when a late or parallel writer brings it, and
it keeps a connection that the server has closed. Here the database itself compares the times of every row that is
written, and connections come from a pool that replaces dead ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NoReturn, Self, TypeAlias

import pandas as pd
from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, extract_text_and_num
from feast.infra.online_stores.postgres_online_store.postgres import PostgreSQLOnlineStore, PostgreSQLOnlineStoreConfig
from feast.infra.utils.postgres.postgres_config import ConnectionType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from psycopg import Connection, sql
from pydantic import PositiveFloat, PositiveInt, StrictStr, model_validator

from airworthy.errors import ConfigurationError
from airworthy.features.online_pool import GuardedPool

OnlineRow: TypeAlias = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""An entity, its features, their event time, and when they became known. A time without a zone is UTC."""

FeatureValue: TypeAlias = float | int | str | bool | None

Found: TypeAlias = tuple[datetime, Mapping[str, FeatureValue]]
"""What is online of an entity: when its values hold from (UTC), and the values by feature."""

REMEMBERED = 10_000  # entities of a view, and values of entities, whose form is not made again for every request

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
        self._connections = GuardedPool()

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
        self._connections.close()

    async def close(self) -> None:
        """Close this process's connections (Feast calls this when a server stops)."""
        self.close_pool()

    def _get_conn(self, config: RepoConfig, autocommit: bool = False) -> AbstractContextManager[Connection[Any]]:
        """A connection that works. Leaving the block commits, an error rolls back; then it is the pool's again."""
        return self._connections.connection(config.online_store, autocommit=autocommit)

    def _get_conn_async(self, config: RepoConfig, autocommit: bool = False) -> AbstractAsyncContextManager[Any]:
        self._refuse_async()

    @staticmethod
    def _refuse_async() -> NoReturn:
        raise ConfigurationError(
            "the guarded online store has no asynchronous calls", next_step="call the synchronous ones in a thread"
        )


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
