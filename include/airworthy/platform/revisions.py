"""Revisions in the configured git repository, and which of them are tested.

A revision is *tested* when the repository has an annotated tag ``tested/<revision>`` on it. CI pushes that tag when all
tests passed, and whoever may push such tags vouches for them: a forge protects them by their pattern. The tag's message is
the attestation, as JSON: who tested, where, and the digest of the wheel that was built beside the tests.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from pydantic import ValidationError

from airworthy.config import get_settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.errors import AirworthyError, ConfigurationError
from airworthy.ledger import pipeline_releases as ledger
from airworthy.records import Record

TAG = "tested/"
# The branch whose tested head goes to a target by itself.
BRANCHES = {"develop": "staging", "main": "production"}
REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
TIMEOUT_S = 120


class UntestedError(AirworthyError):
    """Raised when a revision has no attestation that its tests passed: it is not built, by nobody."""


class Attestation(Record):
    """What the tag of a tested revision says.

    Attributes:
        revision: The commit.
        by: Who tested: a CI run's address, a person.
        wheel: SHA-256 of the wheel that was built from it where it was tested.
    """

    revision: str
    by: str
    wheel: str


def repository() -> str:
    """Path or URL of the git repository that releases are built from; empty when there is none.

    Set by ``AIRWORTHY_PIPELINE_REPOSITORY``; the checkout that this code runs from otherwise.
    """
    given = get_settings().pipeline_repository
    if given:
        return given
    return str(PROJECT_ROOT) if (PROJECT_ROOT / ".git").exists() else ""


def absent() -> str:
    """Why there is nothing to watch, in words: no git program, no repository. Empty when there is."""
    if shutil.which("git") is None:
        return "there is no git program on the PATH"
    where = repository()
    if not where:
        return "there is no git repository: set AIRWORTHY_PIPELINE_REPOSITORY to its path or URL"
    try:
        _git("ls-remote", "--exit-code", where, "HEAD")
    except ConfigurationError as error:
        return error.what
    return ""


def tested_heads() -> list[tuple[str, str]]:
    """(revision, target) of each watched branch whose head is tested.

    Raises:
        ConfigurationError: the repository does not answer.
    """
    patterns = [f"refs/heads/{branch}" for branch in BRANCHES]
    lines = _git("ls-remote", repository(), *patterns, f"refs/tags/{TAG}*").splitlines()
    refs = {name: revision for revision, _, name in (line.partition("\t") for line in lines)}
    found = []
    for branch, target in BRANCHES.items():
        head = refs.get(f"refs/heads/{branch}")
        # An annotated tag is listed twice; the second line names the commit that it stands on.
        if head and refs.get(f"refs/tags/{TAG}{head}^{{}}") == head:
            found.append((head, target))
    return found


def untaken() -> list[tuple[str, str]]:
    """(revision, target) of each tested head that no run took yet; the way to production begins with staging."""
    heads, done = tested_heads(), ledger.taken()
    further = {revision for revision, target in heads if target == ledger.PRODUCTION}
    return [(r, t) for r, t in heads if (r, t) not in done and (t == ledger.PRODUCTION or r not in further)]


def fetch() -> Path:
    """Bring the platform's own copy of the repository up to date; returns its folder.

    Raises:
        ConfigurationError: no git, no repository, or it does not answer.
    """
    if shutil.which("git") is None or not repository():
        raise ConfigurationError(absent(), next_step="install git, or set AIRWORTHY_PIPELINE_REPOSITORY")
    mirror = get_settings().var / "pipeline" / "repository.git"
    if not (mirror / "HEAD").exists():
        mirror.parent.mkdir(parents=True, exist_ok=True)
        _git("init", "--quiet", "--bare", str(mirror))
    _git(
        "-C", str(mirror), "fetch", "--quiet", "--prune", "--force", repository(),
        "+refs/heads/*:refs/heads/*", f"+refs/tags/{TAG}*:refs/tags/{TAG}*",
    )  # fmt: skip
    return mirror


def attestation(mirror: Path, revision: str) -> Attestation:
    """What vouches for a revision.

    Args:
        mirror: The platform's copy of the repository, fetched.
        revision: A whole commit id.

    Raises:
        UntestedError: nothing does.
        ConfigurationError: it is no commit id.
    """
    if not REVISION.fullmatch(revision):
        raise ConfigurationError(
            f"{revision[:80]!r} is no revision", next_step="give the whole commit id: `git rev-parse BRANCH`"
        )
    tag = f"refs/tags/{TAG}{revision}"
    try:
        if _git("-C", str(mirror), "cat-file", "-t", tag) != "tag":
            raise _untested(revision, "its tag carries no message")
        if _git("-C", str(mirror), "rev-parse", f"{tag}^{{commit}}") != revision:
            raise _untested(revision, "its tag stands on another commit")
        message = _git("-C", str(mirror), "for-each-ref", "--format=%(contents:subject)", tag)
        return Attestation.model_validate(json.loads(message) | {"revision": revision})
    except ConfigurationError as error:
        raise _untested(revision, f"there is no tag {TAG}{revision[:12]}...") from error
    except (ValueError, TypeError, ValidationError) as error:
        raise _untested(revision, "the message of its tag is no attestation") from error


def attest(by: str, wheel: str, folder: Path = PROJECT_ROOT) -> str:
    """Tag the checkout's revision as tested; returns the tag. It is for CI, after all tests passed, to push it.

    Args:
        by: Who tested it, and where.
        wheel: SHA-256 of the wheel that was built from it.
        folder: The checkout.

    Raises:
        ConfigurationError: files differ from the revision, so that something else was tested.
    """
    if changed := _git("-C", str(folder), "status", "--porcelain", "--untracked-files=no"):
        raise ConfigurationError(
            f"{len(changed.splitlines())} files of {folder} differ from its revision: what was tested has no name",
            next_step="commit them, test again, then attest",
        )
    revision = _git("-C", str(folder), "rev-parse", "HEAD")
    message = json.dumps({"by": by, "wheel": wheel})
    _git("-C", str(folder), "tag", "--force", "--annotate", "-m", message, f"{TAG}{revision}", revision)
    return f"{TAG}{revision}"


def export(mirror: Path, revision: str, folder: Path) -> None:
    """Write the files of a revision into a folder that is not there yet."""
    folder.mkdir(parents=True)
    archive = folder.with_suffix(".tar")
    _git("-C", str(mirror), "archive", "--format=tar", f"--output={archive}", revision)
    try:
        with tarfile.open(archive) as files:
            files.extractall(folder, filter="data")
    finally:
        archive.unlink()


def _untested(revision: str, why: str) -> UntestedError:
    return UntestedError(
        f"revision {revision[:12]} is not tested: {why}",
        next_step="let CI test it (it pushes the tag), or test it yourself and push what `airworthy release attest` made",
    )


def _git(*arguments: str) -> str:
    # A repository that asks for a password must not wait for one.
    env_free = ["-c", "core.askPass=true", "-c", "credential.interactive=false"]
    try:
        done = subprocess.run(
            ["git", *env_free, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"git does not answer: {error}", next_step="see that git is installed") from error
    if done.returncode:
        words = (done.stderr.strip() or f"status {done.returncode}").splitlines()[0][:300]
        raise ConfigurationError(
            f"git {next(a for a in arguments if not a.startswith(('-', '/')))} of {repository() or 'no repository'}: {words}",
            next_step="see that AIRWORTHY_PIPELINE_REPOSITORY names a repository that can be read from here",
        )
    return done.stdout.strip()
