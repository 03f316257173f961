"""Values of a landed column -> a typed Arrow array, with what was wrong: strict, and naming every offence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from airworthy.config.data_spec import Column
from airworthy.errors import MAX_EXAMPLES, CheckFailure
from airworthy.ingest.schemas import ARROW_TYPES, UTC_TIMESTAMP

NOT_GIVEN = ("", "NA")
PATTERNS = {
    "int64": r"^-?[0-9]{1,19}$",
    "float64": r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$",
    "bool": r"^(?i:true|false|1|0)$",
}
WITH_OFFSET = r"[0-9]{2}:[0-9]{2}.*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"


@dataclass(frozen=True)
class Converted:
    """A column after conversion.

    Attributes:
        values: Typed values; null where the file has none, or an unusable one.
        failures: What makes the whole file unusable: values of another type.
        rejected: Why a row is unusable, by its position: nothing where something must be, an hour that never was.
        texts: Those rows' values as they stand in the file.
    """

    values: pa.Array
    failures: tuple[CheckFailure, ...] = ()
    rejected: dict[int, str] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)


def from_texts(
    name: str, column: Column, zone: str | None, texts: pa.Array, *, not_given: Sequence[str] = NOT_GIVEN
) -> Converted:
    """Type a column of text.

    Args:
        name: The column's name.
        column: Its declaration.
        zone: Zone of naive timestamps; without it they are refused.
        texts: Strings, null where the file has nothing.
        not_given: Texts that stand for nothing (in a column of strings that may not be empty: only the empty text).
    """
    markers = ("",) if column.type == "string" and not column.nullable else tuple(not_given)
    absent = pc.or_kleene(pc.is_null(texts), pc.is_in(texts, value_set=pa.array(markers, pa.string())))
    given = pc.if_else(absent, pa.scalar(None, pa.string()), texts)
    rejected = {} if column.nullable else dict.fromkeys(_positions(absent), f"{name}: empty")
    if column.type == "string":
        return Converted(given, rejected=rejected)
    if column.type == "timestamp":
        return _timestamps(name, zone, given, rejected)
    values = _cast(given, PATTERNS[column.type], ARROW_TYPES[column.type])
    if column.type == "float64":
        values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float64()))
    return Converted(values, _wrong_type(name, column.type, given, values), rejected)


def from_values(name: str, column: Column, zone: str | None, values: Sequence[object], *, as_text: bool) -> Converted:
    """Type a column of JSON values.

    Args:
        name: The column's name.
        column: Its declaration.
        zone: Zone of naive timestamps; without it they are refused.
        values: Python values, None where there is none.
        as_text: Whether the text of a number counts as the number (as in a CSV file).
    """
    writer = WRITERS[column.type]
    texts: list[str | None] = []
    wrong: list[object] = []
    for value in values:
        text = None if value is None else writer(value)
        if text is None and as_text and isinstance(value, str):
            text = value
        if text is None and value is not None and not _is_nan(value):
            wrong.append(value)
        texts.append(text)
    if wrong:
        failure = CheckFailure(f"not of type {column.type}", name, len(wrong), tuple(wrong[:MAX_EXAMPLES]))
        return Converted(pa.nulls(len(texts), ARROW_TYPES[column.type]), (failure,))
    return from_texts(name, column, zone, pa.array(texts, pa.string()), not_given=NOT_GIVEN if as_text else ("",))


def from_array(name: str, column: Column, zone: str | None, array: pa.Array) -> Converted:
    """Type a column of a typed file (Parquet): widening is fine, anything else is a wrong type."""
    if kinds.is_dictionary(array.type):
        array = array.dictionary_decode()
    if kinds.is_large_string(array.type) or kinds.is_null(array.type):
        array = array.cast(pa.string())
    if kinds.is_string(array.type) and (column.type in ("string", "timestamp") or array.null_count == len(array)):
        return from_texts(name, column, zone, array, not_given=("",))
    if column.type == "timestamp" and kinds.is_timestamp(array.type):
        return _typed_timestamps(name, column, zone, array)
    fits = {"int64": kinds.is_integer, "float64": _is_number, "bool": kinds.is_boolean}.get(column.type)
    if fits is None or not fits(array.type):
        failure = CheckFailure(
            f"of type {array.type} in the file, declared {column.type}", name, len(array), tuple(array[:3].to_pylist())
        )
        return Converted(pa.nulls(len(array), ARROW_TYPES[column.type]), (failure,))
    values = array.cast(ARROW_TYPES[column.type])
    if column.type == "float64":
        values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float64()))
    return Converted(values, rejected=_empty_rows(name, column, values))


def _timestamps(name: str, zone: str | None, given: pa.Array, rejected: dict[int, str]) -> Converted:
    """Texts with an offset are converted, naive ones are local times of the source's zone."""
    zoned = pc.match_substring_regex(given, WITH_OFFSET)
    nothing = pa.scalar(None, pa.string())
    moments = _cast(pc.if_else(zoned, given, nothing), WITH_OFFSET, UTC_TIMESTAMP)
    local = _cast(pc.if_else(zoned, nothing, given), "", pa.timestamp("us"))
    failures = _wrong_type(name, "timestamp", given, pc.coalesce(moments, local.cast(UTC_TIMESTAMP)))
    naive = _in_zone(name, zone, local, given, rejected)
    return Converted(pc.coalesce(moments, naive.values), failures + naive.failures, naive.rejected, naive.texts)


