"""Feast's offline store over Delta tables: point-in-time joins by DuckDB that never see the future.

For an entity row at time ``t`` the join sees only rows whose event time *and* whose ``available_at`` (the
source's ``created_timestamp_column``) are at or before ``t``. Of these it takes the one with the greatest event
time, then the greatest ``available_at``. If that row is older than the view's ttl, the features are null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, NoReturn

import pandas as pd
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from pydantic import PositiveInt, StrictStr

from airworthy.errors import ConfigurationError
from airworthy.features.delta_source import require_columns, require_time
from airworthy.features.offline_entities import entity_rows
from airworthy.features.offline_job import DuckDBRetrievalJob, duckdb_session, query, refuse_write
from airworthy.features.offline_join import as_of, side_by_side
from airworthy.features.offline_view import INSTANT, OpenTables, as_utc, literal, not_null, resolve, unique
from airworthy.lake.duck import quote

__all__ = ["DuckDBAsofOfflineStore", "DuckDBAsofOfflineStoreConfig", "DuckDBRetrievalJob", "latest_known"]


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
        tables = OpenTables()
        views = [resolve(fv, feature_refs, tables, full_feature_names) for fv in feature_views]
        entities = entity_rows(entity_df, views, tables, (registry, project), (start_date, end_date))

        def run() -> pa.Table:
            with duckdb_session(config) as session:
                rows = entities(session)
                found = [as_of(session, view, rows) for view in views]
            return side_by_side(rows, found)

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
        keep = newest_first(join_key_columns, timestamp_field, created_timestamp_column, feature_name_columns)
        columns = unique(join_key_columns, feature_name_columns, [timestamp_field, created_timestamp_column or ""])
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
        columns = unique(join_key_columns, feature_name_columns, [timestamp_field, created_timestamp_column or ""])
        return _pull(config, data_source, columns, timestamp_field, (start_date, end_date))

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> NoReturn:
        """Refused.

        Raises:
            ConfigurationError: always: only the lake's fenced commits may write a table.
        """
        refuse_write(f"feature view {feature_view.name}")

    @staticmethod
    def write_logged_features(*args: Any, **kwargs: Any) -> NoReturn:
        """Refused: see ``offline_write_batch``."""
        refuse_write("a log of served features")


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
    tables = OpenTables()
    refs = [f"{feature_view.projection.name_to_use()}:{feature.name}" for feature in feature_view.features]
    view = resolve(feature_view, refs, tables, full_feature_names=False)
    source, moment = feature_view.batch_source, as_utc(as_of)
    keys = [column for _, column in view.keys]
    columns = unique(keys, [c for _, c in view.features], [view.event_time, view.known_time or ""])
    conditions = [*view.visible(moment), *not_null(keys)]
    if since is not None:
        conditions.append(f"{view.visible_at()} > {literal(as_utc(since), INSTANT)}")
    if view.ttl:
        conditions.append(view.bound(view.event_time, ">=", moment - view.ttl))
    select = ", ".join(f"s.{quote(c)} AS {quote(source.mapped(c))}" for c in columns)
    keep = newest_first(keys, view.event_time, view.known_time, [c for _, c in view.features])
    sql = f"SELECT {select} FROM source s WHERE {' AND '.join(conditions)} {keep}"  # noqa: S608 - names are quoted
    return DuckDBRetrievalJob(lambda: query(config, view.dataset, sql), tables.versions)


def _pull(
    config: RepoConfig,
    data_source: DataSource,
    columns: Sequence[str],
    time: str,
    dates: tuple[datetime | None, datetime | None],
    keys: Sequence[str] = (),
    keep: str = "",
) -> DuckDBRetrievalJob:
    tables = OpenTables()
    dataset = tables.dataset(data_source, f"data source {data_source.name}")
    where = f"data source {data_source.name} ({data_source.path})"
    require_columns(dataset.schema, columns, where)
    require_time(dataset.schema, time, where)
    kind = dataset.schema.field(time).type
    bounds = [
        f"s.{quote(time)} {operator} {literal(as_utc(moment), kind)}"
        for operator, moment in zip((">=", "<="), dates, strict=True)
        if moment is not None
    ]
    select = ", ".join(f"s.{quote(c)}" for c in columns)
    conditions = " AND ".join(["true", *bounds, *not_null(keys)])
    sql = f"SELECT {select} FROM source s WHERE {conditions} {keep}"  # noqa: S608 - names are quoted
    return DuckDBRetrievalJob(lambda: query(config, dataset, sql), tables.versions)


def newest_first(keys: Sequence[str], event: str, known: str | None, values: Sequence[str]) -> str:
    """The clause that keeps the newest row of each key."""
    order = [f"s.{quote(c)} DESC NULLS LAST" for c in unique([event, known or ""], values)]
    partition = ", ".join(f"s.{quote(k)}" for k in keys)
    by = f"PARTITION BY {partition} " if partition else ""
    return f"QUALIFY row_number() OVER ({by}ORDER BY {', '.join(order)}) = 1"
