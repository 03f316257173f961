"""How a use case defines features: one Ibis expression each, for offline tables, pushes, Feast and serving."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

import ibis
import sqlglot
from ibis.expr import types as ir

EVENT_TIME = "event_timestamp"
AVAILABLE_AT = "available_at"

Fallback = Literal["null", "refuse"]
FALLBACKS: tuple[str, ...] = get_args(Fallback)


@dataclass(frozen=True)
class FeatureView:
    """One feature view.

    Attributes:
        name: ``<use_case>_<noun>``.
        entities: Join keys; columns of the request.
        sources: Sources whose clean tables it reads.
        build: ``build(tables, spine) -> table``. ``tables`` maps a source to its clean table, limited to the intervals
            from ``first - lookback_days`` to ``last``; ``spine`` has one row for each interval to build: ``interval``
            (string key), ``start``, ``end`` (UTC timestamps) and ``available_at`` (when all sources of that interval
            are known). It returns the entities, ``event_timestamp`` (when the values hold from), ``available_at``
            (when the platform learned of them) and the features; ``event_timestamp`` of a row built for an interval
            lies in ``[start, end]`` of it, and the row carries that interval's key as ``interval``.
        lookback_days: Days before an interval that its values depend on.
        ttl: Age at which a value is too old to use (by data time); None for no limit.
        on_missing, on_stale: What a prediction does where the online store has no value of an entity, or one older than
            the ttl: ``null`` (the features are null, as the point-in-time join gives them to training) or ``refuse``
            (no prediction is made without it). Either way the view is named in the answer.
        on_outage: The same where the online store itself does not answer. It is ``refuse`` unless declared otherwise: the model
            has not learned from rows whose values somebody could not read. An answer made so is marked as degraded.
        pushed: Observations are pushed as they happen: ``build`` must be row by row over one source (the spine's
            interval of a row is the one that holds its event time).
        description, owner: For people.
    """

    name: str
    entities: tuple[str, ...]
    sources: tuple[str, ...]
    build: Callable[[Mapping[str, ir.Table], ir.Table], ir.Table]
    lookback_days: int = 0
    ttl: timedelta | None = None
    on_missing: Fallback = "null"
    on_stale: Fallback = "null"
    on_outage: Fallback = "refuse"
    pushed: bool = False
    description: str = ""
    owner: str = ""


RequestFeatures = Callable[[ir.Table], Mapping[str, ir.Value]]
"""``request_features(request) -> {feature: expression}`` over the request's fields and the prediction's time."""


def spine_schema() -> ibis.Schema:
    """Schema of the spine that ``FeatureView.build`` gets."""
    return ibis.schema(
        {
            "interval": "string",
            "start": "timestamp('UTC')",
            "end": "timestamp('UTC')",
            "available_at": "timestamp('UTC')",
        }
    )


def expression_digest(expression: ir.Table, *extra: object) -> str:
    """Digest of a feature definition: its SQL and whatever else changes its meaning. The same in every process."""
    tree = sqlglot.parse_one(str(ibis.to_sql(expression, dialect="duckdb")), read="duckdb")
    for star in tree.find_all(sqlglot.exp.Star):
        # Ibis writes the columns that ``drop`` leaves out in the order of a set, which hangs on the process's hash seed.
        for name, columns in star.args.items():
            if isinstance(columns, list):
                star.set(name, sorted(columns, key=lambda column: column.sql()))
    text = "\n".join([tree.sql(dialect="duckdb"), *map(repr, extra)])
    return hashlib.sha256(text.encode()).hexdigest()
