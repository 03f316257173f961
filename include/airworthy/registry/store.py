"""The release store: the model's files, its verdict and its card, in a folder named by the digest over all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from airworthy.config import get_settings
from airworthy.errors import ReleaseError
from airworthy.records import Release, Verdict
from airworthy.training import model_files
from airworthy.training.folders import canonical_manifest, folder_url, read_folder, sha256, write_folder
from airworthy.training.model_files import LoadedModel

VERDICT_FILE, CARD_FILE = "verdict.json", "model_card.json"
# What a release adds to the model; the model digest, which the verdict is about, covers the rest.
ADDED = (VERDICT_FILE, CARD_FILE)


def releases_url() -> str:
    """Where the release folders are."""
    return f"{get_settings().release_url}/releases"


def release_folder(digest: str) -> str:
    """URL of a release's folder."""
    return folder_url(releases_url(), digest)


def write_release(
    files: dict[str, bytes], verdict: Verdict, *, run_id: str, version: int, card: bytes = b"{}"
) -> Release:
    """Write a release's folder; the same content gives the same digest.

    Args:
        files: The model's files, as read from its folder.
        verdict: The verdict about them.
        run_id: MLflow run that fitted the model.
        version: Version of the registered model.
        card: The model card, as JSON.
    """
    facts = {
        "use_case": verdict.use_case, "model_digest": verdict.model_digest, "verdict_id": verdict.id,
        "champion_digest": verdict.champion_digest, "run_id": run_id, "version": version,
    }  # fmt: skip
    # Sorted: a verdict that comes back from the ledger has its names in another order, and must give the same release.
    record = json.dumps(verdict.to_json(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    digest, _ = write_folder(releases_url(), {**files, VERDICT_FILE: record, CARD_FILE: card}, facts)
    return _release(digest, facts)


def verify(digest: str) -> Release:
    """Check every byte of a release, and that it holds a passing verdict about exactly this model.

    Raises:
        ReleaseError: missing, altered, or without such a verdict.
    """
    return _read(digest)[0]


def load(digest: str) -> LoadedModel:
    """Load a release: digests, verdict, golden vectors, then it may answer. ``.release`` says which one it is.

    Raises:
        ReleaseError: missing, altered, without a passing verdict, or a golden vector does not come out.
    """
    release, _, files = _read(digest)
    return replace(model_files.from_files(files, release.model_digest, release_folder(digest)), release=release)


def load_verdict(digest: str) -> Verdict:
    """The verdict in a release. Raises ReleaseError when the release is missing or altered."""
    _, _, files = _read(digest)
    return Verdict.model_validate_json(files[VERDICT_FILE])


def load_card(digest: str) -> dict[str, Any]:
    """The model card in a release; empty for one from before there were cards. Raises ReleaseError as ``verify``."""
    _, _, files = _read(digest)
    card: dict[str, Any] = json.loads(files.get(CARD_FILE, b"{}"))
    return card


def _read(digest: str) -> tuple[Release, dict[str, Any], dict[str, bytes]]:
    return read_release(release_folder(digest), digest)


def read_release(folder: str, digest: str) -> tuple[Release, dict[str, Any], dict[str, bytes]]:
    """A release in any folder, its manifest and its files: every byte checked, with a passing verdict about this very model.

    Raises:
        ReleaseError: missing, altered, or without such a verdict.
    """
    manifest, files = read_folder(folder, digest)
    if VERDICT_FILE not in files or "model_digest" not in manifest:
        raise ReleaseError(
            f"{folder} is no release: it has no verdict",
            next_step="give the digest of a release, see the promotion log",
        )
    release = _release(digest, manifest)
    verdict = Verdict.model_validate_json(files[VERDICT_FILE])
    model_digests = {n: d for n, d in manifest["files"].items() if n not in ADDED}
    if (
        sha256(canonical_manifest(model_digests, {})) != release.model_digest
        or verdict.model_digest != release.model_digest
    ):
        raise ReleaseError(
            f"release {digest[:12]} holds another model than its verdict is about ({verdict.model_digest[:12]})",
            next_step="do not use it; judge the model and register it again",
        )
    if verdict.decision != "pass" or verdict.mode != "enabled" or verdict.use_case != release.use_case:
        raise ReleaseError(
            f"release {digest[:12]} has no passing verdict: {verdict.summary}",
            next_step="only a passed model may serve",
        )
    return release, manifest, files


def _release(digest: str, facts: dict[str, Any]) -> Release:
    return Release(
        use_case=facts["use_case"], digest=digest, model_digest=facts["model_digest"], version=facts["version"],
        verdict_id=facts["verdict_id"], champion_digest=facts["champion_digest"], run_id=facts["run_id"],
    )  # fmt: skip
