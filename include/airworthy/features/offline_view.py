"""What is asked of one feature view offline: its table, its columns under all their names, and its times in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.dataset as ds
from feast import FeatureView
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.utils import _parse_feature_ref

from airworthy.errors import ConfigurationError
from airworthy.features.delta_source import DeltaSource, require_columns, require_time
from airworthy.lake.duck import quote

INSTANT = pa.timestamp("us", "UTC")


class OpenTables:
    """Opens each data source once, so that one job reads one version of it, and remembers which."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self._datasets: dict[str, ds.Dataset] = {}

    def dataset(self, source: DataSource, asked_by: str) -> ds.Dataset:
        """The source's rows, at the version that this job reads."""
        if not isinstance(source, DeltaSource):
            raise ConfigurationError(
                f"{asked_by}: its source is a {type(source).__name__}",
                next_step="use a DeltaSource with this offline store",
            )
        if source.name not in self._datasets:
            table = source.open_table()
            self._datasets[source.name] = table.to_pyarrow_dataset()
            self.versions[source.name] = int(table.version())
        return self._datasets[source.name]


@dataclass(frozen=True)
class View:
    """What is asked of one feature view; keys and features are pairs (name in the result, column of the table)."""

    label: str
    dataset: ds.Dataset
    keys: tuple[tuple[str, str], ...]
    features: tuple[tuple[str, str], ...]
    event_time: str
    known_time: str | None
    ttl: timedelta | None

    def bound(self, column: str, operator: str, moment: datetime) -> str:
        """A condition that compares a time column of the table with a moment."""
        # The literal has the column's own type: only then does the scan skip files and row groups.
        return f"s.{quote(column)} {operator} {literal(moment, self.dataset.schema.field(column).type)}"

    def visible(self, moment: datetime) -> list[str]:
        """Conditions of the rows that can be seen at a moment; a null time fails them."""
        return [self.bound(column, "<=", moment) for column in filter(None, (self.event_time, self.known_time))]

    def event_ts(self) -> str:
        """SQL: when the values hold from."""
        return f"CAST(s.{quote(self.event_time)} AS TIMESTAMPTZ)"

    def known_ts(self) -> str:
        """SQL: when the platform learned of the row."""
        return f"CAST(s.{quote(self.known_time or self.event_time)} AS TIMESTAMPTZ)"

    def visible_at(self) -> str:
        """SQL: from when on a join may see the row."""
        return f"greatest({self.event_ts()}, {self.known_ts()})"


def resolve(fv: FeatureView, refs: Sequence[str], tables: OpenTables, full_feature_names: bool) -> View:
    """Resolve a feature view: its table, and the columns that aliases and ``field_mapping`` stand for."""
    label = fv.projection.name_to_use()
    if getattr(fv, "aggregations", None) or getattr(fv, "feature_transformation", None):
        raise ConfigurationError(
            f"feature view {label} has a transformation",
            next_step="compute it in the feature table, as every feature",
        )
    dataset, source = tables.dataset(fv.batch_source, f"feature view {label}"), fv.batch_source
    prefix = f"{fv.projection.name_alias or fv.name}__" if full_feature_names else ""
    names = dict.fromkeys(feature for view, feature in map(_split, refs) if view == label)
    aliases = fv.projection.join_key_map or {}
    columns = [column.name for column in fv.entity_columns if column.name != DUMMY_ENTITY_ID]
    known = source.created_timestamp_column
    view = View(
        label=label,
        dataset=dataset,
        keys=tuple((aliases.get(c, c), source.column(c)) for c in columns),
        features=tuple((prefix + name, source.column(name)) for name in names),
        event_time=source.column(source.timestamp_field),
        known_time=source.column(known) if known else None,
        ttl=fv.ttl,
    )
    where = f"feature view {label} ({source.path})"
    require_columns(dataset.schema, [column for _, column in (*view.keys, *view.features)], where)
    for time in filter(None, (view.event_time, view.known_time)):
        require_time(dataset.schema, time, where)
    return view


def _split(ref: str) -> tuple[str, str]:
    """``view:feature`` in two; a pinned version of the view belongs to its name."""
    view, version, feature = _parse_feature_ref(ref)
    return (view if version is None else f"{view}@v{version}"), feature


def not_null(columns: Iterable[str]) -> list[str]:
    """Conditions that columns have a value."""
    return [f"s.{quote(c)} IS NOT NULL" for c in columns]


def unique(*names: Iterable[str]) -> list[str]:
    """Names in order, each once, without empty ones."""
    return list(dict.fromkeys(name for group in names for name in group if name))


def as_utc(moment: datetime) -> datetime:
    """The moment in UTC; without a zone it is UTC, as Feast has it."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def literal(moment: datetime, kind: pa.DataType) -> str:
    """A moment as SQL, with a zone exactly if a column of this type has one."""
    zoned = not pa.types.is_timestamp(kind) or kind.tz
    return f"TIMESTAMPTZ '{moment.isoformat()}'" if zoned else f"TIMESTAMP '{moment.replace(tzinfo=None).isoformat()}'"
