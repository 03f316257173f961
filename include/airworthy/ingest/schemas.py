"""Schemas of a use case's raw, clean, superseded and quarantine tables, derived without data."""

from __future__ import annotations

import ibis
import pyarrow as pa
import pyarrow.types as kinds

from airworthy.config import Source, UseCase
from airworthy.lake import quarantine
from airworthy.validation import inherited

UTC_TIMESTAMP = pa.timestamp("us", tz="UTC")
AVAILABLE_AT = "available_at"
SUPERSEDED_AT = "superseded_at"
SUPERSEDED = "superseded"
"""Layer of the tables that hold what corrections replaced."""

ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "timestamp": UTC_TIMESTAMP,
    "bool": pa.bool_(),
}


def raw_schema(source: Source) -> pa.Schema:
    """Columns of a raw table: as declared, timestamps in UTC. Rows in quarantine may lack what they should have."""
    return pa.schema([pa.field(name, ARROW_TYPES[column.type]) for name, column in source.columns.items()])


def clean_schema(use_case: UseCase, source: str) -> pa.Schema:
    """Columns that ``clean_<source>`` returns, without ``available_at``: 64-bit numbers, timestamps in UTC."""
    from airworthy.ingest.cleaning import clean_expression

    raw = ibis.table(ibis.Schema.from_pyarrow(raw_schema(use_case.sources[source])), name=f"raw_{source}")
    given = clean_expression(use_case, source, raw).schema().to_pyarrow()
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in given])


def clean_masks(use_case: UseCase, source: str) -> dict[str, str]:
    """What is shown instead of the values of clean columns that are made from tagged ones."""
    from airworthy.ingest.cleaning import clean_expression

    masks = use_case.sources[source].masks
    if not masks:
        return {}
    raw = ibis.table(ibis.Schema.from_pyarrow(raw_schema(use_case.sources[source])), name=f"raw_{source}")
    return inherited(clean_expression(use_case, source, raw), {f"raw_{source}": masks})


def superseded_schema(use_case: UseCase, source: str) -> pa.Schema:
    """Columns of the table of replaced rows: those of the clean table, and ``superseded_at``."""
    times = [pa.field(AVAILABLE_AT, UTC_TIMESTAMP), pa.field(SUPERSEDED_AT, UTC_TIMESTAMP)]
    return pa.schema([*clean_schema(use_case, source), *times])


def table_schemas(use_case: UseCase) -> dict[str, pa.Schema]:
    """Schema of every raw, clean, superseded and quarantine table by name, for the migration that creates them.

    Raises:
        ConfigurationError: the use case has no ``clean_<source>``, or it does not fit the declared columns.
    """
    schemas = {}
    for name, source in use_case.sources.items():
        schemas[use_case.table("raw", name)] = raw_schema(source)
        schemas[use_case.table("clean", name)] = clean_schema(use_case, name).append(
            pa.field(AVAILABLE_AT, UTC_TIMESTAMP)
        )
        schemas[use_case.table(SUPERSEDED, name)] = superseded_schema(use_case, name)
        schemas[use_case.table("quarantine", name)] = quarantine.SCHEMA
    return schemas


def _plain_type(given: pa.DataType) -> pa.DataType:
    # One width for numbers and one zone for times: an expression's small integer or zone-less hour says nothing.
    if kinds.is_timestamp(given):
        return UTC_TIMESTAMP
    if kinds.is_integer(given):
        return pa.int64()
    if kinds.is_floating(given) or kinds.is_decimal(given):
        return pa.float64()
    return pa.string() if kinds.is_large_string(given) else given
