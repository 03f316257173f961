"""Which releases of the pipeline itself, and which of their environments, are needed, and the removal of the rest.

Kept: the one that runs; the one that ran before it, to go back to; the newest ``AIRWORTHY_KEEP_PIPELINE_RELEASES``; one that is
on its way to approval or switch; and one that a live process runs from. An environment of a lock goes with the last
release that has this lock. While something is built, tried or switched, nothing goes: the next day will do.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from airworthy.config import get_settings
from airworthy.ledger import pipeline_releases as ledger
from airworthy.ledger.clock import wall_now
from airworthy.platform import places, processes, releasing, switching
from airworthy.records import Record
from airworthy.training.folders import MANIFEST

log = logging.getLogger(__name__)
DIGEST = re.compile(r"[0-9a-f]{64}")
OWN, SHARED = "release-", "lock-"


class PipelinePlan(Record):
    """What stays, and what would go.

    Attributes:
        needed: Why a release of the pipeline stays, by digest.
        releases: Digests of those that nobody needs.
        environments: Names of the environments that nobody needs.
    """

    needed: dict[str, str]
    releases: tuple[str, ...]
    environments: tuple[str, ...]


def plan() -> PipelinePlan:
    """What retention would do now. Changes nothing."""
    present, made = _names(releasing.releases_folder()), _names(releasing.environments_folder())
    found = {n for n in present if DIGEST.fullmatch(n)} | {n.removeprefix(OWN) for n in made if n.startswith(OWN)}
    why = needed(found) if found else {}
    stay = tuple(f"{OWN}{digest}" for digest in why) + tuple(f"{SHARED}{_lock(digest)[:32]}" for digest in why)
    return PipelinePlan(
        needed=why, releases=tuple(sorted(found - set(why))),
        environments=tuple(name for name in made if name.startswith((OWN, SHARED)) and not name.startswith(stay)),
    )  # fmt: skip


def needed(found: set[str]) -> dict[str, str]:
    """Why a release must stay, by digest; absent when nothing needs it.

    Args:
        found: Digests of the releases that have files here.
    """
    settings, why = get_settings(), dict[str, str]()
    newest = [row.digest for row in ledger.built() if row.digest in found][-settings.keep_pipeline_releases :]
    why |= dict.fromkeys(newest, f"one of the newest {settings.keep_pipeline_releases}")
    oldest = wall_now() - timedelta(days=settings.keep_days)
    for request in ledger.open_requests():
        if request.digest and request.updated_at > oldest:
            why[request.digest] = f"{request.run} is at it"
    switched = [row for row in ledger.switches() if row.state == ledger.SWITCHED]
    for row in switched[-1:]:
        why |= {row.from_digest: "it ran before, and can be gone back to"} if row.from_digest else {}
        why |= {row.to_digest: "it runs by the ledger"} if row.to_digest else {}
    if here := places.pointer().present.digest:
        why[here] = "`airworthy up` starts it"
    return _of_processes(found) | {digest: words for digest, words in why.items() if digest in found}


def remove() -> PipelinePlan:
    """Remove what nobody needs; returns what went. Safe at any time, and to interrupt."""
    nothing = PipelinePlan(needed={}, releases=(), environments=())
    if not releasing.releases_folder().is_dir():
        return nothing
    with releasing.held(alone=True) as free:
        if not free or switching.journal() or ledger.open_switch():
            log.info("a release of the pipeline is being built, tried or switched: none is removed now")
            return nothing
        found = plan()
        for digest in found.releases:
            _remove(releasing.releases_folder() / digest, first=MANIFEST)
        for name in found.environments:
            _remove(releasing.environments_folder() / name, first=releasing.DONE)
            (releasing.environments_folder() / f"{name}.lock").unlink(missing_ok=True)
        for left in releasing.releases_folder().glob(f"{releasing.BUILDING}*"):  # of a build that was killed
            shutil.rmtree(left, ignore_errors=True)
    return found


def _of_processes(found: set[str]) -> dict[str, str]:
    """Releases that a live process of this machine runs from: by its interpreter, or by where its DAGs are."""
    why: dict[str, str] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it ended meanwhile, or belongs to another user
            words = " ".join([*process.cmdline(), process.environ().get("AIRWORTHY_PROJECT_ROOT", "")])
            why |= {digest: f"{processes.words(process)} runs from it" for digest in found if digest in words}
    return why


def _lock(digest: str) -> str:
    """Digest of a release's lock; empty of a damaged one, so that every environment of a lock stays."""
    try:
        return str(json.loads((releasing.releases_folder() / digest / MANIFEST).read_text())["lock_sha256"])
    except (OSError, ValueError, KeyError):
        return ""


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def _remove(folder: Path, *, first: str) -> None:
    # Without that file the folder is not there, so that one that is removed half way is not used.
    with suppress(FileNotFoundError):
        (folder / first).unlink()
    shutil.rmtree(folder, ignore_errors=True)
    log.info("%s was removed", folder)
