"""Labels that are known by now, by the id of what was predicted."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.intervals import Interval, utc
from airworthy.lake import tables

Key = tuple[Any, ...]


def labels_by_id(use_case: UseCase, first: Interval, now: datetime) -> dict[Key, bool | None]:
    """What became of each thing predicted, as far as it is known now.

    Args:
        use_case: Names the clean table, its id columns and its label.
        first: Interval of the earliest prediction; a thing predicted is in the clean table on or after its day.
        now: The data clock: labels available later are not known.

    Returns:
        By ``key_of`` its id: the outcome, or None where it is known that there is none (a cancelled flight).
    """
    prediction = use_case.prediction
    # One day earlier, since a thing may be asked about when its day is over already.
    rows = tables.read(
        use_case.table("clean", prediction.source),
        first.shift(-1),
        columns=[*prediction.id, prediction.label, "available_at"],
    )
    rows = rows.filter(pc.less_equal(rows["available_at"], pa.scalar(now, rows.schema.field("available_at").type)))
    # The newest knowledge wins: a correction is a later row of the same id.
    rows = rows.sort_by("available_at")
    return {
        key_of(r, prediction.id): None if r[prediction.label] is None else bool(r[prediction.label])
        for r in rows.to_pylist()
    }


def key_of(row: dict[str, Any], names: list[str]) -> Key:
    """An id, comparable whether it comes from the log's JSON or from the clean table."""
    return tuple(_comparable(row.get(name)) for name in names)


def _comparable(value: Any) -> Any:
    """A value of the log's JSON or of the table, made comparable: moments in UTC, whole numbers as integers."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if len(value) >= len("2013-01-01T00:00") else value
        except ValueError:
            return value
    if isinstance(value, datetime):
        return utc(value).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
