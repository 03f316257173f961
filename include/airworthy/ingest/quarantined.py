"""What is in quarantine, for operators: rejected rows of published intervals, and files that were refused whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from airworthy.config import UseCase
from airworthy.errors import CheckFailure
from airworthy.intervals import Interval
from airworthy.lake import quarantine, tables
from airworthy.lake.duck import session
from airworthy.lake.tables import INTERVAL
from airworthy.ledger.commits import decided_intervals
from airworthy.ledger.models import IngestedInterval


@dataclass(frozen=True)
class Entry:
    """One line of the list.

    Attributes:
        interval: Key of the interval.
        source: The source.
        rows: Rows that share the reason; 0 for a file that was refused whole.
        reason: Why.
        file: The refused file.
    """

    interval: str
    source: str
    rows: int
    reason: str
    file: str = ""


def entries(
    use_case: UseCase, first: Interval | None = None, last: Interval | None = None, source: str | None = None
) -> list[Entry]:
    """Everything in quarantine, by interval, source and reason.

    Args:
        use_case: The use case.
        first, last: Intervals to look at, both included; all when not given.
        source: Only this one.
    """
    found: list[Entry] = []
    for name in [source] if source else use_case.sources:
        found += _rows(use_case, name, first, last)
    for key, decided in decided_intervals(use_case.name).items():
        inside = (first is None or first.key <= key) and (last is None or key <= last.key)
        if inside and decided.status == "rejected":
            found += [e for e in _files(use_case, decided) if source in (None, e.source)]
    return sorted(found, key=lambda e: (e.interval, e.source, e.reason))


def contents(use_case: UseCase, interval: Interval, *, source: str | None = None, limit: int = 20) -> dict[str, Any]:
    """What an interval has in quarantine, with the reasons; values of tagged columns are masked.

    Args:
        use_case: The use case.
        interval: The interval.
        source: Only this one.
        limit: At most so many rows of each source.
    """
    decided = decided_intervals(use_case.name).get(interval.key)
    shown: dict[str, Any] = {"interval": interval.key, "status": decided.status if decided else "never ingested"}
    if decided:
        shown["reason"] = decided.reason
    for name in [source] if source else use_case.sources:
        rows = quarantine.read_rows(use_case, name, interval, interval)
        if rows.num_rows:
            first = [_shown(use_case, name, row) for row in rows.slice(0, limit).to_pylist()]
            shown[name] = {"rows": rows.num_rows, "first": first}
        if decided and (reason := quarantine.read_reason(use_case, interval, decided.landed_digest, name)):
            where = quarantine.files_folder(use_case, interval, decided.landed_digest)
            shown[f"{name} (file)"] = reason | {"folder": where}
    return shown


def _shown(use_case: UseCase, source: str, row: dict[str, Any]) -> dict[str, Any]:
    masks = use_case.sources[source].masks
    values = {n: masks[n] if n in masks and v is not None else v for n, v in json.loads(row["row"]).items()}
    # The digest of a masked row would let a short value be guessed.
    return {k: v for k, v in row.items() if k not in ("row", INTERVAL) and not (masks and k == "digest")} | {
        "row": values
    }


def _rows(use_case: UseCase, source: str, first: Interval | None, last: Interval | None) -> list[Entry]:
    kept = tables.read(use_case.table("quarantine", source), first, last, columns=[INTERVAL, "reason"])
    with session() as connection:
        connection.register("kept", kept)
        counted = connection.sql(f"SELECT {INTERVAL}, reason, count(*) FROM kept GROUP BY ALL").fetchall()  # noqa: S608
    return [Entry(key, source, rows, reason) for key, reason, rows in counted]


def _files(use_case: UseCase, decided: IngestedInterval) -> list[Entry]:
    found = []
    for source in use_case.sources:
        kept = quarantine.read_reason(use_case, Interval.of(decided.interval), decided.landed_digest, source)
        if kept is not None:
            reasons = [
                str(CheckFailure(f["check"], f["column"], f["count"], tuple(f["examples"])))
                for f in kept["failures"][:3]
            ]
            found.append(Entry(decided.interval, source, 0, "; ".join(reasons), kept["file"]))
    return found
