"""MLflow's aliases follow the promotion log; they decide nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airworthy.config import UseCase
from airworthy.ledger import promotions
from airworthy.registry.states import GONE

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIASES = ("champion", "previous", "challenger")


def wanted(use_case: UseCase) -> dict[str, int]:
    """What the aliases must be by the ledger, alias to version."""
    log = promotions.changes(use_case.name)
    digests: dict[str, str | None] = {}
    if log:
        digests = {"champion": log[-1].to_digest, "previous": log[-1].from_digest}
    states = {release.digest: release.state for release in promotions.releases(use_case.name)}
    if states.get(digests.get("previous") or "") in GONE:
        # Nobody must take for the one before what never answered, or has no files any more.
        del digests["previous"]
    challengers = [digest for digest, state in states.items() if state == "challenger"]
    if challengers:
        digests["challenger"] = challengers[-1]
    versions = {alias: promotions.get_release(digest) for alias, digest in digests.items() if digest}
    return {alias: release.version for alias, release in versions.items() if release and release.version is not None}


def reconcile(mlflow: MlflowClient, name: str, use_case: UseCase) -> dict[str, int]:
    """Set, move and delete the three aliases until they are right; others are left alone."""
    right = wanted(use_case)
    present = {alias: int(version) for alias, version in mlflow.get_registered_model(name).aliases.items()}
    for alias in ALIASES:
        if alias in right and present.get(alias) != right[alias]:
            mlflow.set_registered_model_alias(name, alias, str(right[alias]))
        elif alias not in right and alias in present:
            mlflow.delete_registered_model_alias(name, alias)
    return right
