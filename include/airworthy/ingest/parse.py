"""A landed file's bytes -> rows typed as the raw table. Anything undeclared or mistyped is named and refused."""

from __future__ import annotations

import csv as plain_csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from airworthy.config import Source, UseCase
from airworthy.errors import MAX_EXAMPLES, CheckFailure, DataRejectedError
from airworthy.ingest import convert
from airworthy.ingest.convert import Converted
from airworthy.ingest.schemas import raw_schema


@dataclass(frozen=True)
class Parsed:
    """What a file holds.

    Attributes:
        rows: Every row, typed as raw.
        rejected: Why a row cannot be used, by position.
        texts: Values of such rows that could not be typed, as they stand in the file, by position and column.
        failures: What makes the whole file unusable; ``rows`` is then empty.
    """

    rows: pa.Table
    rejected: dict[int, str] = field(default_factory=dict)
    texts: dict[int, dict[str, str]] = field(default_factory=dict)
    failures: tuple[CheckFailure, ...] = ()


def parse_file(source: Source, content: bytes) -> Parsed:
    """Read a landed file of a source.

    Args:
        source: Its declaration: format, columns, zone of naive timestamps.
        content: The file's bytes.
    """
    readers = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
    return readers[source.format](source, content)


def parse_rows(use_case: UseCase, source: str, rows: list[dict[str, object]]) -> pa.Table:
    """Type pushed rows as the raw table; values may be JSON values or, for a CSV source, texts as in the file.

    Args:
        use_case: The use case.
        source: The source that was pushed.
        rows: The rows, each with exactly the declared columns (nullable ones may be absent).

    Returns:
        The rows in the same order, with the raw table's schema (timestamps in UTC).

    Raises:
        DataRejectedError: a field is missing, unexpected, empty or of the wrong type; the message names it.
    """
    spec = use_case.sources[source]
    parsed = _from_rows(spec, rows, as_text=spec.format == "csv")
    failures = [*parsed.failures, *(CheckFailure(reason) for _, reason in sorted(parsed.rejected.items()))]
    if failures:
        raise DataRejectedError(
            f"{use_case.name}: {len(rows)} pushed rows of {source}", failures,
            next_step=f"send the fields {', '.join(spec.columns)} with the types that use_case.yaml declares",
        )  # fmt: skip
    return parsed.rows


def _csv(source: Source, content: bytes) -> Parsed:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _broken(source, f"not UTF-8 at byte {error.start}")
    header = next(plain_csv.reader(io.StringIO(text)), [])
    problems = _names(source, header)
    if problems:
        return _failed(source, problems)
    ragged: list[str] = []

    def note(row: csv.InvalidRow) -> str:
        ragged.append(f"{row.actual_columns} instead of {row.expected_columns}: {row.text}")
        return "skip"

    shape = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note)
    # Every column as text first: then all offences of a column can be counted and shown, not only the first.
    types = csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False)
    try:
        table = csv.read_csv(pa.BufferReader(text.encode()), parse_options=shape, convert_options=types)
    except pa.ArrowInvalid as error:
        # What Arrow says may quote the file.
        return _broken(source, "not readable as CSV" + ("" if source.masks else f": {error}"))
    if ragged:
        return _failed(
            source, [CheckFailure("rows with a wrong number of columns", None, len(ragged), _lines(source, ragged))]
        )
    columns = {n: convert.from_texts(n, c, source.timezone, _whole(table, n)) for n, c in source.columns.items()}
    return _assemble(source, columns)


def _jsonl(source: Source, content: bytes) -> Parsed:
    try:
        # Not splitlines: a JSON string may hold other line separators as they are.
        lines = content.decode("utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        return _broken(source, f"not UTF-8 at byte {error.start}")
    rows: list[dict[str, object]] = []
    wrong: list[str] = []
    for number, line in enumerate(lines if content else [], start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            wrong.append(f"line {number}: {line}")
    if wrong:
        return _failed(source, [CheckFailure("lines that are no JSON object", None, len(wrong), _lines(source, wrong))])
    return _from_rows(source, rows, as_text=False)


def _parquet(source: Source, content: bytes) -> Parsed:
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        return _broken(source, f"not readable as Parquet: {error}")
    problems = _names(source, table.column_names)
    if problems:
        return _failed(source, problems)
    columns = {n: convert.from_array(n, c, source.timezone, _whole(table, n)) for n, c in source.columns.items()}
    return _assemble(source, columns)


def _from_rows(source: Source, rows: list[dict[str, object]], *, as_text: bool) -> Parsed:
    """Rows as mappings: a nullable field may be absent, any other that all rows lack is a missing column."""
    found = dict.fromkeys(name for row in rows for name in row)
    absent = [name for name, column in source.columns.items() if column.nullable and name not in found]
    # Without a row nothing can be missing.
    problems = _names(source, [*found, *absent]) if rows else []
    if problems:
        return _failed(source, problems)
    columns = {
        name: convert.from_values(name, column, source.timezone, [row.get(name) for row in rows], as_text=as_text)
        for name, column in source.columns.items()
    }
    return _assemble(source, columns)


def _names(source: Source, found: Iterable[str]) -> list[CheckFailure]:
    names = list(found)
    twice = sorted({name for name in names if names.count(name) > 1})
    return [
        *(CheckFailure("missing column", name) for name in source.columns if name not in names),
        *(CheckFailure("unexpected column", name) for name in names if name not in source.columns),
        *(CheckFailure("column given twice", name) for name in twice),
    ]


def _lines(source: Source, lines: list[str]) -> tuple[str, ...]:
    """Examples of whole lines, unless one could hold a value that must not be shown."""
    return () if source.masks else tuple(lines[:MAX_EXAMPLES])


def _masked(column: Converted, mask: str | None) -> Converted:
    if mask is None:
        return column
    failures = tuple(replace(f, examples=(mask,) if f.examples else ()) for f in column.failures)
    rejected = {n: r.replace(column.texts[n], mask) if n in column.texts else r for n, r in column.rejected.items()}
    return replace(column, failures=failures, rejected=rejected)


def _assemble(source: Source, given: Mapping[str, Converted]) -> Parsed:
    columns = {name: _masked(column, source.masks.get(name)) for name, column in given.items()}
    failures = [failure for column in columns.values() for failure in column.failures]
    if failures:
        return _failed(source, failures)
    reasons: dict[int, list[str]] = {}
    texts: dict[int, dict[str, str]] = {}
    for name, column in columns.items():
        for number, reason in column.rejected.items():
            reasons.setdefault(number, []).append(reason)
        for number, text in column.texts.items():
            texts.setdefault(number, {})[name] = text
    rows = pa.table([columns[name].values for name in source.columns], schema=raw_schema(source))
    return Parsed(rows, {number: "; ".join(found) for number, found in reasons.items()}, texts)


def _whole(table: pa.Table, name: str) -> pa.Array:
    combined = table.column(name).combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _failed(source: Source, failures: Iterable[CheckFailure]) -> Parsed:
    return Parsed(raw_schema(source).empty_table(), failures=tuple(failures))


def _broken(source: Source, why: str) -> Parsed:
    return _failed(source, [CheckFailure(why)])
