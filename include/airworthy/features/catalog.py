"""What a use case defines, checked and compiled: Ibis expressions become SQL once, and every path runs that SQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ibis
import pyarrow as pa
from ibis.expr import datatypes as dt
from ibis.expr import types as ir

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.features.definitions import (
    AVAILABLE_AT,
    EVENT_TIME,
    FALLBACKS,
    FeatureView,
    expression_digest,
    spine_schema,
)
from airworthy.ingest.schemas import clean_masks
from airworthy.lake.duck import quote
from airworthy.lake.tables import INTERVAL
from airworthy.validation import inherited

INSTANT = pa.timestamp("us", "UTC")
SPINE, REQUEST, ROW = "spine", "request", "__row"
SPINE_ARROW = pa.schema([(INTERVAL, pa.string()), ("start", INSTANT), ("end", INSTANT), (AVAILABLE_AT, INSTANT)])
ARROW = {
    "string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "boolean": pa.bool_(), "bool": pa.bool_(),
    "timestamp": INSTANT,
}  # fmt: skip
SQL = {"string": "VARCHAR", "int64": "BIGINT", "float64": "DOUBLE", "boolean": "BOOLEAN", "timestamp": "TIMESTAMPTZ"}
KEY_TYPES = ("string", "int64")


@dataclass(frozen=True)
class CompiledView:
    """A feature view and what runs for it.

    Attributes:
        view: The definition.
        table: Its feature table.
        features: Feature to type (``string``, ``int64``, ``float64``, ``boolean``), in order.
        keys: Entity to type.
        sql: DuckDB SQL over the relations ``clean_<source>`` and ``spine``; gives the entities, the two times, the
            features and ``interval``.
        digest: Digest of what the values are computed from; a change of it rebuilds every interval.
        definition: Digest of all that the view means: what is computed, from which tables, for which entities, under
            which names, in which types, and how long it holds.
        content: The same without names and tables: two views with the same one are one definition, written twice.
        masks: What is shown instead of the values of columns that are made from tagged ones.
    """

    view: FeatureView
    table: str
    keys: dict[str, str]
    features: dict[str, str]
    sql: str
    digest: str
    definition: str
    content: str
    masks: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The view's name."""
        return self.view.name

    @property
    def schema(self) -> pa.Schema:
        """Columns of the feature table, without ``interval``."""
        times = [(EVENT_TIME, INSTANT), (AVAILABLE_AT, INSTANT)]
        typed = (
            [(n, ARROW[t]) for n, t in self.keys.items()] + times + [(n, ARROW[t]) for n, t in self.features.items()]
        )
        return pa.schema(typed)


@dataclass(frozen=True)
class Catalog:
    """All features of a use case.

    Attributes:
        views: In the order of ``VIEWS``.
        request: Columns that the request features are computed from (the request and the prediction's time) to type.
        request_features: Request feature to type, in order.
        request_sql: DuckDB SQL over the relation ``request``, which also has the row's number as ``__row``.
        request_digest: Digest of the request features' definition.
        digest: Digest of every definition.
        masks: What is shown instead of the values of model inputs that are made from tagged columns.
    """

    views: tuple[CompiledView, ...]
    request: dict[str, str]
    request_features: dict[str, str]
    request_sql: str
    request_digest: str
    digest: str
    masks: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, str]:
        """The model's inputs in order, name to type."""
        return {**self.request_features, **{n: t for v in self.views for n, t in v.features.items()}}

    @property
    def view_digests(self) -> dict[str, str]:
        """Digest of each view's definition by its name, and of the request features under ``request``."""
        return {**{view.name: view.definition for view in self.views}, REQUEST: self.request_digest}

    @property
    def request_schema(self) -> pa.Schema:
        """The relation that ``request_sql`` reads."""
        return pa.schema([(ROW, pa.int64()), *((name, ARROW[kind]) for name, kind in self.request.items())])


_compiled: dict[str, Catalog] = {}


def catalog(use_case: UseCase) -> Catalog:
    """The use case's features, compiled once in a process.

    Raises:
        ConfigurationError: a definition cannot be used; the message names the view or feature.
    """
    key = use_case.model_dump_json()
    if key not in _compiled:
        _compiled[key] = _compile(use_case)
    return _compiled[key]


def forget() -> None:
    """Compile again on the next call: for tests and notebooks that change definitions in a running process."""
    _compiled.clear()


def relation(source: str) -> str:
    """Name under which the SQL of a view knows the clean table of a source."""
    return f"clean_{source}"


def clean_schema(use_case: UseCase, source: str) -> pa.Schema:
    """Columns of a clean table as ``build`` sees them: with ``available_at`` and ``interval``."""
    from airworthy.ingest import table_schemas

    schema = table_schemas(use_case)[use_case.table("clean", source)]
    return schema if INTERVAL in schema.names else schema.append(pa.field(INTERVAL, pa.string()))


