"""Delta tables, partitioned by interval. One write replaces whole intervals atomically, or fails."""

from __future__ import annotations

import hashlib
import io
import os
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from airworthy.config import get_settings
from airworthy.errors import ConfigurationError
from airworthy.intervals import Interval
from airworthy.lake.disk import writing
from airworthy.ledger import commits
from airworthy.records import PartitionRef

INTERVAL = "interval"
ATTEMPTS = 20
RECENT = 100

# Credentials belong to the process: its standard variables, by the URL's scheme.
CREDENTIALS = {"s3": "AWS_", "s3a": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "abfs": "AZURE_", "abfss": "AZURE_"}


def storage_options(url: str) -> dict[str, str]:
    """Options for a URL's object store, from the environment (``AWS_*`` for S3); empty for a local folder."""
    prefix = CREDENTIALS.get(url.partition("://")[0]) if "://" in url else None
    return {name: value for name, value in os.environ.items() if prefix and name.startswith(prefix)}


def url(table: str) -> str:
    """Where a table is."""
    return f"{get_settings().lake_url}/{table}"


def create(table: str, schema: pa.Schema) -> None:
    """Create a table, empty, if it is not there; add columns that it lacks, null in the rows that are there.

    For migrations only: two stages that create one both "win".
    """
    full = schema if INTERVAL in schema.names else schema.append(pa.field(INTERVAL, pa.string(), nullable=False))
    if DeltaTable.is_deltatable(url(table), storage_options=storage_options(url(table))):
        handle = open_table(table)
        known = set(pa.schema(handle.schema().to_arrow()).names)
        lacking = pa.schema([field for field in full if field.name not in known and field.nullable])
        if lacking.names:
            handle.alter.add_columns(Schema.from_arrow(lacking).fields)
        return
    DeltaTable.create(
        url(table), full, partition_by=[INTERVAL], mode="ignore", storage_options=storage_options(url(table)),
        configuration={"delta.logRetentionDuration": "interval 3650 days"},
    )  # fmt: skip


def open_table(table: str, version: int | None = None) -> DeltaTable:
    """A handle on a table, at a version or at the newest.

    Raises:
        ConfigurationError: the table was never created.
    """
    try:
        return DeltaTable(url(table), version=version, storage_options=storage_options(url(table)))
    except TableNotFoundError as error:
        raise ConfigurationError(f"table {table} does not exist", next_step="run `airworthy migrate`") from error


def dataset(table: str, version: int | None = None) -> ds.Dataset:
    """A table as an Arrow dataset, which DuckDB scans without a copy. Timestamps are UTC."""
    return open_table(table, version).to_pyarrow_dataset()


def read(
    table: str,
    first: Interval | None = None,
    last: Interval | None = None,
    *,
    version: int | None = None,
    columns: list[str] | None = None,
) -> pa.Table:
    """Rows of the intervals from first to last (both included), or of all, as one Arrow table."""
    condition = None
    if first is not None:
        condition = pc.field(INTERVAL) >= first.key
    if last is not None:
        upper = pc.field(INTERVAL) <= last.key
        condition = upper if condition is None else condition & upper
    return dataset(table, version).to_table(filter=condition, columns=columns)


def committed_version(table: str) -> tuple[int, frozenset[str]]:
    """Newest version of a table that the ledger knows of, or that is nobody's claim (such as a joining of files).

    A write that has no ledger row yet, or never got one since its writer died, is not looked at when it is the newest.
    Below a newer one it cannot be left out: the version shows it.

    Returns:
        The version, and the resources (``<use_case>/ingest/<interval>``) whose rows in it nobody has committed.
    """
    handle = open_table(table)
    recent = handle.history(RECENT)
    known = commits.known_versions(table, [int(entry["version"]) for entry in recent])
    chosen: int | None = None
    seen: set[str] = set()
    uncommitted: set[str] = set()
    for entry in recent:  # the newest first
        resource, committed = entry.get("resource", ""), "token" not in entry or int(entry["version"]) in known
        if chosen is None and not committed:
            continue
        if chosen is None:
            chosen = int(entry["version"])
        if "token" in entry and resource not in seen and not committed:
            uncommitted.add(resource)
        seen.add(resource)
    return (int(handle.version()) if chosen is None else chosen), frozenset(uncommitted)


