"""Releases of the pipeline itself: a folder named by its digest, and the environment that its lock describes.

``var/pipeline/releases/<digest>/`` holds the wheel, the lock, DAGs, plugins, suites, feature definitions and a manifest that
names the digest of every file. ``var/pipeline/environments/`` holds an environment for each lock (shared by all releases
with that lock, and never built again) and, for each release, a thin one: its wheel, and a pointer to the lock's.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airworthy.config import get_settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.errors import ConfigurationError, ReleaseError, ServiceUnavailableError
from airworthy.ledger import pipeline_releases as ledger
from airworthy.platform import revisions
from airworthy.platform.code_identity import of_record
from airworthy.platform.staging import stage
from airworthy.platform.staging_run import Staged
from airworthy.records import Record
from airworthy.training.folders import MANIFEST, canonical_manifest, sha256

Say = Callable[[str], None]
FOLDERS = ("airflow", "dags", "plugins", "great_expectations", "feature_repo")
FILES = ("uv.lock", "pyproject.toml")
CACHES = ("__pycache__", ".ruff_cache")
BUILD_TIMEOUT_S, SYNC_TIMEOUT_S = 600, 1800
DONE, BUILDING = ".complete", ".building-"


class PipelineRelease(Record):
    """A release of the pipeline.

    Attributes:
        digest: Of its manifest; the folder's name.
        revision: The commit that it was built from, and ``tested_by`` whom it is vouched for.
        wheel: File name of the wheel, and ``wheel_sha256`` its digest.
        lock_sha256: Digest of the lock.
        code: Digest of the wheel's content, by which a task knows its own (``code_identity``).
    """

    digest: str
    revision: str
    tested_by: str
    version: str
    wheel: str
    wheel_sha256: str
    lock_sha256: str
    code: str

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return releases_folder() / self.digest

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return environments_folder() / f"release-{self.digest}" / "bin" / "python"


def releases_folder() -> Path:
    """Where the releases are."""
    return get_settings().var / "pipeline" / "releases"


def environments_folder() -> Path:
    """Where the environments are."""
    return get_settings().var / "pipeline" / "environments"


def build(revision: str, *, say: Say = lambda _: None) -> PipelineRelease:
    """Build the release of a tested revision, with its environment; the same revision again gives the same release.

    Args:
        revision: A whole commit id of the configured repository.
        say: Told what happens.

    Raises:
        UntestedError: nothing vouches for the revision, or its wheel is not the one that was tested.
        ConfigurationError: no git, no repository, no such revision, no uv.
        ServiceUnavailableError: the package index does not answer, or the revision cannot be built.
    """
    mirror = revisions.fetch()
    vouched = revisions.attestation(mirror, revision)
    say(f"revision {revision[:12]} was tested by {vouched.by}")
    with held():
        release = _build(mirror, vouched, say)
        environment(release, say=say)
        ledger.record_built(release.digest, revision, release.to_json())
    return release


def _build(mirror: Path, vouched: revisions.Attestation, say: Say) -> PipelineRelease:
    root, revision = releases_folder(), vouched.revision
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=BUILDING, dir=root) as scratch:
        source, folder = Path(scratch) / "source", Path(scratch) / "release"
        revisions.export(mirror, revision, source)
        wheel = build_wheel(source, Path(scratch) / "wheels")
        say(f"built {wheel.name}")
        if sha256(wheel.read_bytes()) != vouched.wheel:
            raise revisions.UntestedError(
                f"the wheel of revision {revision[:12]} has SHA-256 {sha256(wheel.read_bytes())[:12]}, and the tested one "
                f"{vouched.wheel[:12]}: another package would run than the one that was tested",
                next_step="test the revision again where the same build tools are",
            )
        release = _assemble(source, wheel, folder, vouched)
        if not _whole(release):
            shutil.rmtree(release.folder, ignore_errors=True)
            folder.rename(release.folder)
    say(f"release {release.digest[:12]}: {release.folder}")
    return release


@contextmanager
def held(*, alone: bool = False) -> Iterator[bool]:
    """Keep releases and environments from being removed: whoever builds, tries or asks for one does; several may at once.

    Args:
        alone: Only when nobody does: of who removes them.

    Yields:
        Whether it is so; always, but for one that wants to be alone.
    """
    folder = get_settings().var / "pipeline"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "releases.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except BlockingIOError:
            yield False
            return
        yield True


def build_wheel(source: Path, target: Path) -> Path:
    """Build the wheel of a checkout; the same files give the same bytes."""
    _uv("build", "--wheel", "--quiet", "--python", sys.executable, "--out-dir", str(target), str(source))
    (wheel,) = target.glob("*.whl")
    return wheel


def read(digest: str) -> PipelineRelease:
    """A release that was built, every file checked first.

    Raises:
        ReleaseError: it is not here, a file was altered, or there is one that it does not name.
    """
    folder = releases_folder() / digest
    try:
        raw = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise _damaged(folder, "its manifest is not there") from error
    if sha256(raw) != digest:
        raise _damaged(folder, "its manifest was altered")
    facts: dict[str, Any] = json.loads(raw)
    named: dict[str, str] = facts.pop("files")
    present = {str(path.relative_to(folder)): path for path in _files(folder)} | {MANIFEST: folder / MANIFEST}
    if wrong := sorted(set(present) ^ {*named, MANIFEST}):
        raise _damaged(folder, f"{wrong[0]} is missing, or was not released")
    for name, expected in named.items():
        if sha256(present[name].read_bytes()) != expected:
            raise _damaged(folder, f"{name} was altered")
    return PipelineRelease(digest=digest, **facts)


def find(words: str) -> PipelineRelease:
    """A release by the start of its digest.

    Raises:
        ReleaseError: none, or several.
    """
    root = releases_folder()
    found = [p.name for p in root.glob(f"{words}*") if p.is_dir() and len(p.name) == 64] if words.isalnum() else []
    if len(found) != 1:
        raise ReleaseError(
            f"{len(found)} releases of the pipeline begin with {words[:64]!r}", next_step="see `airworthy release list`"
        )
    return read(found[0])


def try_in_staging(release: PipelineRelease, *, say: Say = lambda _: None) -> Staged:
    """Play the samples with a release, in its own environment; what came of it is kept in the ledger.

    Raises:
        StagingFailedError: a step failed.
    """
    with held():
        environment(release, say=say)
        staged = stage(release.python, release.folder, say=say)
    ledger.record_staged(release.digest, staged.to_json())
    return staged


def environment(release: PipelineRelease, *, say: Say = lambda _: None) -> Path:
    """The interpreter of a release's environment, which is made when it is not there yet.

    Raises:
        ServiceUnavailableError: the package index does not answer.
    """
    shared = _shared(release, say)
    home = environments_folder() / f"release-{release.digest}"
    with _making(home) as wanted:
        if wanted:
            _uv("venv", "--quiet", "--python", sys.executable, str(home))
            libraries, own = _site(shared), _site(home)
            # The wheel is found before the libraries, and nothing of the lock's environment is copied or changed.
            (own / "_locked.pth").write_text(f"import site; site.addsitedir({str(libraries)!r})\n")
            _uv(
                "pip", "install", "--quiet", "--no-deps", "--no-index", "--python", str(home / "bin" / "python"),
                str(release.folder / release.wheel),
            )  # fmt: skip
    return release.python


def _shared(release: PipelineRelease, say: Say) -> Path:
    """The environment of a lock, made once."""
    home = environments_folder() / f"lock-{release.lock_sha256[:32]}-{sys.version_info.major}.{sys.version_info.minor}"
    with _making(home) as wanted:
        if wanted:
            say(f"installing the lock {release.lock_sha256[:12]}")
            _uv(
                "sync", "--quiet", "--frozen", "--no-dev", "--no-install-project", "--python", sys.executable,
                "--project", str(release.folder), home=home,
            )  # fmt: skip
        else:
            say(f"the lock {release.lock_sha256[:12]} is installed already")
    return home


@contextmanager
def _making(home: Path) -> Iterator[bool]:
    """Whether an environment is to be made; one at a time, and what a killed one left is removed first."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (home / DONE).exists():
            yield False
            return
        shutil.rmtree(home, ignore_errors=True)
        yield True
        (home / DONE).touch()


