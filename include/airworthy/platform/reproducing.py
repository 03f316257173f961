"""Reproduction: a version's model made once more from its pedigree, in a new process, and compared with what is on record.

The new process runs a checkout of the recorded revision and can read the lake only: release store, MLflow and its
artefacts are settings that lead nowhere. What is compared comes from the ledger alone.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError, ReleaseError, ServiceUnavailableError
from airworthy.ledger import promotions
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Candidate, TrainingSet
from airworthy.records import Record, Release
from airworthy.training import tracking
from airworthy.training.candidates import find_candidate
from airworthy.training.fitting import lock_digest
from airworthy.training.folders import sha256

Say = Callable[[str], None]
TOLERANCE = 1e-6
NOWHERE = {
    "AIRWORTHY_RELEASE_URL": "/dev/null/releases",
    "AIRWORTHY_MLFLOW_URL": "http://127.0.0.1:1",
    "AIRWORTHY_MLFLOW_TIMEOUT": "1",
    "AIRWORTHY_ONLINE_HOST": "/dev/null",
    "AIRWORTHY_LANDING_URL": "/dev/null/landing",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
}


class Reproduction(Record):
    """What came of making a model again.

    Attributes:
        version, release, model_digest: What was to be reproduced.
        revision: Revision of the code that ran, as recorded.
        environment: Which packages it ran with.
        same: Data, predictions and metrics are the same.
        differences: What is not, in words; empty when all is.
        notes: What is worth knowing and changes nothing.
        data: Digest of the training set, recorded and found.
        model: Digest of the model's files, recorded and found.
        largest_difference: Between predictions, over a sample of the training rows; 0 when all are equal to the last bit.
        metrics: Recorded and found, by name.
    """

    use_case: str
    version: int | None
    release: str
    revision: str
    environment: str
    same: bool
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    data: tuple[str, str]
    model: tuple[str, str]
    largest_difference: float | None
    metrics: dict[str, tuple[float | None, float | None]]
    seconds: float


def reproduce(use_case: UseCase, release: Release, *, dirty: bool = False, say: Say = lambda _: None) -> Reproduction:
    """Make the model of a release again and compare.

    Args:
        use_case: The use case.
        release: The release; its files are not read.
        dirty: Go on although files differed from the recorded revision when it was trained.
        say: Told what happens.

    Raises:
        ReleaseError: the ledger has no candidate or training set of it, it was trained with changes that no revision has,
            or the data or the revision are gone.
        ConfigurationError: there is no git checkout here.
        ServiceUnavailableError: the new process failed; its last words are in the message.
    """
    started = time.monotonic()
    kept, training_set = _record(release)
    revision = kept.revision.removesuffix(tracking.DIRTY)
    if revision == "unknown":
        raise ReleaseError(
            f"nobody knows what code trained {_name(release)}: it did not run from a git checkout",
            next_step="deploy from a checkout, so that later versions know",
        )
    notes = []
    if kept.revision != revision:
        if not dirty:
            raise ReleaseError(
                f"{_name(release)} was trained with changes that revision {revision[:12]} does not have",
                next_step="`--dirty` rebuilds from the revision all the same; differences may come from those changes",
            )
        notes.append(f"it was trained with changes that revision {revision[:12]} does not have")
    with tempfile.TemporaryDirectory(prefix="airworthy-reproduce-") as name:
        scratch = Path(name)
        with _checkout(revision, scratch / "code") as code:
            say(f"revision {revision[:12]} checked out")
            python, environment = _environment(code, kept.lock, scratch, say)
            order = {"use_case": use_case.name, "training_set": training_set, "recipe": kept.recipe}
            found = _run(python, use_case, code, scratch, order)
    if "error" in found:
        raise ReleaseError(f"{_name(release)} cannot be made again: {found['error']}", next_step=found["next_step"])
    say(f"fitted again in {found['seconds']} s")
    return _compare(use_case, release, kept, found, environment, notes, time.monotonic() - started)


def _record(release: Release) -> tuple[Candidate, dict[str, Any]]:
    kept = find_candidate(release.model_digest, release.run_id) or find_candidate(release.model_digest)
    with transaction() as session:
        row = session.get(TrainingSet, kept.training_set) if kept else None
    if kept is None or row is None:
        what = "no candidate" if kept is None else f"no training set {kept.training_set[:12]}"
        raise ReleaseError(
            f"the ledger has {what} of {_name(release)}",
            next_step="only versions fitted since the ledger keeps candidates can be reproduced",
        )
    return kept, dict(row.ref)


def _name(release: Release) -> str:
    return f"{release.use_case} version {release.version} ({release.digest[:12]})"


@contextmanager
def _checkout(revision: str, folder: Path) -> Iterator[Path]:
    """A worktree of the recorded revision; it is gone afterwards."""
    root = tracking.REPOSITORY
    answer = _git(root, "worktree", "add", "--detach", "--force", str(folder), revision)
    if answer.returncode:
        words = answer.stderr.strip().splitlines()
        if not (root / ".git").exists():
            raise ConfigurationError(
                f"{root} is no git checkout",
                next_step="run it in a clone of the repository, with the platform's settings",
            )
        raise ReleaseError(
            f"revision {revision[:12]} cannot be checked out: {words[-1] if words else 'git failed'}",
            next_step="fetch it: `git fetch --all`; a revision that was never pushed is only where it was made",
        )
    try:
        yield folder
    finally:
        _git(root, "worktree", "remove", "--force", str(folder))


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def _environment(code: Path, lock: str, scratch: Path, say: Say) -> tuple[str, str]:
    """The Python to run, and which packages it has: this environment when the lock is the same, else one made for it."""
    if lock == lock_digest():
        return sys.executable, "this environment: the lock file is the same"
    there = code / "uv.lock"
    if not there.is_file() or sha256(there.read_bytes()) != lock:
        raise ReleaseError(
            f"the revision's uv.lock is not the one that it was trained with ({lock[:12]})",
            next_step="set AIRWORTHY_LOCK_FILE to the lock file of that time",
        )
    uv = tracking.REPOSITORY / ".uv" / "bin" / "uv"
    command = str(uv) if uv.exists() else shutil.which("uv")
    if command is None:
        raise ConfigurationError("uv is not here, and the lock is another", next_step="run `make setup`")
    say("the lock file is another one: its packages are installed apart")
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(scratch / "venv"), "UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("VIRTUAL_ENV", None)
    # The code itself is read from the checkout.
    answer = subprocess.run(
        [
            command, "sync", "--frozen", "--no-dev", "--no-install-project", "--project", str(code),
            "--python", sys.executable,
        ],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if answer.returncode:
        raise ServiceUnavailableError(
            f"the locked packages cannot be installed: {answer.stderr.strip()[-400:]}",
            next_step="look whether the package index can be reached",
        )
    return str(scratch / "venv" / "bin" / "python"), "packages of the recorded lock file, installed apart"


def _run(python: str, use_case: UseCase, code: Path, scratch: Path, order: dict[str, Any]) -> dict[str, Any]:
    request, answer = scratch / "order.json", scratch / "answer.json"
    request.write_text(json.dumps(order))
    done = subprocess.run(
        [python, "-m", "airworthy.platform.rebuilding", str(request), str(answer)],
        cwd=scratch, env=_variables(use_case, code, scratch), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode or not answer.exists():
        raise ServiceUnavailableError(
            f"the new process ended with {done.returncode}: {done.stderr.strip()[-600:]}",
            next_step="a revision from before `reproduce` cannot do it; else look at the error",
        )
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def _variables(use_case: UseCase, code: Path, scratch: Path) -> dict[str, str]:
    """The new process's environment: the lake and the ledger of these settings, the rest nowhere or in the scratch place."""
    settings, root = get_settings(), tracking.REPOSITORY
    own = {
        name: value for name, value in os.environ.items()
        if not name.startswith(("AIRWORTHY_", "MLFLOW_")) or name in ("AIRWORTHY_USE_CASES", "AIRWORTHY_ENV")
    }  # fmt: skip
    package = Path(str(importlib.import_module(use_case.package.partition(".")[0]).__file__)).resolve().parents[1]
    places = [code / "include", _moved(package, root, code)]
    return {
        **own, **NOWHERE,
        "AIRWORTHY_PROJECT_ROOT": str(code), "AIRWORTHY_VAR": str(scratch / "var"),
        "AIRWORTHY_LAKE_URL": settings.lake_url, "AIRWORTHY_LEDGER_DSN": settings.ledger_dsn,
        "AIRWORTHY_FEAST_REGISTRY_DSN": f"sqlite:///{scratch / 'feast.db'}",
        "AIRWORTHY_CLOCK": settings.clock, "PYTHONPATH": os.pathsep.join(dict.fromkeys(map(str, places))),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }  # fmt: skip


