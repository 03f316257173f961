"""What a rollback may go to, and a small file of it for the form: a DAG file must not ask the ledger."""

from __future__ import annotations

import json
import logging
from datetime import datetime

from airworthy.config import UseCase, get_settings
from airworthy.lake.landing import write_file
from airworthy.ledger import deliveries, promotions
from airworthy.ledger.models import Promotion
from airworthy.records import Record

log = logging.getLogger(__name__)


class Candidate(Record):
    """A release that served before.

    Attributes:
        digest: The release.
        version: Version of the registered model.
        generation: When it last became champion, in the promotion log.
        served_from: The same in wall time, UTC.
        withdrawn: It was itself rolled back from, or turned down since, so that it is not the default.
    """

    digest: str
    version: int | None
    generation: int
    served_from: datetime
    withdrawn: bool


def candidates(use_case: UseCase) -> list[Candidate]:
    """Releases that really served before, the newest first, without the present champion.

    Whether one served is not read from its state, which may have changed since: a release is not offered when its files are
    gone, or when no worker ever acknowledged it. One that was turned down later is offered, as one that was rolled back from.
    """
    rows = promotions.changes(use_case.name)
    if not rows:
        return []
    never = deliveries.never_served(use_case.name)
    good = {
        r.digest: r
        for r in promotions.releases(use_case.name)
        if r.state != promotions.REMOVED and r.digest not in never
    }
    standing = [digest for digest in _standing(rows) if digest in good and good[digest].state != "refused"]
    newest = {row.to_digest: row for row in rows}
    return [
        Candidate(
            digest=row.to_digest, version=good[row.to_digest].version, generation=row.generation, served_from=row.at,
            withdrawn=row.to_digest not in standing,
        )
        for row in sorted(newest.values(), key=lambda r: -r.generation)
        if row.to_digest != rows[-1].to_digest and row.to_digest in good
    ]  # fmt: skip


def offer(use_case: UseCase) -> None:
    """Write down the releases that a rollback may go to; the newest first, with the words that a person chooses by.

    A form without it still takes any digest: what goes wrong here is logged, and costs no switch.
    """
    try:
        found = [
            f"{c.digest[:12]} v{c.version}, champion from {c.served_from:%Y-%m-%d %H:%M}"
            + (", rolled back from" if c.withdrawn else "")
            for c in candidates(use_case)
        ]
        write_file(str(get_settings().forms), f"{use_case.name}.rollback.json", json.dumps(found).encode())
    except Exception:
        log.exception("the form of %s.rollback does not offer the newest releases", use_case.name)


def _standing(rows: list[Promotion]) -> list[str]:
    """Champions not rolled back from, oldest first: a rollback takes away what came after the release it goes to."""
    standing: list[str] = []
    for row in rows:
        if row.action == "rollback" and row.to_digest in standing:
            del standing[standing.index(row.to_digest) + 1 :]
        else:
            standing = [d for d in standing if d != row.to_digest] + [row.to_digest]
    return standing
