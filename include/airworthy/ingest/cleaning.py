"""Raw rows -> clean rows: the use case's own expression on DuckDB, and when the platform may know each row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import ibis
import pyarrow as pa
import pyarrow.compute as pc
from ibis.expr import types as ir

from airworthy.config import UseCase
from airworthy.errors import MAX_EXAMPLES, CheckFailure, ConfigurationError
from airworthy.ingest.schemas import AVAILABLE_AT, UTC_TIMESTAMP, clean_masks, clean_schema
from airworthy.intervals import Interval
from airworthy.lake.duck import ibis_session
from airworthy.ledger.clock import data_now


def clean_expression(use_case: UseCase, source: str, raw: ir.Table) -> ir.Table:
    """What ``clean_<source>`` makes of a raw table.

    Raises:
        ConfigurationError: there is no such function, or it fails on the declared columns.
    """
    module = use_case.source_module()
    function: Callable[[ir.Table], ir.Table] | None = getattr(module, f"clean_{source}", None)
    if function is None:
        raise ConfigurationError(
            f"{module.__name__} has no clean_{source}", next_step=f"write clean_{source}(raw) -> table in it"
        )
    try:
        return function(raw)
    except (ibis.common.exceptions.IbisError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"clean_{source} of {use_case.name} fails on the columns of the source: {error}",
            next_step=f"make {module.__name__}.clean_{source} and the columns in use_case.yaml agree",
        ) from error


def run_clean(use_case: UseCase, source: str, raw: pa.Table) -> pa.Table:
    """Run ``clean_<source>`` over rows typed as raw; times without a zone in the result are UTC.

    Raises:
        ConfigurationError: it drops or adds rows (then rows in would not be clean + quarantine).
    """
    with ibis_session() as connection:
        rows = connection.to_pyarrow(clean_expression(use_case, source, ibis.memtable(raw)))
    if rows.num_rows != raw.num_rows:
        raise ConfigurationError(
            f"clean_{source} of {use_case.name} made {rows.num_rows} rows out of {raw.num_rows}",
            next_step="neither filter nor join in it: the GX suite names unusable rows, and puts them into quarantine",
        )
    return rows.cast(clean_schema(use_case, source))


def clean_rows(use_case: UseCase, source: str, raw: pa.Table) -> pa.Table:
    """Pushed rows, typed as raw, in the form of the clean table, ``available_at`` included.

    Raises:
        ConfigurationError: as ``run_clean``, or a row has no time of observation.
    """
    clean = run_clean(use_case, source, raw)
    available = availability(use_case, source, clean, Interval.containing(data_now(use_case)))
    if available.null_count:
        raise ConfigurationError(
            f"{available.null_count} pushed rows of {source} have no {use_case.sources[source].observed}",
            next_step="declare the column it is made from as not nullable",
        )
    return clean.append_column(pa.field(AVAILABLE_AT, UTC_TIMESTAMP), available)


def availability(use_case: UseCase, source: str, clean: pa.Table, interval: Interval) -> pa.Array:
    """When the platform can know each row: observation plus the source's lag, UTC; null where nothing was observed."""
    spec = use_case.sources[source]
    if spec.observed == "interval_start":
        observed: pa.Array = pa.array([interval.start] * clean.num_rows, UTC_TIMESTAMP)
    elif spec.observed == "interval_end":
        observed = pa.array([interval.end] * clean.num_rows, UTC_TIMESTAMP)
    elif spec.observed in clean.schema.names and clean.schema.field(spec.observed).type == UTC_TIMESTAMP:
        observed = clean.column(spec.observed)
    else:
        raise ConfigurationError(
            f"source {source} of {use_case.name}: observed is {spec.observed!r}, no timestamp of its clean table",
            next_step="give interval_start, interval_end or a timestamp column that clean_" + source + " returns",
        )
    moved = pc.add(observed, pa.scalar(spec.lag, pa.duration("us")))
    return moved.combine_chunks() if isinstance(moved, pa.ChunkedArray) else moved


def key_failures(use_case: UseCase, source: str, clean: pa.Table) -> list[CheckFailure]:
    """What is wrong with the keys of clean rows: an empty key column, or one key on several rows.

    Raises:
        ConfigurationError: a key column is not in the clean table.
    """
    key = use_case.sources[source].key
    absent = [name for name in key if name not in clean.schema.names]
    if absent:
        raise ConfigurationError(
            f"source {source} of {use_case.name}: its key names {absent}, which clean_{source} does not return",
            next_step=f"choose the key from {clean.schema.names}",
        )
    failures = [
        CheckFailure("key column is empty", name, clean.column(name).null_count)
        for name in key
        if clean.column(name).null_count
    ]
    groups = clean.select(key).group_by(key).aggregate([([], "count_all")])
    several = groups.filter(pc.greater(groups.column("count_all"), 1))
    if several.num_rows:
        rows = pc.sum(several.column("count_all")).as_py()
        shown = several.slice(0, MAX_EXAMPLES).select(key).to_pylist()
        masks = clean_masks(use_case, source)
        examples = tuple(", ".join(masks.get(name, str(value)) for name, value in row.items()) for row in shown)
        failures.append(CheckFailure("key is not unique", "+".join(key), rows, examples))
    return failures


def as_correction(clean: pa.Table, before: pa.Table, now: datetime) -> pa.Table:
    """Delivered rows of an interval, known no earlier than they really were.

    Args:
        clean: The new rows with ``available_at`` = observation + lag; keys are unique.
        before: The interval's rows as published before.
        now: Data time now, when this delivery came.

    Returns:
        The new rows; one that was published with the same content keeps its ``available_at``, every other one is
        known from ``now`` at the earliest.
    """
    names = [name for name in clean.schema.names if name != AVAILABLE_AT]
    with ibis_session() as connection:
        old = ibis.memtable(before.select([*names, AVAILABLE_AT]).cast(clean.schema))
        old = old.group_by(names).agg(known=old[AVAILABLE_AT].min())
        new = ibis.memtable(clean)
        same = new.left_join(old, [new[name].identical_to(old[name]) for name in names])
        known = ibis.coalesce(same.known, ibis.greatest(same[AVAILABLE_AT], ibis.literal(now, type="timestamp('UTC')")))
        chosen = same.select(*[new[name] for name in names], **{AVAILABLE_AT: known})
        return connection.to_pyarrow(chosen).cast(clean.schema)