def _moved(place: Path, root: Path, code: Path) -> Path:
    """A folder of the repository as it is in the checkout; any other as it is."""
    resolved = root.resolve()
    return code / place.relative_to(resolved) if place.is_relative_to(resolved) else place


def _compare(
    use_case: UseCase, release: Release, kept: Candidate, found: dict[str, Any], environment: str, notes: list[str],
    seconds: float,
) -> Reproduction:  # fmt: skip
    differences = []
    if found["data_digest"] != kept.training_set:
        differences.append(
            f"the data are others: training set {found['data_digest'][:12]} ({found['rows']} rows), recorded {kept.training_set[:12]}"
        )
    largest = _largest(kept.predictions, found["predictions"])
    if largest is None:
        differences.append(
            f"predictions for {found['predictions']['rows']} rows, recorded for {kept.predictions['rows']}"
        )
    elif largest > TOLERANCE:
        differences.append(f"the predictions are others, by up to {largest:.3g} in the sample")
    verdict = promotions.get_verdict(release.verdict_id)
    judged = verdict.metrics if verdict else {}
    metrics = {f"train {n.removeprefix('train_')}": (v, found["metrics"].get(n)) for n, v in kept.metrics.items()}
    metrics |= {
        f"holdout {n}": (v, found["holdout_metrics"][n]) for n, v in judged.items() if n in found["holdout_metrics"]
    }
    for name, (recorded, again) in metrics.items():
        if recorded is not None and (again is None or not abs(recorded - again) <= TOLERANCE):
            differences.append(f"{name} is {again}, recorded {recorded}")
    if found["model_digest"] != kept.model_digest:
        notes = [*notes, "the model's files are not the same to the last byte: other packages, or another machine"]
    return Reproduction(
        use_case=use_case.name, version=release.version, release=release.digest, revision=kept.revision,
        environment=environment, same=not differences, differences=tuple(differences), notes=tuple(notes),
        data=(kept.training_set, found["data_digest"]), model=(kept.model_digest, found["model_digest"]),
        largest_difference=largest, metrics=metrics, seconds=round(seconds, 1),
    )  # fmt: skip


def _largest(recorded: dict[str, Any], found: dict[str, Any]) -> float | None:
    """Largest difference of the samples; 0 only when all predictions are equal to the last bit; None for other rows."""
    if recorded["rows"] != found["rows"]:
        return None
    if recorded["sha256"] == found["sha256"]:
        return 0.0
    pairs = zip(recorded["sample"], found["sample"], strict=True)
    return max((abs(a - b) for a, b in pairs), default=0.0) or sys.float_info.epsilon
