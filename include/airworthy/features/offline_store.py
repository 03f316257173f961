"""Feast's offline store over Delta tables: point-in-time joins by DuckDB that never see the future.

For an entity row at time ``t`` the join sees only rows whose event time *and* whose ``available_at`` (the
source's ``created_timestamp_column``) are at or before ``t``. Of these it takes the one with the greatest event
time, then the greatest ``available_at``. If that row is older than the view's ttl, the features are null.

An ASOF join knows one inequality, not two, so the two times become one first. A row becomes visible at
``visible_at = greatest(event time, available_at)``. Of each key's rows, in the order of ``visible_at``, only
those are kept that beat all before them (a late row about the past never replaces a newer one). After that the
newest visible row *is* the best visible row, and the join on ``visible_at`` is exact.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from feast.utils import _parse_feature_ref
from pydantic import PositiveInt, StrictStr

from airworthy.errors import ConfigurationError
from airworthy.features.delta_source import DeltaSource, require_columns, require_time

EVENT_TIMESTAMP = "event_timestamp"
INSTANT = pa.timestamp("us", "UTC")


class DuckDBAsofOfflineStoreConfig(FeastConfigBaseModel):
    """The ``offline_store`` section of the Feast configuration.

    Attributes:
        type: Import path of the store.
        threads: Threads of one query; None for as many as there are cores.
        memory_limit: Memory of one query, such as ``"4GB"``, above which it spills to disk; None for DuckDB's
            own rule.
    """

    type: Literal["airworthy.features.offline_store.DuckDBAsofOfflineStore"] = (
        "airworthy.features.offline_store.DuckDBAsofOfflineStore"
    )
    threads: PositiveInt | None = None
    memory_limit: StrictStr | None = None


class DuckDBRetrievalJob(RetrievalJob):
    """A retrieval that runs when its result is asked for, on the data versions of the moment it was created.

    Attributes:
        data_versions: Delta version by the name of each data source that is read: the pedigree of the result.
            Give it to ``delta_source.pinned_versions`` to read the same data again.
    """

    def __init__(
        self,
        run: Callable[[], pa.Table],
        data_versions: dict[str, int],
        metadata: RetrievalMetadata | None = None,
        full_feature_names: bool = False,
    ) -> None:
        self._run = run
        self.data_versions = data_versions
        self._metadata = metadata
        self._full_feature_names = full_feature_names

    @property
    def full_feature_names(self) -> bool:
        """Whether features are named ``<view>__<feature>``."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Always empty: this store refuses on-demand feature views."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """The features and join keys asked for; None for a plain read of one table."""
        return self._metadata

    def persist(self, storage: Any, allow_overwrite: bool = False, timeout: int | None = None) -> NoReturn:
        """Refused: see ``offline_write_batch``."""
        _refuse_write("a saved dataset")

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._run()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._run().to_pandas()


