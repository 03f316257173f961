"""Retention: small files are joined, and what nobody can need any more is removed.

Versions of a table that a training set of a live or rollback-able model was read from stay, for as long as that model can
serve; other old versions go ``AIRWORTHY_KEEP_DAYS`` after they were replaced. Of Data Docs the newest run of an interval
stays. A spool file goes when all of it is in the prediction log and its writer is gone. Of releases see ``release_retention``,
and of those of the pipeline itself ``pipeline_retention``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from sqlalchemy import select

from airworthy.config import UseCase, get_settings
from airworthy.config.use_case import use_cases
from airworthy.lake import tables
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import exclusive, transaction
from airworthy.ledger.models import Promotion, ReleaseRow, TrainingSet, VerdictRow
from airworthy.platform import pipeline_retention
from airworthy.platform.every_table import table_schemas
from airworthy.platform.page_retention import remove_old_pages
from airworthy.platform.record_retention import remove_studies, remove_usage
from airworthy.platform.release_retention import ReleasePlan, remove_releases
from airworthy.records import Record, TrainingSetRef

log = logging.getLogger(__name__)

REMNANT = timedelta(days=1)
OWNER = {"resource": "platform.housekeeping"}


class RetentionOutcome(Record):
    """What was tidied up.

    Attributes:
        joined: Small files that became part of a larger one, by table.
        removed: Files of old versions that were removed, by table.
        pinned: Old versions that stay for a model's training set, by table.
        data_docs, spool, remnants: Folders of Data Docs, spool files, and half-written files that were removed.
        studies, usage: Searches whose trials, and tries of tasks whose use, were forgotten.
        releases, models, training_sets: Digests of those that were removed: nobody could need them any more.
        pipeline: Digests of releases of the pipeline itself that were removed, and ``environments``: names of environments.
        busy: Tables that somebody was writing: the next time will do.
    """

    joined: dict[str, int]
    removed: dict[str, int]
    pinned: dict[str, tuple[int, ...]]
    data_docs: int
    spool: int
    remnants: int
    studies: int = 0
    usage: int = 0
    releases: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    training_sets: tuple[str, ...] = ()
    pipeline: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()


def tidy() -> RetentionOutcome:
    """Join small files and remove what is too old, of every use case. Safe at any time, and twice at once."""
    keep = timedelta(days=get_settings().keep_days)
    joined: dict[str, int] = {}
    removed: dict[str, int] = {}
    pinned: dict[str, tuple[int, ...]] = {}
    busy: list[str] = []
    plans: list[ReleasePlan] = []
    docs = spool = studies = usage = 0
    with exclusive("housekeeping", ""):
        for use_case in use_cases().values():
            pins = pins_of(use_case)
            for name in table_schemas(use_case):
                pinned[name] = tuple(sorted(pins.get(name, set())))
                try:
                    joined[name] = compact(name)
                except CommitFailedError:
                    busy.append(name)
                removed[name] = vacuum(name, pinned[name], keep)
            spool += collected(use_case)
            plans.append(remove_releases(use_case))
            studies += remove_studies(use_case, keep)
            usage += remove_usage(use_case)
            docs += remove_old_pages(use_case, keep)  # after the training sets, whose pages go with them
        pipeline = pipeline_retention.remove()
        return RetentionOutcome(
            pipeline=pipeline.releases, environments=pipeline.environments,
            releases=tuple(d for p in plans for d in p.releases), models=tuple(d for p in plans for d in p.models),
            training_sets=tuple(d for p in plans for d in p.training_sets),
            joined=joined, removed=removed, pinned=pinned, data_docs=docs, spool=spool, remnants=_remnants(),
            studies=studies, usage=usage, busy=tuple(busy),
        )  # fmt: skip


def pins_of(use_case: UseCase) -> dict[str, set[int]]:
    """Versions by table that must stay: what models were trained on that serve, may serve, or ever served."""
    with transaction() as session:
        # In the transaction that sees the releases: a training set is registered before any model of it.
        served = select(Promotion.to_digest).where(Promotion.use_case == use_case.name)
        verdicts = session.scalars(
            select(ReleaseRow.verdict_id).where(
                ReleaseRow.use_case == use_case.name,
                ReleaseRow.state.in_(("challenger", "champion")) | ReleaseRow.digest.in_(served),
            )
        ).all()
        digests = session.scalars(
            select(VerdictRow.record["training_set_digest"].astext).where(VerdictRow.id.in_(verdicts))
        ).all()
        recent = TrainingSet.built_at > wall_now() - timedelta(days=get_settings().keep_days)
        found = session.scalars(
            select(TrainingSet).where(TrainingSet.use_case == use_case.name, TrainingSet.digest.in_(digests) | recent)
        ).all()
    pins: dict[str, set[int]] = {}
    for row in found:
        for name, version in TrainingSetRef.model_validate(row.ref).data_versions.items():
            pins.setdefault(name, set()).add(version)
    return pins


def compact(name: str) -> int:
    """Join the small files of each interval of a table; the rows stay as they are. Returns how many files were joined.

    A writer like any other: on a handle that was loaded before, so that it fails if somebody replaced what it joins,
    and a publisher whose handle is older looks at its token again.

    Raises:
        CommitFailedError: somebody wrote to the table meanwhile; nothing was changed.
    """
    handle = tables.open_table(name)
    partitions = handle.get_add_actions(flatten=True)["partition." + tables.INTERVAL].to_pylist()
    if len(set(partitions)) == len(partitions):
        return 0
    done = handle.optimize.compact(commit_properties=CommitProperties(custom_metadata=OWNER))
    return int(done["numFilesRemoved"])


def vacuum(name: str, pins: Iterable[int], keep: timedelta, *, full: bool = True) -> int:
    """Remove files of versions that were replaced longer ago than ``keep``, but for the pinned ones.

    Args:
        name: The table.
        pins: Versions that stay.
        keep: How long ago.
        full: Also files that no version names: of killed writers, but of living ones too when ``keep`` is short.
    """
    handle = tables.open_table(name)
    present = [version for version in sorted(set(pins)) if version <= int(handle.version())]
    hours = int(keep.total_seconds() // 3600)
    files = handle.vacuum(
        retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=full, keep_versions=present,
        commit_properties=CommitProperties(custom_metadata=OWNER),
    )  # fmt: skip
    return len(files)


def collected(use_case: UseCase) -> int:
    """Remove spool files that are in the prediction log to the last byte, and that no process writes any more."""
    from airworthy.monitoring.collect import log_table
    from airworthy.serving import spool

    if not DeltaTable.is_deltatable(tables.url(log_table(use_case))):
        return 0
    handle, count = tables.open_table(log_table(use_case)), 0
    for path in spool.files(get_settings().spool, use_case.name):
        moved = handle.transaction_version(f"{use_case.name}/{path.name}") or 0
        if not spool.in_use(path) and path.stat().st_size <= moved:
            path.unlink()
            count += 1
    return count


def _remnants() -> int:
    """Remove half-written files that a killed process left; readers never see them."""
    settings, oldest, count = get_settings(), (wall_now() - REMNANT).timestamp(), 0
    for url in (settings.lake_url, settings.docs_url, settings.release_url):
        root = Path(url)
        for path in root.rglob(".*.tmp") if "://" not in url and root.exists() else ():
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
                count += 1
    return count
