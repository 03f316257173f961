"""What lineage starts from, found by the words that people have: a prediction's id, a version, a digest, a file, an interval."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pyarrow.compute as pc
from deltalake import DeltaTable
from sqlalchemy import select

from airworthy.config import UseCase, get_settings
from airworthy.config.use_case import use_cases
from airworthy.errors import ConfigurationError
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger import promotions
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Commit, ReleaseRow, TrainingSet

Kind = Literal["prediction", "release", "training_set", "interval", "file"]
VERSION = re.compile(r"(?:(?P<case>[a-z][a-z0-9_]*)/)?v?(?P<version>\d{1,6})(?:-(?P<digest>[0-9a-f]+))?")
DIGEST = re.compile(r"[0-9a-f]{6,64}")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Thing:
    """Something that has a lineage.

    Attributes:
        use_case: Whose it is.
        kind: What it is.
        key: Its id or digest; ``<table>/<day>`` of an interval; ``<source>/<day>`` of a landed file.
        record: A prediction's record.
    """

    use_case: UseCase
    kind: Kind
    key: str
    record: dict[str, Any] | None = None


def find(words: str) -> Thing:
    """The thing that someone means.

    Args:
        words: A prediction's id; a version such as ``3``, ``v3``, ``flight_delays/3`` or ``v3-0f9c2b7a11d4``; the first digits
            of a release's, model's or training set's digest; a landed file's path; ``<use_case>/<layer>/<table>/<day>``.

    Raises:
        ConfigurationError: there is no such thing, or several; the message names them.
    """
    words = words.strip().rstrip("/")
    found: list[Thing] = []
    for search in (_place, _version, _digest, _prediction):
        found = search(words)
        if found:
            break
    if not found:
        raise ConfigurationError(
            f"there is no prediction, version, digest, landed file or interval {words[:200]!r}",
            next_step="give a prediction's id, a version (3 or flight_delays/3), first digits of a digest, or a landed file",
        )
    if len(found) > 1:
        names = ", ".join(f"{t.use_case.name} {t.kind.replace('_', ' ')} {t.key[:12]}" for t in found[:5])
        raise ConfigurationError(
            f"{words!r} fits several: {names}", next_step="say which, as in flight_delays/3, or give more digits"
        )
    return found[0]


def release_of(thing: Thing) -> ReleaseRow:
    """The release that is meant, or that answered a prediction.

    Raises:
        ConfigurationError: it is neither.
    """
    digest = (thing.record or {}).get("release", "") if thing.kind == "prediction" else thing.key
    with transaction() as session:
        row = session.get(ReleaseRow, digest)
    if row is None:
        raise ConfigurationError(
            f"{thing.kind.replace('_', ' ')} {thing.key[:24]} is of no release that the ledger knows",
            next_step="give a version (3 or flight_delays/3) or a prediction's id",
        )
    return row


def _place(words: str) -> list[Thing]:
    """A landed file or folder, by path or URL; an interval of a table."""
    landing = get_settings().landing_url
    for case in use_cases().values():
        for source in case.sources:
            for start in (
                f"{landing}/{case.name}/{source}/",
                f"{case.name}/{source}/",
                f"landing/{case.name}/{source}/",
            ):
                day = words.removeprefix(start).partition("/")[0]
                if words.startswith(start) and DAY.fullmatch(day):
                    return [Thing(case, "file", f"{source}/{day}")]
        table, _, day = words.rpartition("/")
        if table.startswith(f"{case.name}/") and DAY.fullmatch(day.removeprefix("interval=")):
            return [Thing(case, "interval", f"{table}/{day.removeprefix('interval=')}")]
    return []


def _version(words: str) -> list[Thing]:
    match = VERSION.fullmatch(words)
    if match is None:
        return []
    return [
        Thing(case, "release", row.digest)
        for case in use_cases().values()
        if match["case"] in (None, case.name)
        for row in promotions.releases(case.name)
        # A copied release answers with the number that it was made with, and has another in the registry here.
        if (row.digest.startswith(match["digest"]) if match["digest"] else row.version == int(match["version"]))
    ]


def _digest(words: str) -> list[Thing]:
    if not DIGEST.fullmatch(words):
        return []
    like = f"{words}%"
    found: dict[tuple[str, str], Thing] = {}
    with transaction() as session:
        releases = session.scalars(
            select(ReleaseRow).where(
                ReleaseRow.use_case.in_(use_cases()), ReleaseRow.digest.like(like) | ReleaseRow.model_digest.like(like)
            )
        ).all()
        sets = session.scalars(
            select(TrainingSet).where(TrainingSet.use_case.in_(use_cases()), TrainingSet.digest.like(like))
        ).all()
    for row in releases:
        found["release", row.digest] = Thing(use_cases()[row.use_case], "release", row.digest)
    for one in sets:
        found["training_set", one.digest] = Thing(use_cases()[one.use_case], "training_set", one.digest)
    return list(found.values())


def _prediction(words: str) -> list[Thing]:
    return [
        Thing(case, "prediction", words, record)
        for case in use_cases().values()
        if (record := _logged(case, words) or _spooled(case, words))
    ]


def _logged(case: UseCase, identity: str) -> dict[str, Any] | None:
    import json

    from airworthy.monitoring.collect import log_table

    if not DeltaTable.is_deltatable(tables.url(log_table(case))):
        return None
    rows = tables.dataset(log_table(case)).to_table(filter=pc.field("prediction_id") == identity).to_pylist()
    if not rows:
        return None
    row: dict[str, Any] = rows[0]
    return {**row, **{name: json.loads(row[name]) for name in ("id", "request", "features")}}


def _spooled(case: UseCase, identity: str) -> dict[str, Any] | None:
    """A prediction that was not collected yet."""
    from airworthy.serving import spool

    for path in reversed(spool.files(get_settings().spool, case.name)):
        for record, _ in spool.read(path):
            if record.get("prediction_id") == identity:
                times = {name: datetime.fromisoformat(record[name]) for name in ("at", "prediction_time")}
                return {**record, **times}
    return None


def is_scores(case: UseCase, table: str) -> bool:
    """Whether a table holds batch predictions."""
    from airworthy.serving import batch

    return table == case.table(batch.LAYER, batch.NAME)


def scored_by(table: str, day: str) -> list[str]:
    """Digests of the releases that predicted an interval of batch predictions."""
    interval = Interval.of(day)
    return sorted(pc.unique(tables.read(table, interval, interval, columns=["release"])["release"]).to_pylist())


def commit_in(table: str, day: str, version: int | None = None) -> Commit | None:
    """The commit of an interval that counts in a version of its table (the newest by default)."""
    query = select(Commit).where(Commit.table_name == table, Commit.interval == day)
    if version is not None:
        query = query.where(Commit.data_version <= version)
    with transaction() as session:
        return session.scalar(query.order_by(Commit.id.desc()).limit(1))
