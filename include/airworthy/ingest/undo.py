"""What a dead correction left is taken back when the delivery after it is refused: all tables show one delivery again."""

from __future__ import annotations

import logging

from deltalake.exceptions import DeltaError
from sqlalchemy import select

from airworthy.config import UseCase
from airworthy.ingest.superseded import keep_superseded
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger.clock import data_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Commit

log = logging.getLogger(__name__)


def take_back(use_case: UseCase, interval: Interval, delivery: str, resource: str, token: int) -> list[str]:
    """Publish again, in every table of an interval that shows another one, the rows of the delivery that was published last.

    Args:
        use_case: The use case.
        interval: The interval.
        delivery: Digest of that delivery.
        resource, token: The claim under which this runs.

    Returns:
        The tables that were put right.

    Raises:
        SupersededError: a newer claim exists.
    """
    mended = []
    for source in use_case.sources:
        for layer in ("raw", "quarantine", "clean"):
            name = use_case.table(layer, source)
            good = _commit_of(name, interval, delivery)
            if good is None:
                continue
            shown = tables.read(name, interval, interval)
            if tables.digest(shown) == good.digest:
                continue
            try:
                rows = tables.read(name, interval, interval, version=good.data_version)
            except (FileNotFoundError, DeltaError) as error:
                log.warning("%s %s: version %d is gone: %s", name, interval.key, good.data_version, error)
                continue
            parts = {interval.key: rows.drop_columns([tables.INTERVAL])}
            tables.publish(name, parts, resource=resource, token=token, inputs={interval.key: delivery})
            mended.append(name)
        rows = tables.read(use_case.table("clean", source), interval, interval)
        # Nothing is replaced: what the dead correction said to be goes.
        keep_superseded(
            use_case, source, interval, before=rows, clean=rows, now=data_now(use_case), resource=resource, token=token,
            inputs=delivery,
        )  # fmt: skip
    return mended


def _commit_of(name: str, interval: Interval, delivery: str) -> Commit | None:
    """The newest commit of a delivery's rows."""
    query = select(Commit).where(Commit.table_name == name, Commit.interval == interval.key, Commit.inputs == delivery)
    with transaction() as session:
        return session.scalars(query.order_by(Commit.id.desc()).limit(1)).first()