class DuckDBAsofOfflineStore(OfflineStore):
    """Reads features from Delta tables. It writes nothing: tables are written by the lake only."""

    # It is always on; the flag may be passed all the same.
    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        filter_by_created_timestamp: bool = True,
    ) -> DuckDBRetrievalJob:
        """Features as they were known at the time of each entity row.

        Args:
            config: Feast's configuration.
            feature_views: The views, all over a ``DeltaSource``.
            feature_refs: Features as ``view:feature``.
            entity_df: Rows with the join keys and a time: the column ``event_timestamp``, or the only timestamp
                there is. Times without a zone are UTC; they count to the microsecond. Or SQL for DuckDB that
                gives such rows; it may name Delta data sources of the registry as tables. Or None: then a row
                for each moment between the two dates at which a row of some view became known; all views must
                have the same join keys.
            registry: Feast's registry.
            project: Feast's project.
            full_feature_names: Name features ``<view>__<feature>``.
            start_date: First moment (included) without an entity_df.
            end_date: Last moment (included) without an entity_df.
            filter_by_created_timestamp: Without effect: ``available_at`` always bounds the join.

        Returns:
            A job whose table is the entity rows, all and in their order, and then the features, view by view. A
            row with a null key, a null time or nothing known has null features.

        Raises:
            ConfigurationError: a view, a column, a type or an option cannot be used, or two columns would get
                the same name.
        """
        if OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry):
            raise ConfigurationError(
                f"on-demand feature views are not supported offline: {', '.join(feature_refs[:5])}",
                next_step="compute request features with the use case's own expression",
            )
        tables = _Tables()
        views = [_view(fv, feature_refs, tables, full_feature_names) for fv in feature_views]
        entities = _entities(entity_df, views, tables, (registry, project), (start_date, end_date))

        def run() -> pa.Table:
            with _session(config) as session:
                rows = entities(session)
                found = [_as_of(session, view, rows) for view in views]
            return _side_by_side(rows, found)

        keys = sorted({name for view in views for name, _ in view.keys})
        return DuckDBRetrievalJob(run, tables.versions, RetrievalMetadata(feature_refs, keys), full_feature_names)

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> DuckDBRetrievalJob:
        """For each key its newest row by event time, then by created time, with start <= event time <= end.

        This is Feast's contract for ``materialize``; ``available_at`` does not bound it (see ``latest_known``).
        Rows with a null key are left out. Arguments are as in Feast; columns are named as in the table.
        """
        keep = _newest_first(join_key_columns, timestamp_field, created_timestamp_column, feature_name_columns)
        columns = _unique(join_key_columns, feature_name_columns, [timestamp_field, created_timestamp_column or ""])
        return _pull(config, data_source, columns, timestamp_field, (start_date, end_date), join_key_columns, keep)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> DuckDBRetrievalJob:
        """All rows with start <= event time <= end; a bound may be None. Arguments are as in Feast."""
        columns = _unique(join_key_columns, feature_name_columns, [timestamp_field, created_timestamp_column or ""])
        return _pull(config, data_source, columns, timestamp_field, (start_date, end_date))

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> NoReturn:
        """Refused.

        Raises:
            ConfigurationError: always: only the lake's fenced commits may write a table.
        """
        _refuse_write(f"feature view {feature_view.name}")

    @staticmethod
    def write_logged_features(*args: Any, **kwargs: Any) -> NoReturn:
        """Refused: see ``offline_write_batch``."""
        _refuse_write("a log of served features")


def latest_known(
    config: RepoConfig, feature_view: FeatureView, as_of: datetime, since: datetime | None = None
) -> DuckDBRetrievalJob:
    """What the online store should hold at a moment: each key's row as a point-in-time join finds it then.

    Args:
        config: Feast's configuration.
        feature_view: A view from the registry, over a ``DeltaSource``.
        as_of: The moment (no zone: UTC). Rows whose event time or ``available_at`` is later are not seen; keys
            whose row is older than the view's ttl are left out.
        since: Look only at rows that became visible after this moment: the watermark of the last publication.
            A late row about the past is then given even where a newer one was published before; the guarded
            online store refuses it.

    Returns:
        A job with one row per key, columns named as ``FeatureStore.write_to_online_store`` wants them: join
        keys, features, event time and created time.

    Raises:
        ConfigurationError: as ``DuckDBAsofOfflineStore.get_historical_features``.
    """
    tables = _Tables()
    refs = [f"{feature_view.projection.name_to_use()}:{feature.name}" for feature in feature_view.features]
    view = _view(feature_view, refs, tables, full_feature_names=False)
    source, moment = view.source, _utc(as_of)
    keys = [column for _, column in view.keys]
    columns = _unique(keys, [c for _, c in view.features], [view.event_time, view.known_time or ""])
    conditions = [*view.visible(moment), *_not_null(keys)]
    if since is not None:
        conditions.append(f"{view.visible_at()} > {_literal(_utc(since), INSTANT)}")
    if view.ttl:
        conditions.append(view.bound(view.event_time, ">=", moment - view.ttl))
    select = ", ".join(f"s.{_quote(c)} AS {_quote(source.mapped(c))}" for c in columns)
    keep = _newest_first(keys, view.event_time, view.known_time, [c for _, c in view.features])
    sql = f"SELECT {select} FROM source s WHERE {' AND '.join(conditions)} {keep}"  # noqa: S608 - names are quoted
    return DuckDBRetrievalJob(lambda: _query(config, view.dataset, sql), tables.versions)


