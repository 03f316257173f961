"""Features: one definition each, for the tables, the point-in-time join, the pushes and the online lookup.

The names are resolved when they are used: a use case's ``features.py`` imports ``airworthy.features.definitions``, and
must not pay for Feast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airworthy.features.catalog import (
        duplicates,
        feature_columns,
        feature_digest,
        masks,
        table_schemas,
        view_digests,
        views,
    )
    from airworthy.features.catchup import catch_up
    from airworthy.features.definitions_match import published_definitions, unlike
    from airworthy.features.feast_repo import apply, close, repo_config, store
    from airworthy.features.history import data_versions, historical
    from airworthy.features.online import FeatureVector, OnlineFeatures
    from airworthy.features.publish import publish_online
    from airworthy.features.pushing import PushOutcome, push
    from airworthy.features.recomputing import recompute

__all__ = [
    "FeatureVector",
    "OnlineFeatures",
    "PushOutcome",
    "apply",
    "catch_up",
    "close",
    "data_versions",
    "duplicates",
    "feature_columns",
    "feature_digest",
    "historical",
    "masks",
    "publish_online",
    "published_definitions",
    "push",
    "recompute",
    "repo_config",
    "store",
    "table_schemas",
    "unlike",
    "view_digests",
    "views",
]

_HOME = {
    "FeatureVector": "online",
    "OnlineFeatures": "online",
    "PushOutcome": "pushing",
    "apply": "feast_repo",
    "catch_up": "catchup",
    "close": "feast_repo",
    "data_versions": "history",
    "duplicates": "catalog",
    "feature_columns": "catalog",
    "feature_digest": "catalog",
    "historical": "history",
    "masks": "catalog",
    "publish_online": "publish",
    "published_definitions": "definitions_match",
    "push": "pushing",
    "recompute": "recomputing",
    "repo_config": "feast_repo",
    "store": "feast_repo",
    "table_schemas": "catalog",
    "unlike": "definitions_match",
    "view_digests": "catalog",
    "views": "catalog",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
