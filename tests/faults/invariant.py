"""What must hold after any fault: nothing lost, nothing doubled, and every error says what, where and next.

The checker reads the landed files itself, by the standard library, and compares them with what is published.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import datetime
from typing import Any

from sqlalchemy import select

from airworthy.config import UseCase
from airworthy.intervals import Interval
from airworthy.lake import landing, quarantine, tables
from airworthy.ledger import commits
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Commit

from .world import World, file_rows, table_names

MAX_WORDS = 4000


def violations(world: World) -> list[str]:
    """Every way in which the world breaks the invariant; empty when it holds."""
    with world.here() as case:
        found = data_violations(case)
    return [*found, *(problem for event in world.history() for problem in _error(event))]


def data_violations(case: UseCase) -> list[str]:
    """Every way in which the tables, the landing zone and the ledger of this process's platform break it."""
    return [*_rows(case), *_commits(case)]


def _rows(case: UseCase) -> list[str]:
    """Acknowledged rows in = published + quarantined, as multisets of row digests, source by source."""
    found = []
    for key, decided in commits.decided_intervals(case.name).items():
        interval = Interval.of(key)
        landed = landing.landed(case, interval)
        if decided.status != "published" or landed is None or landed.digest != decided.landed_digest:
            continue
        for source, manifest in landed.manifests.items():
            content = landing.read_bytes(landing.data_file(case, manifest)) or b""
            found += [f"{key}: {words}" for words in _rows_of(case, source, interval, content)]
    return found


def _rows_of(case: UseCase, source: str, interval: Interval, content: bytes) -> list[str]:
    def counted(rows: list[dict[str, Any]], *, altered: bool = True) -> Counter[str]:
        return Counter(_digest(case, source, row, whole=altered) for row in rows)

    def table(layer: str) -> list[dict[str, Any]]:
        return list(tables.read(case.table(layer, source), interval, interval).to_pylist())

    found, given = [], file_rows(content)
    kept = [json.loads(row["row"]) for row in quarantine.read_rows(case, source, interval, interval).to_pylist()]
    acknowledged, there = counted(given, altered=False), counted(table("clean") + kept, altered=False)
    if acknowledged != there:
        lost, extra = acknowledged - there, there - acknowledged
        found.append(
            f"{source}: {lost.total()} rows lost and {extra.total()} too many of {acknowledged.total()} acknowledged"
        )
    if counted(given) != counted(table("raw")):
        found.append(f"{source}: the raw table has other rows than the file")
    return found


CONVERTED = {("tiny_sensors", "readings"): {"heat"}}
"""Columns whose values cleaning changes: a clean row is known by the others."""


def _digest(case: UseCase, source: str, row: dict[str, Any], *, whole: bool) -> str:
    """Digest of a row, from a file's texts or a table's values alike."""
    left_out = set() if whole else CONVERTED.get((case.name, source), set())
    columns = case.sources[source].columns
    values = [_plain(column.type, row[name]) for name, column in columns.items() if name not in left_out]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _plain(kind: str, value: Any) -> Any:
    if value in ("", None):
        return None
    if kind == "timestamp":
        return (value if isinstance(value, datetime) else datetime.fromisoformat(str(value))).timestamp()
    return {"float64": lambda v: repr(float(v)), "int64": int}.get(kind, lambda v: str(v).lower())(value)


def _commits(case: UseCase) -> list[str]:
    """Each interval has one committed version: what the table shows is what the ledger's newest row says."""
    found = []
    for name in table_names(case):
        history = {int(entry["version"]): entry for entry in tables.open_table(name).history()}
        found += [f"{name} {key}: {words}" for key, words in _order(name)]
        rows = tables.read(name)
        shown = set(rows["interval"].to_pylist())
        newest = commits.newest_commits(name)
        found += [f"{name} {key}: rows without a commit in the ledger" for key in sorted(shown - set(newest))]
        for key, commit in newest.items():
            here = tables.read(name, Interval.of(key), Interval.of(key))
            if (here.num_rows, tables.digest(here)) != (commit.rows, commit.digest):
                found.append(f"{name} {key}: {here.num_rows} rows that are not those of commit {commit.id}")
            entry = history.get(commit.data_version)
            if entry is None or entry.get("token") != str(commit.token):
                found.append(f"{name} {key}: version {commit.data_version} was not written under token {commit.token}")
    return found


def _order(table: str) -> list[tuple[str, str]]:
    """Commits of an interval have rising tokens and versions: no older writer came after a newer one."""
    with transaction() as session:
        rows = session.scalars(select(Commit).where(Commit.table_name == table).order_by(Commit.id)).all()
    newest: dict[str, Commit] = {}
    found = []
    for row in rows:
        before = newest.get(row.interval)
        if before is not None and (row.token < before.token or row.data_version <= before.data_version):
            found.append(
                (row.interval, f"token {row.token} wrote version {row.data_version} after token {before.token}")
            )
        newest[row.interval] = row
    return found


def _error(event: dict[str, Any]) -> list[str]:
    """What, where and next: an error of ours that names its interval or a place, with a step to take, in bounded words."""
    if "error" not in event:
        return []
    key = event["step"][1] if event["step"][0] == "ingest" else "/"
    checks = {
        "is not an error of the platform": event["ours"],
        "has no next step": event["next"],
        "does not say where": key in event["what"] or "/" in event["what"],
        "is too long": len(event["what"]) <= MAX_WORDS,
    }
    return [
        f"{event['step']}: {event['error']} {words}: {event['what'][:200]}"
        for words, good in checks.items()
        if not good
    ]
