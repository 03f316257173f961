"""Features at request time: the request's own by the same SQL as in training, the others from the guarded online store."""

from __future__ import annotations

import threading
from asyncio import to_thread
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from itertools import repeat
from typing import Any, NamedTuple

import pyarrow as pa
from feast import FeatureView

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError, ServiceUnavailableError
from airworthy.features.bounded import BoundedReads
from airworthy.features.catalog import ARROW, REQUEST, ROW, Catalog, CompiledView, catalog
from airworthy.features.feast_repo import not_applied, registered_service, registered_view, store
from airworthy.features.online_store import REMEMBERED, FeatureValue, Found, entity_bytes
from airworthy.intervals import utc
from airworthy.lake.duck import connect


class FeatureVector(NamedTuple):
    """The model's inputs for one request.

    Attributes:
        values: Every column of ``feature_columns``, in order.
        missing: Views that have no value for this entity (or none that is known yet): their features are None.
        stale: Views whose value is older than their ttl: their features are None.
        degraded: The online store did not answer: its views are all missing, whatever it holds.
    """

    values: dict[str, FeatureValue]
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    degraded: bool = False


class OnlineFeatures:
    """Looks up feature vectors. Safe for threads; make one for each process.

    Args:
        use_case: The use case.
        patience: Seconds to wait for the online store. When it does not answer in time, what its views declare counts
            (``on_outage``), at once, until it answers again. None: wait for it, and fail with it.

    Raises:
        ConfigurationError: the features are not registered with Feast as they are defined.
    """

    def __init__(self, use_case: UseCase, patience: float | None = None) -> None:
        self._use_case = use_case
        self._catalog: Catalog = catalog(use_case)
        self._thread = threading.local()
        self._registered = _registered(use_case, self._catalog.views)
        self._entities = [(tuple(view.keys), _entity_bytes(use_case, view)) for view in self._catalog.views]
        what = f"the online store of {use_case.name}"
        nothing: list[list[bytes | None]] = [[] for _ in self._registered]
        self._views = [(view, dict.fromkeys(view.features)) for view in self._catalog.views]
        self._reads: BoundedReads | None = None
        if patience and self._registered:
            self._reads = BoundedReads(what, patience, lambda: self._read(nothing))
        self._refuses = any(view.view.on_outage == "refuse" for view in self._catalog.views)

    def lookup(self, requests: Sequence[Mapping[str, Any]], moment: datetime) -> list[FeatureVector]:
        """Feature vectors for requests, in order.

        Args:
            requests: Fields of ``prediction.request``; an optional one may be absent or None. Timestamps have a time
                zone, or are text in ISO 8601 with one.
            moment: The prediction's time, in data time: the age of values is measured against it, and it is the
                prediction's time of a request that does not carry one.

        Raises:
            ConfigurationError: a field has a type that cannot be used.
            ServiceUnavailableError: the online store does not answer, or a value is missing or stale, and a view declares
                ``refuse`` for it.
        """
        if not requests:
            return []
        asked = self._asked(requests, moment)
        if self._reads is None:
            return self._vectors(asked, self._request_features(asked), self._read(asked.keys))
        reading = self._reads.begin(partial(self._read, asked.keys))
        own = self._request_features(asked)  # meanwhile
        try:
            found = self._reads.result(reading)
        except ServiceUnavailableError:
            if self._refuses:
                raise
            found = None
        return self._vectors(asked, own, found)

    async def alookup(self, requests: Sequence[Mapping[str, Any]], moment: datetime) -> list[FeatureVector]:
        """The same on an event loop, which goes on while the online store is read."""
        if self._reads is None:
            return await to_thread(self.lookup, requests, moment)
        asked = self._asked(requests, moment)
        reading = self._reads.begin(partial(self._read, asked.keys))
        own = self._request_features(asked)  # meanwhile
        try:
            found = await self._reads.aresult(reading)
        except ServiceUnavailableError:
            if self._refuses:
                raise
            found = None
        return self._vectors(asked, own, found)

    def _asked(self, requests: Sequence[Mapping[str, Any]], moment: datetime) -> _Asked:
        moment = utc(moment)
        defaults = {self._use_case.prediction.time: moment}
        columns = {
            name: _times(requests, name, defaults.get(name)) if kind == "timestamp" else [r.get(name) for r in requests]
            for name, kind in self._catalog.request.items()
        }
        try:
            keys = [
                [None if None in values else key(values) for values in zip(*(columns[n] for n in names), strict=True)]
                for names, key in self._entities
            ]
        except (TypeError, ValueError) as error:
            raise _unfit(error) from error
        return _Asked(len(requests), moment, columns, keys)

    def _read(self, keys: list[list[bytes | None]]) -> list[list[Found | None]]:
        """What is online for each view and row."""
        if not keys:
            return []
        feast_store: Any = store(self._use_case)
        asked = list(zip(self._registered, keys, strict=True))
        found: list[list[Found | None]] = feast_store.provider.online_store.read_views(feast_store.config, asked)
        return found

    def _vectors(
        self, asked: _Asked, own: list[dict[str, FeatureValue]], found: list[list[Found | None]] | None
    ) -> list[FeatureVector]:
        """The vectors of what was asked.

        Args:
            asked: The requests.
            own: Request features of each; the views' are added to them.
            found: What is online, for each view and row. None: the store does not answer.
        """
        missing, stale = ([list[str]() for _ in own] for _ in range(2))
        for number, (view, nothing) in enumerate(self._views):
            online = found[number] if found else repeat(None, len(own))
            for row, (values, one) in enumerate(zip(own, online, strict=True)):
                values.update(nothing)
                state = _state(one, view.view.ttl, asked.moment)
                if one and state == "present":
                    values.update(one[1] if one[1].keys() <= nothing.keys() else _defined(one[1], nothing))
                    continue
                if found:
                    _fall_back(view, state, {key: asked.columns[key][row] for key in view.keys})
                (missing if state == "missing" else stale)[row].append(view.name)
        return [
            FeatureVector(values, tuple(m), tuple(s), degraded=found is None)
            for values, m, s in zip(own, missing, stale, strict=True)
        ]

    def _request_features(self, asked: _Asked) -> list[dict[str, FeatureValue]]:
        names = list(self._catalog.request_features)
        if not names:
            return [{} for _ in range(asked.count)]
        try:
            arrays = {n: pa.array(asked.columns[n], ARROW[kind]) for n, kind in self._catalog.request.items()}
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise _unfit(error) from error
        prepared = self._prepared()
        prepared.rows = pa.table({ROW: pa.array(range(asked.count), pa.int64()), **arrays})
        found: list[dict[str, FeatureValue]] = [{} for _ in range(asked.count)]
        for row in prepared.answer():
            found[row[0]] = dict(zip(names, row[1:], strict=True))
        return found

    def _prepared(self) -> _RequestSql:
        """This thread's own."""
        if not hasattr(self._thread, "prepared"):
            self._thread.prepared = _RequestSql(self._catalog)
        prepared: _RequestSql = self._thread.prepared
        return prepared


