"""A second opinion on what was known when: values of a training set looked up in the feature tables by hand.

The training set is made by the feature store's point-in-time join. Here, for a sample of rows, each looked-up value must
occur in its feature table for that entity, in a row whose event time and publication both lie at or before the row's
prediction time: a plain condition that shares no code with the join.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from airworthy.config import UseCase
from airworthy.features.catalog import INSTANT, CompiledView, catalog
from airworthy.features.definitions import AVAILABLE_AT, EVENT_TIME
from airworthy.lake import tables
from airworthy.lake.duck import session

ASKED, ROW, TIME = "asked", "__row", "__time"


@dataclass(frozen=True)
class TooLate:
    """A feature with values that had not been published when they were needed.

    Attributes:
        feature: The feature.
        rows: Sampled rows with such a value.
    """

    feature: str
    rows: int


def too_late(
    use_case: UseCase, requests: pa.Table, times: pa.ChunkedArray, values: pa.Table, versions: dict[str, int]
) -> tuple[TooLate, ...]:
    """Features of which a sampled row has a value that had not been published by its prediction time.

    Args:
        use_case: Says how many rows are sampled, by the training's seed.
        requests: The rows, with the entities' columns.
        times: Their prediction times.
        values: Their features, in the same order.
        versions: Delta version of each feature table.
    """
    most, seed = use_case.training.checks.known_rows, use_case.training.seed
    picks = pa.array(np.sort(np.random.default_rng(seed).permutation(requests.num_rows)[:most]))
    found: list[TooLate] = []
    with session() as connection:
        for view in catalog(use_case).views:
            content: dict[str, Any] = {ROW: pa.array(range(len(picks))), TIME: times.take(picks).cast(INSTANT)}
            content |= {f"k{i}": requests[key].take(picks) for i, key in enumerate(view.keys)}
            content |= {f"v{i}": values[name].take(picks) for i, name in enumerate(view.features)}
            connection.register(ASKED, pa.table(content))
            found += _of_view(connection, view, versions[view.table])
    return tuple(found)


def _of_view(connection: duckdb.DuckDBPyConnection, view: CompiledView, version: int) -> list[TooLate]:
    names = [*view.keys, *view.features, EVENT_TIME, AVAILABLE_AT]
    connection.register("published", tables.read(view.table, version=version, columns=names))
    keys = "".join(f' AND p."{key}" = a.k{i}' for i, key in enumerate(view.keys))
    seen = ", ".join(f'coalesce(bool_or(p."{n}" = a.v{i}), false) AS s{i}' for i, n in enumerate(view.features))
    never = "count(*) FILTER (a.v{i} IS NOT NULL AND NOT coalesce(s.s{i}, false))"
    counts = ", ".join(never.format(i=i) for i in range(len(view.features)))
    # Names come from our own catalog, never from a request.
    published = f'p."{EVENT_TIME}" <= a.{TIME} AND p."{AVAILABLE_AT}" <= a.{TIME}{keys}'
    matched = f"SELECT a.{ROW}, {seen} FROM {ASKED} a JOIN published p ON {published} GROUP BY a.{ROW}"  # noqa: S608
    query = f"WITH s AS ({matched}) SELECT {counts} FROM {ASKED} a LEFT JOIN s USING ({ROW})"  # noqa: S608
    [row] = connection.execute(query).fetchall()
    return [TooLate(name, int(n)) for name, n in zip(view.features, row, strict=True) if n]
