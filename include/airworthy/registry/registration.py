"""Registration: a candidate with a passing verdict becomes a release and a version in MLflow."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airworthy.config import UseCase, get_settings
from airworthy.errors import ReleaseError
from airworthy.ledger import promotions
from airworthy.ledger.database import exclusive
from airworthy.records import CandidateRef, Release, Verdict
from airworthy.registry.aliases import reconcile
from airworthy.registry.card import build_card, card_bytes, publish_card
from airworthy.registry.store import write_release
from airworthy.training import model_files, tracking
from airworthy.training.folders import read_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

VERDICT_TAG, RELEASE_TAG, MODEL_TAG = "airworthy.verdict", "airworthy.release", "airworthy.model_digest"
CARD_TAG = "airworthy.model_card"


def register(use_case: UseCase, candidate: CandidateRef, verdict: Verdict) -> Release:
    """Make a release of a judged candidate; doing it again gives the same release.

    The promotion log stays as it is: a release is a challenger until it is delivered.

    Raises:
        ReleaseError: no passing verdict, one about another model, or the candidate's files are not what was judged.
        ServiceUnavailableError: MLflow does not answer.
    """
    _require_pass(use_case, candidate, verdict)
    _, files = read_folder(candidate.folder, candidate.model_digest)
    model = model_files.from_files(files, candidate.model_digest, candidate.folder)
    # MLflow has no compare-and-set: the lock saves two tasks from making two versions of one verdict. It can be lost while
    # one of them is stopped; the ledger then takes the release of one, and the other gives way to it.
    with exclusive("register", use_case.name):
        mlflow = tracking.client()
        name = registered_model(mlflow, use_case)
        version = _version(mlflow, name, candidate, verdict)
        card = build_card(use_case, candidate, verdict, model, version=version)
        made = write_release(files, verdict, run_id=candidate.run_id, version=version, card=card_bytes(card))
        release = promotions.record_release(made)
        if release == made:
            link = publish_card(use_case.name, card)
            for tag, value in ((RELEASE_TAG, release.digest), (CARD_TAG, link)):
                mlflow.set_model_version_tag(name, str(version), tag, value)
        else:
            log.warning("%s: verdict %s is release %s already", use_case.name, verdict.id, release.digest[:12])
            if version != release.version:
                mlflow.delete_model_version(name, str(version))
    reconcile_aliases(use_case)
    log.info("%s: release %s is version %d, challenger", use_case.name, release.digest[:12], release.version)
    return release


def reconcile_aliases(use_case: UseCase) -> dict[str, int]:
    """Make the aliases ``champion``, ``previous`` and ``challenger`` say what the promotion log says.

    Returns:
        The aliases as they now are, with their versions.
    """
    with exclusive("register", use_case.name):
        mlflow = tracking.client()
        return reconcile(mlflow, registered_model(mlflow, use_case), use_case)


def _require_pass(use_case: UseCase, candidate: CandidateRef, verdict: Verdict) -> None:
    problems = []
    if verdict.decision != "pass":
        problems.append(f"its decision is {verdict.decision}: {verdict.summary}")
    if verdict.mode != "enabled":
        problems.append(f"the gate was in mode {verdict.mode}")
    if verdict.model_digest != candidate.model_digest:
        problems.append(f"it is about model {verdict.model_digest[:12]}")
    if verdict.training_set_digest != candidate.training_set.digest:
        problems.append(f"it is about training set {verdict.training_set_digest[:12]}")
    if {verdict.use_case, candidate.use_case} != {use_case.name}:
        problems.append(f"candidate and verdict are of {candidate.use_case} and {verdict.use_case}")
    if not verdict.checks or not all(check.passed for check in verdict.checks):
        problems.append("not every check passed")
    if problems:
        raise ReleaseError(
            f"candidate {candidate.model_digest[:12]} of {use_case.name} cannot be released by verdict {verdict.id}: "
            + "; ".join(problems),
            next_step="judge this candidate with the gate enabled; a refused one stays refused",
        )


def registered_model(mlflow: MlflowClient, use_case: UseCase) -> str:
    """Name of the registered model of a use case in this environment, created when it is not there."""
    from mlflow.exceptions import MlflowException

    name = get_settings().model_name(use_case.name)
    try:
        mlflow.create_registered_model(name, description=use_case.problem.label)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return name


def _version(mlflow: MlflowClient, name: str, candidate: CandidateRef, verdict: Verdict) -> int:
    """The version of this verdict: found again by its tag, or created."""
    found: list[Any] = mlflow.search_model_versions(f"name = '{name}' and tag.`{VERDICT_TAG}` = '{verdict.id}'")
    if found:
        return min(int(v.version) for v in found)
    artifacts = mlflow.get_run(candidate.run_id).info.artifact_uri
    created = mlflow.create_model_version(
        name,
        source=f"{artifacts}/model",
        run_id=candidate.run_id,
        tags={VERDICT_TAG: verdict.id, MODEL_TAG: candidate.model_digest},
        description=tracking.clip(verdict.summary),
    )
    return int(created.version)