def _in_zone(name: str, zone: str | None, local: pa.Array, shown: pa.Array, rejected: dict[int, str]) -> Converted:
    """Local times of a zone; ``shown`` is how they stand in the file."""
    if zone is None:
        naive = shown.filter(pc.is_valid(local))
        reason = "has no offset from UTC, and the source declares no timezone"
        failures = (
            (CheckFailure(reason, name, len(naive), tuple(naive[:MAX_EXAMPLES].to_pylist())),) if len(naive) else ()
        )
        return Converted(pa.nulls(len(local), UTC_TIMESTAMP), failures, rejected)
    values, never = localize(local, zone)
    texts = {n: str(shown[n].as_py()) for n in _positions(never)}
    gaps = {n: f"{name}: {text} does not exist in {zone} (clocks went forward)" for n, text in texts.items()}
    return Converted(values, rejected=rejected | gaps, texts=texts)


def localize(local: pa.Array, zone: str) -> tuple[pa.Array, pa.Array]:
    """Local times -> UTC, and which of them never were (null in the result).

    An hour that was twice counts as the first of the two.
    """
    before = pc.assume_timezone(local, zone, ambiguous="earliest", nonexistent="earliest").cast(UTC_TIMESTAMP)
    after = pc.assume_timezone(local, zone, ambiguous="earliest", nonexistent="latest").cast(UTC_TIMESTAMP)
    never = pc.fill_null(pc.not_equal(before, after), False)
    return pc.if_else(never, pa.scalar(None, UTC_TIMESTAMP), before), never


def _typed_timestamps(name: str, column: Column, zone: str | None, array: pa.Array) -> Converted:
    if array.type.tz is not None:
        values = array.cast(UTC_TIMESTAMP, safe=False)
        return Converted(values, rejected=_empty_rows(name, column, values))
    local = array.cast(pa.timestamp("us"), safe=False)
    return _in_zone(name, zone, local, local, _empty_rows(name, column, local))


def _cast(texts: pa.Array, pattern: str, target: pa.DataType) -> pa.Array:
    """Cast what fits the pattern and the type; null for the rest."""
    candidates = pc.if_else(pc.match_substring_regex(texts, pattern), texts, pa.scalar(None, pa.string()))
    try:
        return candidates.cast(target)
    except pa.ArrowInvalid:
        return pa.concat_arrays([_cast_one(value, target) for value in candidates])


def _cast_one(value: pa.Scalar, target: pa.DataType) -> pa.Array:
    try:
        return pa.array([value.as_py()], pa.string()).cast(target)
    except pa.ArrowInvalid:
        return pa.nulls(1, target)


def _wrong_type(name: str, declared: str, given: pa.Array, values: pa.Array) -> tuple[CheckFailure, ...]:
    wrong = given.filter(pc.and_(pc.is_valid(given), pc.is_null(values)))
    if not len(wrong):
        return ()
    return (CheckFailure(f"not of type {declared}", name, len(wrong), tuple(wrong[:MAX_EXAMPLES].to_pylist())),)


def _empty_rows(name: str, column: Column, values: pa.Array) -> dict[int, str]:
    return {} if column.nullable else dict.fromkeys(_positions(pc.is_null(values)), f"{name}: empty")


def _positions(mask: pa.Array) -> list[int]:
    return pc.indices_nonzero(mask).to_pylist()


def _is_number(kind: pa.DataType) -> bool:
    return kinds.is_integer(kind) or kinds.is_floating(kind)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _int_text(value: object) -> str | None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value != value
        or value in (math.inf, -math.inf)
    ):
        return None
    return str(int(value)) if value == int(value) else None


def _float_text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return repr(float(value))


def _bool_text(value: object) -> str | None:
    return str(value).lower() if isinstance(value, bool) else None


def _moment_text(value: object) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else _text(value)


WRITERS: dict[str, Callable[[object], str | None]] = {
    "string": _text,
    "int64": _int_text,
    "float64": _float_text,
    "bool": _bool_text,
    "timestamp": _moment_text,
}