def views(use_case: UseCase) -> list[FeatureView]:
    """The feature views that ``features.py`` defines, checked.

    Raises:
        ConfigurationError: a view that cannot be used; the message names it.
    """
    found: list[FeatureView] = list(use_case.features_module().VIEWS)
    _refuse_duplicates("feature view", (view.name for view in found), use_case)
    for view in found:
        _check_view(use_case, view)
    return found


def _compile(use_case: UseCase) -> Catalog:
    compiled = tuple(_compile_view(use_case, view) for view in views(use_case))
    request = {**use_case.prediction.request, use_case.prediction.time: "timestamp"}
    features, sql, request_digest, masks = _compile_request(use_case, request)
    _refuse_duplicates("feature", [*features, *(n for v in compiled for n in v.features)], use_case)
    digest = _digest([[v.name, v.definition] for v in compiled], features, request_digest)
    masks |= {name: mask for view in compiled for name, mask in view.masks.items() if name in view.features}
    return Catalog(compiled, dict(request), features, sql, _digest(features, request_digest), digest, masks)


def _check_view(use_case: UseCase, view: FeatureView) -> None:
    def refuse(what: str, next_step: str) -> None:
        raise ConfigurationError(f"feature view {view.name} of {use_case.name}: {what}", next_step=next_step)

    if not view.name.startswith(f"{use_case.name}_"):
        refuse("its name lacks the use case", f"name it {use_case.name}_<noun>")
    if not view.entities:
        refuse("it has no entity", "name the fields of the request that it is looked up by")
    for key in view.entities:
        if use_case.prediction.request.get(key) not in KEY_TYPES:
            refuse(
                f"entity {key} is no field of the request with a type of {', '.join(KEY_TYPES)}",
                "correct prediction.request",
            )
    if unknown := {view.on_missing, view.on_stale, view.on_outage} - set(FALLBACKS):
        refuse(f"on_missing, on_stale or on_outage is {sorted(unknown)[0]!r}", f"use one of {', '.join(FALLBACKS)}")
    _check_reads(use_case, view, refuse)


def _check_reads(use_case: UseCase, view: FeatureView, refuse: Callable[[str, str], None]) -> None:
    unknown = sorted(set(view.sources) - set(use_case.sources))
    if unknown or not view.sources:
        refuse(
            f"unknown sources {unknown}" if unknown else "it has no source", f"use some of {sorted(use_case.sources)}"
        )
    if view.lookback_days < 0:
        refuse(f"lookback_days is {view.lookback_days}", "give 0 or more")
    if view.pushed and (len(view.sources) != 1 or view.lookback_days or not use_case.sources[view.sources[0]].pushed):
        refuse("it is pushed", "a pushed view reads one pushed source and has lookback_days=0")


def _refuse_duplicates(what: str, names: Iterable[str], use_case: UseCase) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigurationError(
                f"{what} {name} of {use_case.name} is defined twice", next_step="rename one of the two"
            )
        seen.add(name)


