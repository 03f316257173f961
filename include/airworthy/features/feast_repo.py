"""The same definitions as Feast objects: registered once at deploy time, read by training and serving."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.errors import FeastObjectNotFoundException
from feast.types import Bool, Float64, Int64, String

from airworthy.config import Settings, UseCase, get_settings
from airworthy.errors import ConfigurationError
from airworthy.features.catalog import CompiledView, catalog, duplicates
from airworthy.features.definitions import AVAILABLE_AT, EVENT_TIME
from airworthy.features.delta_source import DeltaSource
from airworthy.features.service_name import check_service_name
from airworthy.lake import tables
from airworthy.ledger.database import exclusive

log = logging.getLogger(__name__)

PROJECT = "airworthy"
FEAST_TYPES = {"string": String, "int64": Int64, "float64": Float64, "boolean": Bool}
KEY_TYPES = {"string": ValueType.STRING, "int64": ValueType.INT64}
REGISTRY_TTL_S = 60


def repo_config(settings: Settings) -> RepoConfig:
    """Feast's configuration: registry and online values in PostgreSQL, history in our Delta tables."""
    return RepoConfig(
        project=PROJECT,
        provider="local",
        registry={
            "registry_type": "sql",
            "path": settings.feast_registry_dsn,
            "sqlalchemy_config_kwargs": {"pool_pre_ping": True},  # or the first read after a database restart fails
            "cache_ttl_seconds": REGISTRY_TTL_S,
            "serve_features_while_materializing": True,
        },
        offline_store={"type": "airworthy.features.offline_store.DuckDBAsofOfflineStore"},
        online_store={
            "type": "airworthy.features.online_store.GuardedPostgresOnlineStore",
            "host": settings.online_host,
            "port": settings.online_port,
            "database": settings.online_database,
            "user": settings.online_user,
            "password": settings.online_password.get_secret_value(),
            "sslmode": "prefer",
        },
        entity_key_serialization_version=3,
    )


def feast_objects(use_case: UseCase) -> list[Any]:
    """Entities, feature views and the feature service of a use case. An entity and a view may have the same name."""
    compiled = catalog(use_case)
    keys = {key: kind for view in compiled.views for key, kind in view.keys.items()}
    entities = {k: Entity(name=f"{use_case.name}_{k}", join_keys=[k], value_type=KEY_TYPES[t]) for k, t in keys.items()}
    views = [_feast_view(view, [entities[key] for key in view.keys], use_case) for view in compiled.views]
    service = FeatureService(
        name=use_case.training.feature_service, features=views, description=use_case.title, owner=use_case.owner,
        tags={"use_case": use_case.name, "digest": compiled.digest},
    )  # fmt: skip
    return [*entities.values(), *views, service]


def _feast_view(compiled: CompiledView, entities: list[Entity], use_case: UseCase) -> FeatureView:
    view = compiled.view
    return FeatureView(
        name=view.name,
        entities=entities,
        ttl=view.ttl or timedelta(0),
        schema=[
            *(Field(name=key, dtype=FEAST_TYPES[kind]) for key, kind in compiled.keys.items()),
            *(Field(name=name, dtype=FEAST_TYPES[kind]) for name, kind in compiled.features.items()),
        ],
        # The source bears the table's name, so that data versions by table pin it.
        source=DeltaSource(
            name=compiled.table, path=tables.url(compiled.table), timestamp_field=EVENT_TIME,
            created_timestamp_column=AVAILABLE_AT,
        ),
        online=True,
        description=view.description,
        owner=view.owner or use_case.owner,
        tags={"use_case": use_case.name, "digest": compiled.digest, "definition": compiled.definition},
    )  # fmt: skip


def apply(use_case: UseCase) -> None:
    """Register the use case's entities, views and feature service, and make the online tables: a deploy step.

    A definition that two views have under two names is pointed out in the log.

    Raises:
        ConfigurationError: a definition cannot be used, or differs from what a training set used under this name.
    """
    check_service_name(use_case)
    with exclusive("features", use_case.name):
        feast_store = store(use_case)
        feast_store.apply(feast_objects(use_case))
        feast_store.refresh_registry()
    for names in duplicates([catalog(use_case)]):
        log.warning("the same definition under %d names, one is enough: %s", len(names), ", ".join(names))


_stores: dict[tuple[object, ...], FeatureStore] = {}
_lock = threading.Lock()


def store(use_case: UseCase) -> FeatureStore:
    """The feature store of this process, for all its threads. A fork makes its own: connections do not survive one."""
    settings = get_settings()
    key = (
        os.getpid(),
        settings.feast_registry_dsn,
        settings.online_host,
        settings.online_port,
        settings.online_database,
    )
    with _lock:
        if key not in _stores:
            _stores[key] = _number_registry_states(FeatureStore(config=repo_config(settings)))
        return _stores[key]


def _number_registry_states(feast_store: FeatureStore) -> FeatureStore:
    """Give each state of the registry that is read a version of its own.

    Feast remembers entities, views and services by the memory address of the state that they are from, and by a version
    that the SQL registry never sets. A new state may get the address of an old one that is gone; it would then be
    answered from the old one: entities "do not exist" after they were registered, changed views stay as they were.
    """
    registry: Any = feast_store.registry
    read = registry.proto

    def numbered() -> Any:
        state = read()
        state.version_id = uuid.uuid4().hex
        return state

    registry.proto = numbered
    registry.refresh()
    return feast_store


def close() -> None:
    """Close this process's connections to the registry and the online store; the next use opens new ones."""
    with _lock:
        for key in [k for k in _stores if k[0] == os.getpid()]:
            feast_store: Any = _stores.pop(key)
            feast_store.provider.online_store.close_pool()
            feast_store.registry.write_engine.dispose()


def renew_lock() -> None:
    """After a fork: a thread that held the lock does not exist in the child and would never let go of it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=renew_lock)


def registered_view(use_case: UseCase, name: str) -> FeatureView:
    """A feature view as it is registered. Raises ConfigurationError when ``apply`` was not run."""
    try:
        return store(use_case).get_feature_view(name, allow_registry_cache=True)
    except FeastObjectNotFoundException as error:
        raise not_applied(use_case, f"feature view {name}") from error


def registered_service(use_case: UseCase) -> FeatureService:
    """The use case's feature service as it is registered. Raises ConfigurationError when ``apply`` was not run."""
    name = use_case.training.feature_service
    try:
        return store(use_case).get_feature_service(name, allow_cache=True)
    except FeastObjectNotFoundException as error:
        raise not_applied(use_case, f"feature service {name}") from error


def not_applied(use_case: UseCase, what: str) -> ConfigurationError:
    """The error that says that a deploy step is missing."""
    return ConfigurationError(
        f"{what} of {use_case.name} is not registered with Feast as it is defined",
        next_step="run `airworthy migrate`, which registers the features too",
    )