@dataclass(frozen=True)
class _Asked:
    """Some requests, by column.

    Attributes:
        count: How many.
        moment: The prediction's time, UTC.
        columns: The catalog's columns of requests, a value for each request.
        keys: For each view its entity of each request as the store names it; None where a part of it is null.
    """

    count: int
    moment: datetime
    columns: dict[str, list[Any]]
    keys: list[list[bytes | None]]


class _RequestSql:
    """The SQL of request features with its plan, for one thread: making the plan takes longer than running it.

    The relation that it reads is this object, so that the plan stays when the rows are others.

    Args:
        compiled: The use case's features.
    """

    def __init__(self, compiled: Catalog) -> None:
        self.rows: pa.Table = pa.schema(
            [(ROW, pa.int64()), *((name, ARROW[kind]) for name, kind in compiled.request.items())]
        ).empty_table()
        self._connection = connect()
        # For some rows of one relation there is nothing to optimise, and looking for it takes most of the planning.
        self._connection.execute("PRAGMA disable_optimizer")
        self._connection.register(REQUEST, self)
        self._connection.execute(f"PREPARE request_features AS {compiled.request_sql}")

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows, each time that DuckDB runs the plan."""
        return self.rows.__arrow_c_stream__(requested_schema)

    def answer(self) -> list[tuple[Any, ...]]:
        """The features of ``rows``, each with its row's number first, in any order."""
        return self._connection.execute("EXECUTE request_features").fetchall()


def _entity_bytes(use_case: UseCase, view: CompiledView) -> Callable[[tuple[Any, ...]], bytes]:
    """What makes the store's name of an entity of a view from the values of its join keys."""
    version = store(use_case).config.entity_key_serialization_version
    names, kinds = tuple(view.keys), tuple(view.keys.values())

    @lru_cache(maxsize=REMEMBERED)
    def key(values: tuple[Any, ...]) -> bytes:
        return entity_bytes(names, kinds, values, version)

    return key


def _registered(use_case: UseCase, views: Sequence[CompiledView]) -> list[FeatureView]:
    """The views as they are registered; each must have every feature that is defined."""
    if not views:
        return []
    projections = registered_service(use_case).feature_view_projections
    known = {f"{p.name}__{feature.name}" for p in projections for feature in p.features}
    for view in views:
        for name in view.features:
            if f"{view.name}__{name}" not in known:
                raise not_applied(use_case, f"feature {name}")
    return [registered_view(use_case, view.name) for view in views]


def _times(requests: Sequence[Mapping[str, Any]], name: str, default: datetime | None) -> list[datetime | None]:
    """A column of times, UTC."""
    return [None if (value := r.get(name, default)) is None else _time(name, value) for r in requests]


def _time(name: str, value: Any) -> datetime:
    try:
        return utc(datetime.fromisoformat(value) if isinstance(value, str) else value)
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"request field {name} is no time: {value!r:.60}", next_step="give ISO 8601 with a time zone"
        ) from error


def _unfit(error: Exception) -> ConfigurationError:
    return ConfigurationError(f"a request field does not fit its type: {error}", next_step="see the request's schema")


def _fall_back(view: CompiledView, state: str, entity: dict[str, Any]) -> None:
    """What the view declares for a value that is missing or stale: null, which needs nothing, or no prediction."""
    if (view.view.on_missing if state == "missing" else view.view.on_stale) == "refuse":
        who = ", ".join(f"{name} {view.masks.get(name) or repr(value)[:60]}" for name, value in entity.items())
        what = "no value" if state == "missing" else f"no value younger than {view.view.ttl}"
        raise ServiceUnavailableError(
            f"feature view {view.name} has {what} for {who}, and declares that no prediction is made without one",
            next_step="ask again when its observations are in; `airworthy features show` gives the view's source",
        )


def _state(online: Found | None, ttl: timedelta | None, moment: datetime) -> str:
    # A value from after the moment is not known yet, and what was known before is overwritten.
    if online is None or online[0] > moment:
        return "missing"
    return "stale" if ttl is not None and moment - online[0] > ttl else "present"


def _defined(values: Mapping[str, FeatureValue], features: Mapping[str, None]) -> dict[str, FeatureValue]:
    """Values without those of features that are defined no more."""
    return {name: value for name, value in values.items() if name in features}