class _Tables:
    """Opens each data source once, so that one job reads one version of it, and remembers which."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self._datasets: dict[str, ds.Dataset] = {}

    def dataset(self, source: DataSource, asked_by: str) -> ds.Dataset:
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
class _View:
    """What is asked of one feature view; keys and features are pairs (name in the result, column of the table)."""

    label: str
    source: DeltaSource
    dataset: ds.Dataset
    keys: tuple[tuple[str, str], ...]
    features: tuple[tuple[str, str], ...]
    event_time: str
    known_time: str | None
    ttl: timedelta | None

    def bound(self, column: str, operator: str, moment: datetime) -> str:
        # The literal has the column's own type: only then does the scan skip files and row groups.
        return f"s.{_quote(column)} {operator} {_literal(moment, self.dataset.schema.field(column).type)}"

    def visible(self, moment: datetime) -> list[str]:
        """Conditions of the rows that can be seen at a moment; a null time fails them."""
        return [self.bound(column, "<=", moment) for column in filter(None, (self.event_time, self.known_time))]

    def event_ts(self) -> str:
        return f"CAST(s.{_quote(self.event_time)} AS TIMESTAMPTZ)"

    def known_ts(self) -> str:
        return f"CAST(s.{_quote(self.known_time or self.event_time)} AS TIMESTAMPTZ)"

    def visible_at(self) -> str:
        return f"greatest({self.event_ts()}, {self.known_ts()})"


def _view(fv: FeatureView, refs: Sequence[str], tables: _Tables, full_feature_names: bool) -> _View:
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
    view = _View(
        label=label,
        source=source,
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


# --- entity rows


@dataclass(frozen=True)
class _Rows:
    """Entity rows: the table as it was given, and each row's time in UTC."""

    table: pa.Table
    times: pa.ChunkedArray


def _entities(
    entity_df: pd.DataFrame | str | None,
    views: Sequence[_View],
    tables: _Tables,
    where: tuple[BaseRegistry, str],
    dates: tuple[datetime | None, datetime | None],
) -> Callable[[duckdb.DuckDBPyConnection], _Rows]:
    """How to get the entity rows in a session. Data versions are chosen here, before it runs."""
    if isinstance(entity_df, pd.DataFrame):
        rows = _rows(pa.Table.from_pandas(entity_df, preserve_index=False))
        return lambda session: rows
    if isinstance(entity_df, str):
        return _from_sql(entity_df, tables, where)
    if entity_df is not None:
        raise ConfigurationError(
            f"entity_df is a {type(entity_df).__name__}",
            next_step="give a pandas DataFrame, SQL for DuckDB, or None",
        )
    return _from_range(views, dates)


def _rows(table: pa.Table) -> _Rows:
    times = [f.name for f in table.schema if pa.types.is_timestamp(f.type)]
    if EVENT_TIMESTAMP in table.schema.names:
        times = [EVENT_TIMESTAMP]
    if len(times) != 1:
        raise ConfigurationError(
            f"entity rows have {len(times)} timestamp columns ({', '.join(times[:5])})",
            next_step=f"name the time of prediction {EVENT_TIMESTAMP}",
        )
    return _Rows(table, _to_utc(table[times[0]], times[0]))