def _site(home: Path) -> Path:
    return home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _assemble(source: Path, wheel: Path, folder: Path, vouched: revisions.Attestation) -> PipelineRelease:
    folder.mkdir()
    for name in FOLDERS:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns(*CACHES))
    for name in FILES:
        shutil.copy(source / name, folder / name)
    shutil.copy(wheel, folder / wheel.name)
    digests = {str(p.relative_to(folder)): sha256(p.read_bytes()) for p in _files(folder)}
    with zipfile.ZipFile(wheel) as content:
        (record,) = [n for n in content.namelist() if n.endswith(".dist-info/RECORD")]
        code = of_record(content.read(record).decode())
    facts = {
        "revision": vouched.revision, "tested_by": vouched.by, "version": wheel.name.split("-")[1], "wheel": wheel.name,
        "wheel_sha256": digests[wheel.name], "lock_sha256": digests["uv.lock"], "code": code,
    }  # fmt: skip
    manifest = canonical_manifest(digests, facts)
    (folder / MANIFEST).write_bytes(manifest)
    return PipelineRelease(digest=sha256(manifest), **facts)


def _files(folder: Path) -> Iterator[Path]:
    """Every file of a release but its manifest; compiled code comes and goes."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise _damaged(folder, f"{path.relative_to(folder)} is a link")
        if path.is_file() and path != folder / MANIFEST and not set(CACHES) & set(path.parts):
            yield path


def _whole(release: PipelineRelease) -> bool:
    try:
        read(release.digest)
    except ReleaseError:
        return False
    return True


def _damaged(folder: Path, why: str) -> ReleaseError:
    return ReleaseError(
        f"the release of the pipeline in {folder} cannot be used: {why}",
        next_step="build it again: `airworthy release build REVISION`",
    )


def find_uv() -> str:
    """The uv program: ``AIRWORTHY_UV``, the checkout's own, or that of the PATH.

    Raises:
        ConfigurationError: there is none.
    """
    own = PROJECT_ROOT / ".uv" / "bin" / "uv"
    found = get_settings().uv or (str(own) if own.exists() else shutil.which("uv"))
    if not found:
        raise ConfigurationError("uv is not here", next_step="run `make setup`, or set AIRWORTHY_UV to its path")
    return found


def _uv(*arguments: str, home: Path | None = None) -> None:
    environment = {
        n: v for n, v in os.environ.items() if n not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH")
    }
    environment["UV_PYTHON_DOWNLOADS"] = "never"
    # Once for each lock, while the old release runs: or the first start on it would compile everything, and be down longer.
    environment.setdefault("UV_COMPILE_BYTECODE", "1")
    if home:
        environment["UV_PROJECT_ENVIRONMENT"] = str(home)
    limit = SYNC_TIMEOUT_S if arguments[0] == "sync" else BUILD_TIMEOUT_S
    try:
        done = subprocess.run(
            [find_uv(), *arguments], env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _no_uv(arguments[0], f"no answer after {limit} s") from error
    if done.returncode:
        raise _no_uv(arguments[0], done.stderr.strip()[-800:])


def _no_uv(what: str, words: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        f"uv {what} failed: {words}",
        next_step="see whether the package index can be reached, and whether the revision can be built: `uv build`",
    )
