"""A release is copied from one environment to another, never rebuilt: the same bytes, the same digest, the same verdict.

It lands as a challenger and goes through the delivery of where it lands. Its verdict was measured elsewhere, so it is believed
only where it says something: the champion here has to be the very release that it was measured against, or there is none in
both places, and the features that are deployed here have to be those that it was trained on.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airworthy import features
from airworthy.config import UseCase, get_settings
from airworthy.errors import ReleaseError, StaleVerdictError
from airworthy.lake.landing import filesystem
from airworthy.ledger import promotions
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import exclusive, transaction
from airworthy.ledger.models import Candidate
from airworthy.records import Record, Release, Verdict
from airworthy.registry.registration import (
    MODEL_TAG,
    RELEASE_TAG,
    VERDICT_TAG,
    reconcile_aliases,
    registered_model,
)
from airworthy.registry.store import ADDED, VERDICT_FILE, read_release, release_folder, releases_url
from airworthy.training import model_files, tracking
from airworthy.training.candidates import find_candidate
from airworthy.training.folders import put, write_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

PROVENANCE = "provenance.json"
DIGEST = re.compile(r"[0-9a-f]{64}")


class Provenance(Record):
    """Where a copied release comes from; written beside its folder.

    Attributes:
        env: Environment that it was copied from.
        release: The release there, with its version there.
        state: Its state there.
        champion_from, champion_until: When it answered there, wall time as ISO 8601; empty when it never did.
        candidate: Recipe, revision and figures of the fit.
        by, at: Who copied it, and when (wall time, ISO 8601).
    """

    env: str
    release: Release
    state: str
    champion_from: str
    champion_until: str
    candidate: dict[str, Any]
    by: str
    at: str

    @property
    def words(self) -> str:
        """In a line."""
        served = f", champion there from {self.champion_from[:16]}" if self.champion_from else ""
        return f"copied from {self.env}, version {self.release.version} there, {self.state}{served}; by {self.by}"


def export_release(use_case: UseCase, digest: str, target: str, *, who: str) -> str:
    """Copy a release's folder, with where it comes from beside it; returns the copy's URL.

    Args:
        use_case: The use case.
        digest: The release.
        target: Folder or URL that the copy's folder, named by its digest, is made in.
        who: The person.

    Raises:
        ReleaseError: missing, altered, or without a passing verdict.
    """
    release, manifest, files = read_release(release_folder(digest), digest)
    if release.use_case != use_case.name:
        raise ReleaseError(f"release {digest[:12]} is of {release.use_case}", next_step="name that use case's release")
    known = promotions.get_release(digest) or release
    changes = promotions.changes(use_case.name)
    began = [row for row in changes if row.to_digest == digest]
    ended = [row for row in changes if row.from_digest == digest]
    candidate = find_candidate(release.model_digest, release.run_id) or find_candidate(release.model_digest)
    states = {row.digest: row.state for row in promotions.releases(use_case.name)}
    provenance = Provenance(
        env=get_settings().env, release=known, state=states.get(digest, "unknown"),
        champion_from=began[0].at.isoformat() if began else "", champion_until=ended[-1].at.isoformat() if ended else "",
        candidate=_candidate(candidate), by=who, at=wall_now().isoformat(),
    )  # fmt: skip
    copy, folder = write_folder(target, files, {k: v for k, v in manifest.items() if k != "files"})
    if copy != digest:
        raise ReleaseError(f"the copy of {digest[:12]} is {copy[:12]}", next_step="copy the folder as it is, by hand")
    put(f"{folder}/{PROVENANCE}", json.dumps(provenance.to_json(), indent=1).encode())
    return folder


def import_release(use_case: UseCase, folder: str, *, who: str) -> Release:
    """Take a copied release in as a challenger; doing it again changes nothing.

    Args:
        use_case: The use case.
        folder: Its folder or URL, named by its digest: one that was exported, or that of another environment's store.
        who: The person.

    Raises:
        ReleaseError: no such folder, altered, no passing verdict, of another use case, or trained on other features.
        StaleVerdictError: it was measured against another champion than the one here.
        ServiceUnavailableError: MLflow does not answer; nothing was taken in.
    """
    digest = folder.rstrip("/").rpartition("/")[2]
    if not DIGEST.fullmatch(digest):
        raise ReleaseError(
            f"{folder} is not named by a digest", next_step="give the folder that `airworthy export-release` made"
        )
    made, manifest, files = read_release(folder.rstrip("/"), digest)
    verdict = Verdict.model_validate_json(files[VERDICT_FILE])
    model = model_files.from_files(files, made.model_digest, folder)
    _fits(use_case, made, verdict, model.schema)
    provenance = _provenance(folder)
    # MLflow has no compare-and-set: the lock keeps two imports from making two versions of one release.
    with exclusive("register", use_case.name):
        mlflow = tracking.client()
        name = registered_model(mlflow, use_case)
        version = _version(mlflow, name, use_case, made, files, provenance)
        write_folder(releases_url(), files, {k: v for k, v in manifest.items() if k != "files"})
        release = made.model_copy(update={"version": version})
        promotions.record_verdict(verdict, {f"import/{digest[:12]}": _cause(provenance, folder, who)})
        _keep_candidate(provenance)
        kept = promotions.record_release(release)
    if kept.digest != digest:
        raise ReleaseError(
            f"verdict {verdict.id} is release {kept.digest[:12]} here already, and {digest[:12]} says that it is its own",
            next_step=f"deliver {kept.digest[:12]}: a verdict makes one release",
        )
    reconcile_aliases(use_case)
    log.info("%s: release %s was copied here, challenger, version %d", use_case.name, digest[:12], version)
    return kept


def _fits(use_case: UseCase, release: Release, verdict: Verdict, schema: model_files.ModelSchema) -> None:
    """Whether the verdict says something here."""
    if release.use_case != use_case.name:
        raise ReleaseError(
            f"release {release.digest[:12]} is of {release.use_case}, not of {use_case.name}",
            next_step="give a release of this use case",
        )
    unlike = features.unlike(
        use_case, schema.feature_digest, schema.view_digests, features.published_definitions(use_case)
    )
    if unlike:
        raise ReleaseError(
            f"release {release.digest[:12]} was trained on other feature definitions than those deployed here: "
            + ", ".join(unlike[:5]),
            next_step="bring the pipeline of both environments to the same revision first",
        )
    present = promotions.champion(use_case.name)
    here = present.digest if present else None
    if here not in (verdict.champion_digest, release.digest):
        raise StaleVerdictError(
            f"release {release.digest[:12]} was measured against {_short(verdict.champion_digest)}, the champion here is "
            f"{_short(here)}: its verdict says nothing about that one",
            next_step="bring the champion that it was measured against first (copy and deliver it), or train here",
        )


def _version(
    mlflow: MlflowClient, name: str, use_case: UseCase, release: Release, files: dict[str, bytes],
    provenance: Provenance | None,
) -> int:  # fmt: skip
    """The version here: found again by its tag, or created on a run that says where it comes from."""
    found = mlflow.search_model_versions(f"name = '{name}' and tag.`{RELEASE_TAG}` = '{release.digest}'")
    if found:
        return min(int(v.version) for v in found)
    words = provenance.words if provenance else "copied from another release store"
    tags = {"airworthy.copied": words, MODEL_TAG: release.model_digest, "mlflow.user": get_settings().who}
    run = mlflow.create_run(
        tracking.experiment_id(mlflow, use_case), tags={k: tracking.clip(v) for k, v in tags.items()},
        run_name=f"copy of {release.digest[:12]}",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        for file, content in files.items():
            if file not in ADDED:
                (Path(scratch) / file).write_bytes(content)
        mlflow.log_artifacts(run.info.run_id, scratch, artifact_path="model")
    mlflow.set_terminated(run.info.run_id, "FINISHED")
    created = mlflow.create_model_version(
        name, source=f"{run.info.artifact_uri}/model", run_id=run.info.run_id,
        tags={RELEASE_TAG: release.digest, VERDICT_TAG: release.verdict_id, MODEL_TAG: release.model_digest},
        description=tracking.clip(words),
    )  # fmt: skip
    return int(created.version)


def _cause(provenance: Provenance | None, folder: str, who: str) -> dict[str, Any]:
    evidence: dict[str, Any] = {"from": folder}
    if provenance:
        evidence = {"env": provenance.env, "version there": provenance.release.version, "copied": provenance.at}
    return {"cause": "copied", "evidence": evidence, "requested_by": who}


def _candidate(row: Candidate | None) -> dict[str, Any]:
    names = (
        "run_id",
        "use_case",
        "model_digest",
        "training_set",
        "run",
        "recipe",
        "revision",
        "lock",
        "metrics",
        "predictions",
    )
    return {name: getattr(row, name) for name in names} if row else {}


def _keep_candidate(provenance: Provenance | None) -> None:
    """What the fit was: lineage names its revision and recipe here too. Its training set stays where it is."""
    if provenance is None or not provenance.candidate:
        return
    with transaction() as session:
        session.merge(Candidate(**provenance.candidate))


def _provenance(folder: str) -> Provenance | None:
    """What was written beside the folder; None for another environment's store, which has none."""
    fs, path = filesystem(f"{folder.rstrip('/')}/{PROVENANCE}")
    if not fs.exists(path):
        return None
    try:
        return Provenance.model_validate_json(fs.cat_file(path))
    except ValueError as error:
        raise ReleaseError(
            f"{folder}/{PROVENANCE} cannot be read", next_step="export the release again, or remove that file"
        ) from error


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "no champion"