def _to_utc(times: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    if pa.types.is_string(times.type) or pa.types.is_large_string(times.type):
        try:
            times = pa.chunked_array(
                [pa.Array.from_pandas(pd.to_datetime(times.to_pandas(), utc=True, format="ISO8601"))]
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"entity column {name} is no time: {error}", next_step="give timestamps"
            ) from error
    if pa.types.is_date(times.type) or pa.types.is_null(times.type):
        times = times.cast(pa.timestamp("us"))
    if not pa.types.is_timestamp(times.type):
        raise ConfigurationError(f"entity column {name} is {times.type}, no time", next_step="give timestamps")
    if times.type.unit == "ns":
        times = pc.floor_temporal(times, unit="microsecond")  # downwards, so that no moment sees what comes after it
    aware = times if times.type.tz else pc.assume_timezone(times, "UTC")
    return aware.cast(INSTANT)


def _from_sql(
    sql: str, tables: _Tables, where: tuple[BaseRegistry, str]
) -> Callable[[duckdb.DuckDBPyConnection], _Rows]:
    registry, project = where
    with duckdb.connect(":memory:") as parser, _sql_errors():
        named = parser.get_table_names(sql)
    sources = [s for s in registry.list_data_sources(project) if s.name in named] if named else []
    datasets = {s.name: tables.dataset(s, "entity SQL") for s in sources}

    def run(session: duckdb.DuckDBPyConnection) -> _Rows:
        for name, dataset in datasets.items():
            session.register(name, dataset)
        with _sql_errors():
            table = session.sql(sql).to_arrow_table()
        return _rows(table)

    return run


@contextmanager
def _sql_errors() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, AttributeError) as error:  # the latter for a statement that gives no rows
        raise ConfigurationError(
            f"the entity SQL cannot be run: {error}", next_step="give one SELECT for DuckDB"
        ) from error


def _from_range(
    views: Sequence[_View], dates: tuple[datetime | None, datetime | None]
) -> Callable[[duckdb.DuckDBPyConnection], _Rows]:
    start, end = dates
    if start is None or end is None:
        raise ConfigurationError(
            "without entity rows a retrieval needs start_date and end_date", next_step="give both, in UTC"
        )
    if len({frozenset(name for name, _ in view.keys) for view in views}) != 1:
        raise ConfigurationError(
            "without entity rows all views must have the same join keys",
            next_step="ask for one view at a time",
        )
    low, high = _utc(start), _utc(end)

    def run(session: duckdb.DuckDBPyConnection) -> _Rows:
        parts = []
        for i, view in enumerate(views):
            session.register(f"range{i}", view.dataset)
            keys = sorted(view.keys)
            select = "".join(f"s.{_quote(c)} AS {_quote(name)}, " for name, c in keys)
            conditions = [*view.visible(high), *_not_null(c for _, c in keys)]
            conditions.append(f"{view.visible_at()} >= {_literal(low, INSTANT)}")
            parts.append(
                f"SELECT {select}{view.visible_at()} AS {EVENT_TIMESTAMP} "  # noqa: S608 - names are quoted
                f"FROM range{i} s WHERE {' AND '.join(conditions)}"
            )
        return _rows(session.sql(f"{' UNION '.join(parts)} ORDER BY ALL").to_arrow_table())

    return run


def _key(rows: pa.Table, name: str, field: pa.Field) -> pa.ChunkedArray:
    """A join key of the entity rows in the type of the table's column: exactly, or not at all."""
    column = rows[name]
    if _family(column.type) not in (_family(field.type), "null"):
        raise ConfigurationError(
            f"join key {name} is {column.type} in the entity rows and {field.type} in the table",
            next_step="convert the entity rows",
        )
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        raise ConfigurationError(
            f"join key {name} has values that the table's type {field.type} cannot hold: {error}",
            next_step="convert the entity rows",
        ) from error