def digest(rows: pa.Table) -> str:
    """Digest of rows and columns, independent of row order, column order and chunking.

    The canonical form is the sorted rows as CSV: text differs exactly where a value differs (null is empty, an empty
    string is quoted, floats are written with all their digits).
    """
    names = sorted(n for n in rows.schema.names if n != INTERVAL)
    plain = rows.select(names).sort_by([(n, "ascending") for n in names]) if names else rows
    buffer = io.BytesIO()
    csv.write_csv(plain, buffer)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def publish(
    table: str, parts: dict[str, pa.Table], *, resource: str, token: int, inputs: dict[str, str]
) -> list[PartitionRef]:
    """Replace intervals of a table in one commit: the design's one rule (handle, token, commit, ledger row).

    Args:
        table: The table.
        parts: New rows by interval key (without the interval column); the keys must be contiguous days.
        resource, token: The claim under which this runs.
        inputs: Digest of what each interval was made from.

    Raises:
        SupersededError: a newer claim exists; nothing was published.
        DiskFullError: there is no space; nothing was published.
    """
    keys = sorted(parts)
    rows = pa.concat_tables([_stamped(parts[k], k) for k in keys])
    column = f'"{INTERVAL}"'  # quoted: the name is a word of SQL
    predicate = f"{column} >= '{keys[0]}' AND {column} <= '{keys[-1]}'"
    for attempt in range(ATTEMPTS):
        handle = open_table(table)
        commits.check_token(resource, token)
        try:
            with writing(url(table), rows.nbytes):
                write_deltalake(
                    handle, _cast(rows, handle), mode="overwrite", predicate=predicate,
                    commit_properties=CommitProperties(custom_metadata={"resource": resource, "token": str(token)}),
                )  # fmt: skip
            break
        except DeltaError as error:
            # Somebody committed since the handle was loaded: if it was this interval, the token says who stands down.
            if attempt == ATTEMPTS - 1 or not _overtaken(error):
                raise
    version = int(handle.version())
    refs = [
        PartitionRef(
            table=table, interval=Interval.of(k), data_version=version, rows=parts[k].num_rows, digest=digest(parts[k])
        )
        for k in keys
    ]
    commits.record_commits(resource, token, refs, inputs)
    return refs


def _overtaken(error: DeltaError) -> bool:
    """Whether another commit came first, to this interval or to another one.

    To tell the two apart delta-rs parses the other commit's predicate, which it stored without our quotes; ``interval`` is
    a word of SQL, so that fails. Nothing was written then, and trying again on a new handle is right in either case.
    """
    return isinstance(error, CommitFailedError) or "sql parser error" in str(error)


def _stamped(rows: pa.Table, key: str) -> pa.Table:
    return rows.append_column(
        pa.field(INTERVAL, pa.string(), nullable=False), pa.array([key] * rows.num_rows, pa.string())
    )


def _cast(rows: pa.Table, handle: DeltaTable) -> pa.Table:
    """The rows in the table's columns and types.

    Raises:
        ConfigurationError: they have other columns, or values that do not fit.
    """
    target: Any = pa.schema(handle.schema().to_arrow())
    lacking = sorted(set(target.names) - set(rows.schema.names))
    strange = sorted(set(rows.schema.names) - set(target.names))
    where = f"rows do not fit the table {handle.table_uri}"
    if strange:
        raise ConfigurationError(f"{where}: {', '.join(strange)} is new", next_step="run `airworthy migrate`")
    if lacking:
        raise ConfigurationError(
            f"{where}: they have no {', '.join(lacking)}",
            next_step="a table's columns only grow: keep the column, or give what is changed another name",
        )
    try:
        return rows.select(target.names).cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigurationError(
            f"{where}: {error}", next_step="a column keeps its type: give what is changed another name"
        ) from error
