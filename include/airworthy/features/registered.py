"""Views that are registered but may be gone from ``features.py``: what an older model was trained on."""

from __future__ import annotations

import pyarrow as pa

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.features.catalog import INSTANT
from airworthy.features.definitions import EVENT_TIME
from airworthy.features.feast_repo import registered_view, store


def registered_digest(use_case: UseCase, view: str) -> str | None:
    """Digest of a view's definition as it is registered; None when it is not (any more)."""
    try:
        found = registered_view(use_case, view)
    except ConfigurationError:
        return None
    return str(found.tags.get("definition") or "") or None


def registered_features(use_case: UseCase, view: str, requests: pa.Table) -> pa.Table:
    """The features of one registered view as they were known, by the same offline path as a training set.

    Args:
        use_case: The use case.
        view: Its name; ``features.py`` need not have it any more.
        requests: The fields that it is looked up by, and the prediction's time, named as in the use case.

    Returns:
        Its features by name, in the order of the requests; null where nothing was known.

    Raises:
        ConfigurationError: it is not registered, or the requests lack a field.
    """
    import pandas as pd

    found = registered_view(use_case, view)
    keys = [column.name for column in found.entity_columns]
    absent = sorted(set(keys) - set(requests.schema.names))
    if absent:
        raise ConfigurationError(
            f"view {view} is looked up by {', '.join(absent)}, which is no field of the request any more",
            next_step="a model that needs it cannot be scored by these requests",
        )
    nullable = {pa.int64(): pd.Int64Dtype()}
    frame = requests.select(keys).to_pandas(types_mapper=nullable.get)
    frame[EVENT_TIME] = requests[use_case.prediction.time].cast(INSTANT).to_pandas()
    names = [feature.name for feature in found.features]
    job = store(use_case).get_historical_features(
        entity_df=frame, features=[f"{view}:{name}" for name in names], full_feature_names=True
    )
    rows = job.to_arrow()
    return pa.table({name: rows[f"{view}__{name}"] for name in names})