def _compile_view(use_case: UseCase, view: FeatureView) -> CompiledView:
    tables = {
        s: ibis.table(ibis.Schema.from_pyarrow(clean_schema(use_case, s)), name=relation(s)) for s in view.sources
    }
    where = f"feature view {view.name} of {use_case.name}"
    try:
        built = view.build(tables, ibis.table(spine_schema(), name=SPINE))
    except Exception as error:
        raise ConfigurationError(f"{where} cannot be built: {error}", next_step="correct its build function") from error
    keys = {key: str(use_case.prediction.request[key]) for key in view.entities}
    reserved = (*keys, EVENT_TIME, AVAILABLE_AT, INTERVAL)
    missing = [name for name in reserved if name not in built.columns]
    if missing:
        raise ConfigurationError(
            f"{where} lacks {', '.join(missing)}", next_step="return these columns from its build function"
        )
    features = {n: _kind(built[n].type(), f"feature {n} of {where}") for n in built.columns if n not in reserved}
    if not features:
        raise ConfigurationError(
            f"{where} has no feature", next_step="return at least one column that is no key or time"
        )
    result = built.select(
        *(built[n].cast(t).name(n) for n, t in keys.items()),
        *(_instant(built[n], f"{n} of {where}").name(n) for n in (EVENT_TIME, AVAILABLE_AT)),
        *(_value(built[n], t).name(n) for n, t in features.items()),
        built[INTERVAL].cast("string").name(INTERVAL),
    )
    # A row without its key can never be looked up.
    result = result.filter([result[key].notnull() for key in keys])
    digest = expression_digest(result, view.sources, view.lookback_days)
    types = {**keys, EVENT_TIME: "timestamp", AVAILABLE_AT: "timestamp", **features, INTERVAL: "string"}
    sources = [use_case.table("clean", source) for source in view.sources]
    nameless = expression_digest(result.rename({f"f{i}": name for i, name in enumerate(features)}), view.lookback_days)
    return CompiledView(
        view, use_case.table("features", view.name), keys, features, to_sql(result, types), digest,
        definition=_digest(digest, sources, keys, features, str(view.ttl), view.on_missing, view.on_stale),
        content=_digest(nameless, keys, list(features.values()), str(view.ttl)),
        masks=inherited(result, {relation(s): clean_masks(use_case, s) for s in view.sources}),
    )  # fmt: skip


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _compile_request(use_case: UseCase, columns: Mapping[str, str]) -> tuple[dict[str, str], str, str, dict[str, str]]:
    schema = {ROW: "int64", **{n: "timestamp('UTC')" if t == "timestamp" else t for n, t in columns.items()}}
    request = ibis.table(schema, name=REQUEST)
    define: Any = getattr(use_case.features_module(), "request_features", None)
    where = f"request features of {use_case.name}"
    try:
        values: Mapping[str, ir.Value] = define(request) if define else {}
    except Exception as error:
        raise ConfigurationError(f"{where} cannot be built: {error}", next_step="correct request_features") from error
    kinds = {name: _kind(value.type(), f"{name} of the {where}") for name, value in values.items()}
    selected = request.select(request[ROW], *(_value(v, kinds[n]).name(n) for n, v in values.items()))
    tagged = clean_masks(use_case, use_case.prediction.source)  # a request gives columns of that clean table
    masks = inherited(selected, {REQUEST: tagged})
    return kinds, to_sql(selected, {ROW: "int64", **kinds}), expression_digest(selected), masks


def to_sql(expression: ir.Table, types: Mapping[str, str]) -> str:
    """The expression as DuckDB SQL that gives exactly these types.

    Ibis leaves out a cast that it holds for needless, but DuckDB's sum of integers is a HUGEINT, for one.
    """
    casts = ", ".join(f"CAST({quote(name)} AS {SQL[kind]}) AS {quote(name)}" for name, kind in types.items())
    return f"SELECT {casts} FROM (\n{ibis.to_sql(expression, dialect='duckdb')}\n)"  # noqa: S608 - quoted names


def _kind(dtype: dt.DataType, what: str) -> str:
    if dtype.is_boolean():
        return "boolean"
    if dtype.is_integer():
        return "int64"
    if dtype.is_floating() or dtype.is_decimal():
        return "float64"
    if dtype.is_string():
        return "string"
    raise ConfigurationError(
        f"{what} has the type {dtype}", next_step="make it a string, an integer, a float or a boolean"
    )


def _value(value: ir.Value, kind: str) -> ir.Value:
    typed: Any = value.cast(kind)
    # One way to say "no value": otherwise NaN would be a number here and a missing value there.
    return ibis.ifelse(typed.isnan(), ibis.null(kind), typed) if kind == "float64" else typed


def _instant(value: ir.Value, what: str) -> ir.Value:
    dtype = value.type()
    if not dtype.is_timestamp() or dtype.timezone is None:
        raise ConfigurationError(f"{what} has the type {dtype}", next_step="make it a timestamp in UTC")
    return value.cast("timestamp('UTC')")


def feature_columns(use_case: UseCase) -> dict[str, str]:
    """The model's inputs in order, name to type (``string``, ``int64``, ``float64``, ``boolean``)."""
    return catalog(use_case).columns


def feature_digest(use_case: UseCase) -> str:
    """Digest of every feature definition of the use case."""
    return catalog(use_case).digest


def masks(use_case: UseCase) -> dict[str, str]:
    """What is shown instead of the values of model inputs that are made from tagged columns."""
    return catalog(use_case).masks


def view_digests(use_case: UseCase) -> dict[str, str]:
    """Digest of each feature view's definition, by the view's name, and of the request features: what a training set records."""
    return catalog(use_case).view_digests


def duplicates(catalogs: Iterable[Catalog]) -> list[tuple[str, ...]]:
    """Names of views with one definition, under other names or over tables of other use cases: one is enough."""
    names: dict[str, list[str]] = {}
    for view in (view for each in catalogs for view in each.views):
        names.setdefault(view.content, []).append(view.name)
    return [tuple(sorted(group)) for group in names.values() if len(group) > 1]


def table_schemas(use_case: UseCase) -> dict[str, pa.Schema]:
    """Schema of each feature table by its name, for the migrations (which add ``interval``)."""
    return {view.table: view.schema for view in catalog(use_case).views}
