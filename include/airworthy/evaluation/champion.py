"""The champion with its pedigree: its release, the verdict that let it serve, the training set that it came from."""

from __future__ import annotations

from dataclasses import dataclass

from airworthy.errors import ReleaseError
from airworthy.ledger import promotions
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TrainingSet
from airworthy.records import Release, TrainingSetRef, Verdict


@dataclass(frozen=True)
class ChampionRecord:
    """What the ledger knows of the champion.

    Attributes:
        release: Its release.
        verdict: The verdict that it was released by; None when the ledger lost it.
        training_set: What it was trained on; None when the ledger lost it.
    """

    release: Release
    verdict: Verdict | None
    training_set: TrainingSetRef | None


def champion_record(use_case: str) -> ChampionRecord | None:
    """The champion by the promotion log; None before the first promotion.

    Raises:
        ReleaseError: the promotion log names a release that the ledger does not know.
    """
    champion = promotions.champion(use_case)
    if champion is None:
        return None
    release = promotions.get_release(champion.digest)
    if release is None:
        raise ReleaseError(
            f"the champion of {use_case}, release {champion.digest[:12]}, is not in the ledger's releases",
            next_step="restore the ledger from its backup, or roll back to a release that it knows",
        )
    verdict = promotions.get_verdict(release.verdict_id)
    return ChampionRecord(release, verdict, _training_set(verdict.training_set_digest) if verdict else None)


def _training_set(digest: str) -> TrainingSetRef | None:
    with transaction() as session:
        row = session.get(TrainingSet, digest)
    return TrainingSetRef.model_validate(row.ref) if row else None
