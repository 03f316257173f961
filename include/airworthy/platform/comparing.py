"""``python -m airworthy.platform.comparing``: the lake, releases and training sets against the ledger of the settings.

Prints a line for each difference, then how many partitions, releases and training sets it looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.compute as pc
from sqlalchemy import select

from airworthy.config import get_settings
from airworthy.errors import AirworthyError
from airworthy.lake import tables
from airworthy.ledger.commits import newest_commits
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Commit, ReleaseRow, TrainingSet
from airworthy.ledger.promotions import REMOVED
from airworthy.records import TrainingSetRef


def partitions() -> Iterator[str | None]:
    """For each interval of each table: None, or how it differs from its newest ledger row."""
    with transaction() as session:
        names = session.scalars(select(Commit.table_name).distinct().order_by(Commit.table_name)).all()
    for name in names:
        rows = tables.dataset(name)  # opened once: a table of a year has hundreds of log entries
        for key, commit in newest_commits(name).items():
            try:
                found = tables.digest(rows.to_table(filter=pc.field(tables.INTERVAL) == key))
            except Exception as error:  # a missing file has as many names as there are stores
                yield f"{name} {key} cannot be read: {error}"
                continue
            yield None if found == commit.digest else f"{name} {key} is not what commit {commit.id} published"


def releases() -> Iterator[str | None]:
    """For each release in the ledger whose files are kept: None, or why it cannot serve."""
    from airworthy.registry import verify

    with transaction() as session:
        digests = session.scalars(select(ReleaseRow.digest).where(ReleaseRow.state != REMOVED)).all()
    for digest in digests:
        try:
            verify(digest)
            yield None
        except AirworthyError as error:
            yield error.what


def training_sets() -> Iterator[str | None]:
    """For each training set in the ledger whose file is kept: None, or why it cannot be read again."""
    from airworthy.training import read_training_set

    with transaction() as session:
        rows = session.scalars(select(TrainingSet).where(TrainingSet.removed_at.is_(None))).all()
    for row in rows:
        ref = TrainingSetRef.model_validate(row.ref)
        try:
            read_training_set(
                ref.model_copy(update={"url": f"{get_settings().release_url}/training_sets/{ref.digest}.parquet"})
            )
            yield None
        except AirworthyError as error:
            yield error.what


def main() -> None:
    """Print what differs, and what was looked at."""
    import typer

    seen = []
    for kind in (partitions, releases, training_sets):
        found = list(kind())
        seen.append(len(found))
        for difference in found:
            if difference is not None:
                typer.echo(" ".join(difference.split()))
    typer.echo(" ".join(map(str, seen)))


if __name__ == "__main__":
    main()
