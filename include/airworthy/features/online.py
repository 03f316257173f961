"""Features at request time: the request's own by the same SQL as in training, the others from Feast's online store."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
from feast import FeatureService
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError, ServiceUnavailableError
from airworthy.features.catalog import ARROW, REQUEST, ROW, Catalog, CompiledView, catalog
from airworthy.features.feast_repo import not_applied, registered_service, store
from airworthy.intervals import utc
from airworthy.lake.duck import connect

FeatureValue: TypeAlias = float | int | str | bool | None
# Feast cannot look up a null. What it finds for these is never used.
_NO_KEY: dict[str, object] = {"string": "", "int64": 0}


@dataclass(frozen=True)
class FeatureVector:
    """The model's inputs for one request.

    Attributes:
        values: Every column of ``feature_columns``, in order.
        missing: Views that have no value for this entity (or none that is known yet): their features are None.
        stale: Views whose value is older than their ttl: their features are None.
    """

    values: dict[str, FeatureValue]
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


class OnlineFeatures:
    """Looks up feature vectors. Safe for threads; make one for each process.

    Args:
        use_case: The use case.

    Raises:
        ConfigurationError: the features are not registered with Feast as they are defined.
    """

    def __init__(self, use_case: UseCase) -> None:
        self._use_case = use_case
        self._catalog: Catalog = catalog(use_case)
        self._keys = {key: kind for view in self._catalog.views for key, kind in view.keys.items()}
        self._thread = threading.local()
        self._service: FeatureService | None = registered_service(use_case) if self._catalog.views else None

    def lookup(self, requests: Sequence[Mapping[str, Any]], moment: datetime) -> list[FeatureVector]:
        """Feature vectors for requests, in order.

        Args:
            requests: Fields of ``prediction.request``; an optional one may be absent or None. Timestamps have a time
                zone, or are text in ISO 8601 with one.
            moment: The prediction's time, in data time: the age of values is measured against it, and it is the
                prediction's time of a request that does not carry one.

        Raises:
            ConfigurationError: a field has a type that cannot be used.
            ServiceUnavailableError: the online store does not answer, or a value is missing or stale of a view that
                declares ``refuse`` for it.
        """
        if not requests:
            return []
        moment = utc(moment)
        columns = {
            name: [_typed(r, name, kind, self._time(name, moment)) for r in requests]
            for name, kind in self._catalog.request.items()
        }
        own = self._request_features(columns, len(requests))
        if self._service is None:
            return [FeatureVector(values) for values in own]
        return self._with_views(own, columns, moment)

    def _time(self, name: str, moment: datetime) -> datetime | None:
        return moment if name == self._use_case.prediction.time else None

    def _request_features(self, columns: dict[str, list[Any]], count: int) -> list[dict[str, FeatureValue]]:
        names = list(self._catalog.request_features)
        if not names:
            return [{} for _ in range(count)]
        try:
            arrays = {n: pa.array(columns[n], ARROW[kind]) for n, kind in self._catalog.request.items()}
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise ConfigurationError(
                f"a request field does not fit its type: {error}", next_step="see the request's schema"
            ) from error
        connection, statement = self._prepared()
        connection.register(REQUEST, pa.table({ROW: pa.array(range(count), pa.int64()), **arrays}))
        found: list[dict[str, FeatureValue]] = [{} for _ in range(count)]
        for row in connection.execute(statement).fetchall():
            found[row[0]] = dict(zip(names, row[1:], strict=True))
        return found

    def _prepared(self) -> tuple[duckdb.DuckDBPyConnection, duckdb.Statement]:
        """This thread's connection, and the SQL parsed: parsing it costs as much as running it."""
        if not hasattr(self._thread, "prepared"):
            connection = connect()
            self._thread.prepared = (connection, connection.extract_statements(self._catalog.request_sql)[0])
        prepared: tuple[duckdb.DuckDBPyConnection, duckdb.Statement] = self._thread.prepared
        return prepared

    def _with_views(
        self, own: list[dict[str, FeatureValue]], columns: dict[str, list[Any]], moment: datetime
    ) -> list[FeatureVector]:
        asked = {key: [_NO_KEY[kind] if v is None else v for v in columns[key]] for key, kind in self._keys.items()}
        response = store(self._use_case).get_online_features(
            features=self._service, entity_rows=asked, full_feature_names=True
        ).proto  # fmt: skip
        position = {name: i for i, name in enumerate(response.metadata.feature_names.val)}
        views = [(view, self._positions(view, position)) for view in self._catalog.views]
        vectors = []
        for row, values in enumerate(own):
            missing, stale = [], []
            for view, at in views:
                known = all(columns[key][row] is not None for key in view.keys)
                state = _state(response, at, row, view.view.ttl, moment) if known else "missing"
                if state != "present":
                    _fall_back(view, state, {key: columns[key][row] for key in view.keys})
                if state == "missing":
                    missing.append(view.name)
                elif state == "stale":
                    stale.append(view.name)
                values.update(_values(response, at, row) if state == "present" else dict.fromkeys(at))
            vectors.append(FeatureVector(values, tuple(missing), tuple(stale)))
        return vectors

    def _positions(self, view: CompiledView, position: Mapping[str, int]) -> dict[str, int]:
        try:
            return {name: position[f"{view.name}__{name}"] for name in view.features}
        except KeyError as error:
            raise not_applied(self._use_case, f"feature {error.args[0]}") from error


def _typed(request: Mapping[str, Any], name: str, kind: str, default: datetime | None) -> object:
    value = request.get(name, default)
    if kind != "timestamp" or value is None:
        return value
    try:
        return utc(datetime.fromisoformat(value) if isinstance(value, str) else value)
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"request field {name} is no time: {value!r:.60}", next_step="give ISO 8601 with a time zone"
        ) from error


def _fall_back(view: CompiledView, state: str, entity: dict[str, Any]) -> None:
    """What the view declares for a value that is missing or stale: null, which needs nothing, or no prediction."""
    if (view.view.on_missing if state == "missing" else view.view.on_stale) == "refuse":
        who = ", ".join(f"{name} {view.masks.get(name) or repr(value)[:60]}" for name, value in entity.items())
        what = "no value" if state == "missing" else f"no value younger than {view.view.ttl}"
        raise ServiceUnavailableError(
            f"feature view {view.name} has {what} for {who}, and declares that no prediction is made without one",
            next_step="ask again when its observations are in; `airworthy features show` gives the view's source",
        )


def _state(
    response: GetOnlineFeaturesResponse, at: Mapping[str, int], row: int, ttl: timedelta | None, moment: datetime
) -> str:
    results = [response.results[i] for i in at.values()]
    found = [r for r in results if r.statuses[row] != FieldStatus.NOT_FOUND]
    if not found:
        return "missing"
    time = max(r.event_timestamps[row].ToDatetime(UTC) for r in found)
    if time > moment:
        return "missing"  # not known yet at that moment, and what was known before is overwritten
    return "stale" if ttl is not None and moment - time > ttl else "present"


def _values(response: GetOnlineFeaturesResponse, at: Mapping[str, int], row: int) -> dict[str, FeatureValue]:
    values: dict[str, FeatureValue] = {}
    for name, i in at.items():
        proto = response.results[i].values[row]
        field = proto.WhichOneof("val")
        values[name] = getattr(proto, field) if field and field != "null_val" else None
    return values
