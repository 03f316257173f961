"""Which releases, staged models and training sets are needed, and the removal of the rest.

Kept: the champion; what a rollback can go back to (the newest ``AIRWORTHY_KEEP_RELEASES`` that really served); every open
challenger; what a live worker answers with; and whatever changed less than ``AIRWORTHY_KEEP_DAYS`` ago. Staged models and
training sets follow the releases that they belong to. Ledger rows, MLflow's runs and cards stay.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import func, select

from airworthy.config import UseCase, get_settings
from airworthy.errors import ReleaseError
from airworthy.lake.landing import filesystem
from airworthy.ledger import promotions
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Candidate, RedactedTrainingSet, ReleaseRow, TrainingSet, VerdictRow
from airworthy.records import Record
from airworthy.training.folders import MANIFEST

log = logging.getLogger(__name__)


class ReleasePlan(Record):
    """What stays, and what would go.

    Attributes:
        needed: Why a release stays, by digest.
        releases, models, training_sets: Digests of what nobody needs.
    """

    use_case: str
    needed: dict[str, str]
    releases: tuple[str, ...]
    models: tuple[str, ...]
    training_sets: tuple[str, ...]


def plan(use_case: UseCase) -> ReleasePlan:
    """What retention would do now. Changes nothing."""
    oldest = wall_now() - timedelta(days=get_settings().keep_days)
    rows = promotions.releases(use_case.name)
    why = needed(use_case, rows, oldest)
    kept = [row for row in rows if row.digest in why]
    return ReleasePlan(
        use_case=use_case.name, needed=why,
        releases=tuple(row.digest for row in rows if row.digest not in why and _in_store("releases", row.digest)),
        models=_models(use_case, {row.model_digest for row in kept}, oldest),
        training_sets=_training_sets(use_case, [row.verdict_id for row in kept], oldest),
    )  # fmt: skip


def needed(use_case: UseCase, rows: list[ReleaseRow], oldest: datetime) -> dict[str, str]:
    """Why a release must keep its files, by digest; absent when nothing needs it.

    Args:
        use_case: The use case.
        rows: Its releases.
        oldest: What changed later than this stays.
    """
    from airworthy.delivery import candidates

    champion, count = promotions.champion(use_case.name), get_settings().keep_releases
    why: dict[str, str] = {}
    for row in rows:
        if row.state == "challenger":
            why[row.digest] = "it waits for its delivery"
        elif row.updated_at > oldest and row.state != promotions.REMOVED:
            why[row.digest] = f"{row.state} less than {get_settings().keep_days} days ago"
    for choice in candidates(use_case)[:count]:
        why[choice.digest] = "a rollback can go back to it"
    for worker in promotions.live_workers(use_case.name):
        if worker.digest:
            why[worker.digest] = f"worker {worker.instance}/{worker.pid} answers with it"
    if champion:
        why[champion.digest] = "it is champion"
    return why


def remove_releases(use_case: UseCase) -> ReleasePlan:
    """Remove what nobody needs; returns what went. Safe at any time, and to interrupt.

    A release is first marked in the ledger, under the lock that a promotion takes too: what becomes champion meanwhile stays.
    """
    found = plan(use_case)
    gone = [digest for digest in found.releases if remove_release(use_case, digest, missing_ok=True)]
    for digest in found.models:
        _remove(f"models/{digest}")
    sets = [digest for digest in found.training_sets if _remove_training_set(digest)]
    return found.model_copy(update={"releases": tuple(gone), "training_sets": tuple(sets)})


def remove_release(use_case: UseCase, digest: str, *, missing_ok: bool = False) -> bool:
    """Remove the files of one release.

    Args:
        use_case: The use case.
        digest: The release.
        missing_ok: Return False, and raise nothing, when it is needed after all.

    Raises:
        ReleaseError: something needs it; it says what.
    """
    rows = promotions.releases(use_case.name)
    why = needed(use_case, rows, wall_now() - timedelta(days=get_settings().keep_days)).get(digest)
    state = {row.digest: row.state for row in rows}.get(digest)
    marked = state == promotions.REMOVED or (not why and promotions.mark_removed(digest, "not needed any more"))
    if not marked:
        if missing_ok:
            return False
        raise ReleaseError(
            f"release {digest[:12]} of {use_case.name} stays: {why or 'it is no release, or was promoted just now'}",
            next_step="deliver another one first; `airworthy tidy --dry-run` lists what is needed and why",
        )
    _remove(f"releases/{digest}")
    log.info("%s: the files of release %s were removed", use_case.name, digest[:12])
    return True


def _models(use_case: UseCase, kept: set[str], oldest: datetime) -> tuple[str, ...]:
    """Staged models that belong to no kept release and were fitted long ago. Folders of no candidate of ours are left."""
    with transaction() as session:
        found = session.execute(
            select(Candidate.model_digest, func.max(Candidate.at))
            .where(Candidate.use_case == use_case.name)
            .group_by(Candidate.model_digest)
        ).all()
    return tuple(sorted(d for d, at in found if d not in kept and at < oldest and _in_store("models", d)))


def _training_sets(use_case: UseCase, verdicts: list[str], oldest: datetime) -> tuple[str, ...]:
    with transaction() as session:
        kept = set(
            session.scalars(
                select(VerdictRow.record["training_set_digest"].astext).where(VerdictRow.id.in_(verdicts))
            ).all()
        ) | set(
            session.scalars(
                select(Candidate.training_set).where(Candidate.use_case == use_case.name, Candidate.at >= oldest)
            ).all()
        )
        found = session.scalars(
            select(TrainingSet.digest).where(
                TrainingSet.use_case == use_case.name, TrainingSet.built_at < oldest, TrainingSet.removed_at.is_(None)
            )
        ).all()
    return tuple(sorted(set(found) - kept))


def _remove_training_set(digest: str) -> bool:
    oldest = wall_now() - timedelta(days=get_settings().keep_days)
    with transaction() as session:
        # The row's lock is held until the file is gone: who builds the same set again waits, and then writes it.
        row = session.get(TrainingSet, digest, with_for_update=True)
        if row is None or row.removed_at is not None or row.built_at >= oldest:
            return False
        redacted = session.get(RedactedTrainingSet, digest)
        row.removed_at = wall_now()
        _remove(f"training_sets/{redacted.redacted_digest if redacted else digest}.parquet")
    return True


def _in_store(kind: str, digest: str) -> bool:
    fs, path = filesystem(f"{get_settings().release_url}/{kind}/{digest}")
    return bool(fs.exists(path))


def _remove(place: str) -> None:
    """Remove a folder or file of the release store. The manifest goes first: without it a folder is not there."""
    fs, path = filesystem(f"{get_settings().release_url}/{place}")
    if fs.exists(f"{path}/{MANIFEST}"):
        fs.rm_file(f"{path}/{MANIFEST}")
    if fs.exists(path):
        fs.rm(path, recursive=True)
