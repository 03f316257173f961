"""A Feast data source that is a Delta table, at its newest version or at a pinned one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from feast import RepoConfig, ValueType
from feast.data_source import DataSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.type_map import pa_to_feast_value_type

from airworthy.errors import ConfigurationError
from airworthy.lake.tables import storage_options

CLASS_TYPE = "airworthy.features.delta_source.DeltaSource"

_pins: ContextVar[Mapping[str, int]] = ContextVar("delta_source_pins")


@contextmanager
def pinned_versions(versions: Mapping[str, int]) -> Iterator[None]:
    """Read data sources at given Delta versions: how a training set is made again from exactly its data.

    It holds for this thread (or task) and for retrievals *created* inside the block. Sources that are not
    named keep their own rule.

    Args:
        versions: Delta version by the name of the data source.

    Example:
        ``with pinned_versions(ref.data_versions): job = store.get_historical_features(...)``
    """
    token = _pins.set({**_pins.get({}), **versions})
    try:
        yield
    finally:
        _pins.reset(token)


class DeltaSource(DataSource):
    """Rows of features in a Delta table.

    Args:
        name: Name, unique within the Feast project.
        path: URL of the table, or an absolute local folder.
        timestamp_field: Column with the event time: from when on the values hold. No zone means UTC.
        created_timestamp_column: Column with the time at which the platform learned of the row
            (``available_at``). When set, it bounds every point-in-time join; a row in which it is null is
            never known.
        version: Delta version to read; None for the newest. ``pinned_versions`` overrides it.
        field_mapping: New name by column of the table, for features, join keys and timestamps.
        description: For people.
        tags: For people and tools.
        owner: For people.

    Raises:
        ConfigurationError: the path is relative: it would mean another table in another process.
    """

    def __init__(
        self,
        name: str,
        path: str | Path,
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        version: int | None = None,
        field_mapping: dict[str, str] | None = None,
        description: str = "",
        tags: dict[str, str] | None = None,
        owner: str = "",
    ) -> None:
        super().__init__(
            name=name,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
        )
        self.path = str(path)
        self.version = version
        if "://" not in self.path and not Path(self.path).is_absolute():
            raise ConfigurationError(
                f"data source {name}: path {self.path!r} is relative",
                next_step="give an absolute folder or a URL",
            )

    def __eq__(self, other: object) -> bool:
        """Same table, version, columns and description."""
        if not isinstance(other, DeltaSource):
            return False
        return bool(super().__eq__(other)) and (self.path, self.version) == (other.path, other.version)

    def __hash__(self) -> int:
        """Feast hashes sources by name and event time."""
        return int(super().__hash__())

    def open_table(self) -> DeltaTable:
        """A handle on the table, at the pinned version, else at this source's, else at the newest.

        Raises:
            ConfigurationError: there is no such table, no such version, or the store cannot be reached.
        """
        version = _pins.get({}).get(self.name, self.version)
        try:
            return DeltaTable(self.path, version=version, storage_options=storage_options(self.path) or None)
        except TableNotFoundError as error:
            raise ConfigurationError(
                f"data source {self.name}: no Delta table at {self.path}", next_step="create the tables first"
            ) from error
        except (DeltaError, OSError) as error:
            at = "the newest version" if version is None else f"version {version}"
            raise ConfigurationError(
                f"data source {self.name}: cannot open {at} of {self.path}: {error}",
                next_step="check the version (was it vacuumed?), the URL and the store's credentials",
            ) from error

    def column(self, name: str) -> str:
        """The table's own name of a column, given that name or the one that ``field_mapping`` gives it."""
        original = {new: old for old, new in self.field_mapping.items()}
        return str(original.get(name, name))

    def mapped(self, column: str) -> str:
        """The name that ``field_mapping`` gives a column of the table."""
        return str(self.field_mapping.get(column, column))

    def schema(self) -> pa.Schema:
        """Columns and types of the table (without ``field_mapping``)."""
        return pa.schema(self.open_table().schema().to_arrow())

    def validate(self, config: RepoConfig) -> None:
        """Check that the table is there and has its time columns.

        Raises:
            ConfigurationError: the table, a time column, or the right type of one is missing.
        """
        schema = self.schema()
        for name in filter(None, (self.timestamp_field, self.created_timestamp_column)):
            require_time(schema, self.column(name), f"data source {self.name} ({self.path})")

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:
        """Pairs of column and Arrow type, as Feast's inference wants them."""
        return [(field.name, str(field.type)) for field in self.schema()]

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """The function from an Arrow type's name to Feast's type."""
        return pa_to_feast_value_type

    def source_type(self) -> int:
        """Feast's kind of this source."""
        return int(DataSourceProto.CUSTOM_SOURCE)

    def get_table_query_string(self) -> str:
        """Not available: the table is scanned through Arrow, no SQL engine knows it by a name.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            f"data source {self.name} is no SQL table",
            next_step="use the offline store DuckDBAsofOfflineStore",
        )

    def _to_proto_impl(self) -> DataSourceProto:
        options = json.dumps({"path": self.path, "version": self.version}).encode()
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=CLASS_TYPE,
            custom_options=DataSourceProto.CustomSourceOptions(configuration=options),
            field_mapping=self.field_mapping,
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    @staticmethod
    def from_proto(data_source: DataSourceProto) -> DeltaSource:
        """The source that a registry entry describes."""
        options = json.loads(data_source.custom_options.configuration)
        return DeltaSource(
            name=data_source.name,
            path=options["path"],
            version=options["version"],
            timestamp_field=data_source.timestamp_field,
            created_timestamp_column=data_source.created_timestamp_column or None,
            field_mapping=dict(data_source.field_mapping),
            description=data_source.description,
            tags=dict(data_source.tags),
            owner=data_source.owner,
        )


def require_columns(schema: pa.Schema, columns: Iterable[str], where: str) -> None:
    """Check that a table has columns.

    Raises:
        ConfigurationError: one is missing; the message names up to five of them and the table.
    """
    missing = [c for c in columns if c not in schema.names]
    if missing:
        raise ConfigurationError(
            f"{where} has no column {', '.join(missing[:5])}",
            next_step=f"use one of: {', '.join(schema.names[:50])}",
        )


def require_time(schema: pa.Schema, column: str, where: str) -> None:
    """Check that a table has a column of timestamps or dates.

    Raises:
        ConfigurationError: it is missing or of another type.
    """
    require_columns(schema, [column], where)
    kind = schema.field(column).type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise ConfigurationError(
            f"{where}: column {column} is {kind}, not a timestamp", next_step="store it as a timestamp in UTC"
        )