def _family(kind: pa.DataType) -> str:
    """Types between which a key keeps its meaning; "7" and 7 are not the same key."""
    if pa.types.is_dictionary(kind):
        return _family(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    return "time" if pa.types.is_timestamp(kind) else str(kind)


# --- the join


def _as_of(session: duckdb.DuckDBPyConnection, view: _View, rows: _Rows) -> pa.Table:
    """The features of one view for each entity row, in the order of the rows."""
    require_columns(rows.table.schema, [name for name, _ in view.keys], f"entity rows for view {view.label}")
    schema = view.dataset.schema
    keys = {f"k{i}": _key(rows.table, name, schema.field(c)) for i, (name, c) in enumerate(view.keys)}
    session.register("entity", pa.table({"i": pa.array(np.arange(rows.table.num_rows)), "t": rows.times, **keys}))
    session.register("source", view.dataset)
    found = session.sql(_as_of_sql(view, _span(rows.times))).to_arrow_table()
    if found.num_rows != rows.table.num_rows:
        raise RuntimeError(f"view {view.label}: {found.num_rows} rows found for {rows.table.num_rows} entity rows")
    types = [schema.field(column).type for _, column in view.features]
    arrays = [found[f"f{i}"].cast(kind) for i, kind in enumerate(types)]
    return pa.table(arrays, names=[name for name, _ in view.features])


def _as_of_sql(view: _View, span: tuple[datetime, datetime] | None) -> str:
    n = range(len(view.keys))
    features = [f"f{i}" for i in range(len(view.features))]
    columns = [f"s.{_quote(c)} AS k{i}" for i, (_, c) in enumerate(view.keys)]
    columns += [f"s.{_quote(c)} AS f{i}" for i, (_, c) in enumerate(view.features)]
    partition = "".join(f"k{i}, " for i in n)
    # Rows with the same key and the same two times may say different things. Which is taken must not depend on the
    # order of files, or a training set could not be made again: the values decide.
    order = ", ".join(["event_ts DESC", "known_ts DESC", *(f"{f} DESC NULLS LAST" for f in features)])
    alive = f"epoch_us(e.t) - epoch_us(b.event_ts) <= {view.ttl // timedelta(microseconds=1)}" if view.ttl else "true"
    picked = "".join(f", CASE WHEN {alive} THEN b.{f} END AS {f}" for f in features)
    on = " AND ".join([*(f"e.k{i} = b.k{i}" for i in n), "e.t >= b.visible_at"])
    return f"""
        WITH known AS (
            SELECT {", ".join(["", *columns])[2:]}{", " if columns else ""}{view.event_ts()} AS event_ts,
                {view.known_ts()} AS known_ts, {view.visible_at()} AS visible_at
            FROM source s WHERE {" AND ".join([*_in_span(view, span), *_not_null(c for _, c in view.keys)])}
        ), one_per_moment AS (
            SELECT * FROM known
            QUALIFY row_number() OVER (PARTITION BY {partition}visible_at ORDER BY {order}) = 1
        ), best AS (
            SELECT * FROM one_per_moment
            QUALIFY (row(event_ts, known_ts) > max(row(event_ts, known_ts)) OVER (
                {f"PARTITION BY {partition[:-2]}" if partition else ""} ORDER BY visible_at
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) IS NOT FALSE
        )
        SELECT e.i{picked} FROM entity e ASOF LEFT JOIN best b ON {on} ORDER BY e.i
    """  # noqa: S608 - names are quoted


def _span(times: pa.ChunkedArray) -> tuple[datetime, datetime] | None:
    """First and last time of the entity rows; None if there is none."""
    span = pc.min_max(times).as_py()
    return None if span["min"] is None else (span["min"], span["max"])


def _in_span(view: _View, span: tuple[datetime, datetime] | None) -> list[str]:
    """Conditions of the rows that some entity row may see."""
    if span is None:
        return ["false"]
    first, last = span
    conditions = view.visible(last)
    if view.ttl and first - datetime.min.replace(tzinfo=UTC) > view.ttl:
        conditions.append(view.bound(view.event_time, ">=", first - view.ttl))
    return conditions


def _side_by_side(rows: _Rows, found: Iterable[pa.Table]) -> pa.Table:
    result = rows.table
    for table in found:
        for name in table.schema.names:
            if name in result.schema.names:
                raise ConfigurationError(
                    f"column {name} would come twice",
                    next_step="ask for full feature names, or rename the entity column",
                )
            result = result.append_column(name, table[name])
    return result


# --- one table


def _pull(
    config: RepoConfig,
    data_source: DataSource,
    columns: Sequence[str],
    time: str,
    dates: tuple[datetime | None, datetime | None],
    keys: Sequence[str] = (),
    keep: str = "",
) -> DuckDBRetrievalJob:
    tables = _Tables()
    dataset = tables.dataset(data_source, f"data source {data_source.name}")
    where = f"data source {data_source.name} ({data_source.path})"
    require_columns(dataset.schema, columns, where)
    require_time(dataset.schema, time, where)
    kind = dataset.schema.field(time).type
    bounds = [
        f"s.{_quote(time)} {operator} {_literal(_utc(moment), kind)}"
        for operator, moment in zip((">=", "<="), dates, strict=True)
        if moment is not None
    ]
    select = ", ".join(f"s.{_quote(c)}" for c in columns)
    conditions = " AND ".join(["true", *bounds, *_not_null(keys)])
    sql = f"SELECT {select} FROM source s WHERE {conditions} {keep}"  # noqa: S608 - names are quoted
    return DuckDBRetrievalJob(lambda: _query(config, dataset, sql), tables.versions)


def _newest_first(keys: Sequence[str], event: str, known: str | None, values: Sequence[str]) -> str:
    """The clause that keeps the newest row of each key."""
    order = [f"s.{_quote(c)} DESC NULLS LAST" for c in _unique([event, known or ""], values)]
    partition = ", ".join(f"s.{_quote(k)}" for k in keys)
    by = f"PARTITION BY {partition} " if partition else ""
    return f"QUALIFY row_number() OVER ({by}ORDER BY {', '.join(order)}) = 1"


def _query(config: RepoConfig, dataset: ds.Dataset, sql: str) -> pa.Table:
    with _session(config) as session:
        session.register("source", dataset)
        # Feast's conversion to protobuf looks at the first chunk only.
        return session.sql(sql).to_arrow_table().combine_chunks()


@contextmanager
def _session(config: RepoConfig) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own: UTC whatever the process thinks, and nothing downloaded."""
    options = config.offline_store
    # Two queries must not share a folder for what does not fit in memory.
    with tempfile.TemporaryDirectory(prefix="airworthy-duckdb-", ignore_cleanup_errors=True) as spill:
        settings: dict[str, str | bool | int] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": str(Path(spill)),
        }
        if options.threads:
            settings["threads"] = options.threads
        if options.memory_limit:
            settings["memory_limit"] = options.memory_limit
        with duckdb.connect(":memory:", config=settings) as session:
            session.execute("SET TimeZone = 'UTC'")
            yield session


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _not_null(columns: Iterable[str]) -> list[str]:
    return [f"s.{_quote(c)} IS NOT NULL" for c in columns]


def _unique(*names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for group in names for name in group if name))


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _literal(moment: datetime, kind: pa.DataType) -> str:
    zoned = not pa.types.is_timestamp(kind) or kind.tz
    return f"TIMESTAMPTZ '{moment.isoformat()}'" if zoned else f"TIMESTAMP '{moment.replace(tzinfo=None).isoformat()}'"


def _refuse_write(what: str) -> NoReturn:
    raise ConfigurationError(
        f"the offline store does not write ({what})",
        next_step="publish an interval of the table through airworthy.lake",
    )
