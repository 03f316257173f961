"""Features as they were known: the point-in-time side of the same definitions."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from feast import FeatureService

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.features.catalog import ARROW, INSTANT, REQUEST, ROW, Catalog, catalog
from airworthy.features.definitions import EVENT_TIME
from airworthy.features.delta_source import pinned_versions
from airworthy.features.feast_repo import not_applied, registered_service, store
from airworthy.lake import tables
from airworthy.lake.duck import session


def data_versions(use_case: UseCase) -> dict[str, int]:
    """Newest Delta version of each feature table: what ``historical`` reads when it is not told otherwise."""
    return {view.table: int(tables.open_table(view.table).version()) for view in catalog(use_case).views}


def historical(use_case: UseCase, entities: pa.Table, *, versions: Mapping[str, int] | None = None) -> pa.Table:
    """The model's inputs for rows of the past, as they were known at each row's prediction time.

    A value counts only if both its event time and the time that the platform learned of it are at or before the
    prediction time, and if it is not older than its view's ttl; otherwise it is null.

    Args:
        use_case: The use case.
        entities: The request's columns and the prediction's time, named as in the use case; other columns are kept.
            Timestamps have a time zone.
        versions: Delta version by table, to read the same data again; the newest by default.

    Returns:
        The same rows in the same order, with every column of ``feature_columns`` appended in order. An input column
        that has the name of a feature gives way to the feature.

    Raises:
        ConfigurationError: a column is missing or has a wrong type, or the features are not registered as defined.
    """
    compiled = catalog(use_case)
    request = request_table(use_case, compiled, entities)
    features = {**request_columns(compiled, request), **_view_features(use_case, compiled, request, versions or {})}
    kept = entities.drop_columns([name for name in compiled.columns if name in entities.schema.names])
    for name, kind in compiled.columns.items():
        kept = kept.append_column(pa.field(name, ARROW[kind]), features[name])
    return kept


def request_table(use_case: UseCase, compiled: Catalog, entities: pa.Table) -> pa.Table:
    """The relation ``request`` of these rows: every field of the request in its type, and the prediction's time.

    Raises:
        ConfigurationError: a column is missing or has a wrong type.
    """
    columns = {ROW: pa.array(range(entities.num_rows), pa.int64())}
    for name, kind in compiled.request.items():
        if name not in entities.schema.names:
            raise ConfigurationError(
                f"the entities of {use_case.name} lack the column {name}",
                next_step="give every field of prediction.request and its time",
            )
        column = entities[name]
        if kind == "timestamp" and (not pa.types.is_timestamp(column.type) or column.type.tz is None):
            raise ConfigurationError(f"column {name} is {column.type}, not a timestamp in UTC", next_step="convert it")
        try:
            columns[name] = column.cast(ARROW[kind])
        except pa.ArrowInvalid as error:
            raise ConfigurationError(f"column {name} does not fit {kind}: {error}", next_step="convert it") from error
    return pa.table(columns)


def request_columns(compiled: Catalog, request: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The features that are computed from the request itself, by the same SQL as online."""
    with session() as connection:
        connection.register(REQUEST, request)
        rows = connection.sql(f"SELECT * FROM ({compiled.request_sql}) ORDER BY {ROW}").to_arrow_table()  # noqa: S608
    return {name: rows[name].cast(ARROW[kind]) for name, kind in compiled.request_features.items()}


def _view_features(
    use_case: UseCase, compiled: Catalog, request: pa.Table, versions: Mapping[str, int]
) -> dict[str, pa.ChunkedArray]:
    import pandas as pd

    if not compiled.views:
        return {}
    keys = list(dict.fromkeys(key for view in compiled.views for key in view.keys))
    # Feast wants pandas. Int64 with nulls would turn into floats there, and large keys into other keys.
    nullable = {pa.int64(): pd.Int64Dtype()}
    frame = request.select(keys).to_pandas(types_mapper=nullable.get)
    frame[EVENT_TIME] = request[use_case.prediction.time].cast(INSTANT).to_pandas()
    with pinned_versions(versions):
        job = store(use_case).get_historical_features(
            entity_df=frame, features=_service(use_case, compiled), full_feature_names=True
        )
    rows = job.to_arrow()
    found = {}
    for view in compiled.views:
        for name, kind in view.features.items():
            full = f"{view.name}__{name}"
            if full not in rows.schema.names:
                raise not_applied(use_case, f"feature {name}")
            found[name] = rows[full].cast(ARROW[kind])
    return found


def _service(use_case: UseCase, compiled: Catalog) -> FeatureService:
    """The registered feature service, if it is what the definitions say: a training set must not join by old ones."""
    service = registered_service(use_case)
    if service.tags.get("digest") != compiled.digest:
        store(use_case).refresh_registry()  # another process may have registered it a moment ago
        service = registered_service(use_case)
    if service.tags.get("digest") != compiled.digest:
        raise not_applied(use_case, f"feature service {service.name}")
    return service
