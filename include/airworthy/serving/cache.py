"""The last good release on local disk: a restart while the databases or the release store are away can serve."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from airworthy import registry
from airworthy.errors import AirworthyError
from airworthy.ledger.promotions import Champion
from airworthy.records import Record, Release
from airworthy.training import model_files
from airworthy.training.folders import read_folder, write_folder
from airworthy.training.model_files import LoadedModel

log = logging.getLogger(__name__)


class Kept(Record):
    """What is kept: the release, its generation, and the data time (UTC) when it began to serve here."""

    release: Release
    generation: int
    moment: datetime


class ReleaseCache:
    """A copy of the release that serves, shared by the workers of this machine.

    Args:
        root: Folder of the caches.
        use_case: Name of the use case.
    """

    def __init__(self, root: Path, use_case: str) -> None:
        self._folder = root / use_case
        self._pointer = self._folder / "champion.json"

    def load(self, digest: str) -> LoadedModel:
        """A release from the release store; from this disk when the store cannot give it and it is kept here.

        Raises:
            AirworthyError: neither has it whole; the message is about the store.
        """
        try:
            return registry.load(digest)
        except Exception as error:
            kept = self._kept()
            if kept is None or kept.release.digest != digest:
                raise
            why = error.what if isinstance(error, AirworthyError) else f"{type(error).__name__}: {error}"
            log.warning("release %s comes from the local copy, since the store does not give it: %s", digest[:12], why)
            return self._load_copy(kept)

    def keep(self, digest: str, generation: int, moment: datetime) -> None:
        """Make a release the one that a restart falls back to; copies of others are removed.

        Raises:
            OSError: the disk does not take it; what was kept before is still whole.
        """
        kept = self._kept()
        if kept is not None and kept.generation >= generation and kept.release.digest == digest:
            return
        manifest, files = read_folder(registry.release_folder(digest), digest)
        facts = {name: value for name, value in manifest.items() if name != "files"}
        write_folder(str(self._folder), files, facts)
        content = Kept(release=registry.verify(digest), generation=generation, moment=moment).model_dump_json()
        temporary = self._pointer.with_suffix(f".{os.getpid()}")
        temporary.write_text(content)
        temporary.replace(self._pointer)
        for other in self._folder.iterdir():
            if other.is_dir() and other.name != digest:
                shutil.rmtree(other, ignore_errors=True)

    def champion(self) -> Champion | None:
        """Who served last, as far as this disk knows; None when nothing is kept."""
        kept = self._kept()
        return Champion(kept.release.digest, kept.generation) if kept else None

    def moment(self) -> datetime | None:
        """Data time when that release began to serve here, UTC."""
        kept = self._kept()
        return kept.moment if kept else None

    def _kept(self) -> Kept | None:
        try:
            return Kept.model_validate(json.loads(self._pointer.read_text()))
        except (OSError, ValueError):
            return None

    def _load_copy(self, kept: Kept) -> LoadedModel:
        # Only releases that registry.load accepted are copied here, and the digest covers every byte of them.
        folder = str(self._folder / kept.release.digest)
        _, files = read_folder(folder, kept.release.digest)
        return replace(model_files.from_files(files, kept.release.model_digest, folder), release=kept.release)
