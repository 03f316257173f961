"""Where the platform's code runs from: a release of the pipeline or the checkout, and its commands there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from airworthy.config import get_settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.errors import ConfigurationError
from airworthy.platform import processes, releasing, revisions
from airworthy.platform.environment import SWITCH, inherited, paths
from airworthy.records import Record

Say = Callable[[str], None]
COMMAND_TIMEOUT_S = 900
LAST_WORDS = 800


class Place(Record):
    """Where code runs from: a release, or the checkout (no digest)."""

    digest: str | None
    python: str
    root: str

    @property
    def words(self) -> str:
        """For people."""
        return f"release {self.digest[:12]}" if self.digest else "the checkout"


class Pointer(Record):
    """What ``airworthy up`` starts, and the checkout that one may go back to."""

    present: Place
    checkout: Place


def folder() -> Path:
    """Where releases, environments, the pointer and the journal are."""
    return get_settings().var / "pipeline"


def write(name: str, record: Record) -> None:
    """Replace a file so that a reader, or the next start after a crash, sees the old one or the new one, whole."""
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        file.write(record.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def pointer() -> Pointer:
    """What the platform is to run from."""
    try:
        return Pointer.model_validate_json((folder() / "current.json").read_bytes())
    except FileNotFoundError:
        here = Place(digest=None, python=sys.executable, root=str(PROJECT_ROOT))
        return Pointer(present=here, checkout=here)


def strangers(place: Place) -> str:
    """A program that runs from elsewhere, such as one that nobody stopped."""
    for process in processes.belonging(get_settings()):
        with suppress(Exception):
            environ = process.environ()
            root = environ.get("AIRWORTHY_PROJECT_ROOT")
            if environ.get(processes.PROGRAM) and root != place.root:
                return f"{processes.words(process)} runs from {root}"
    return ""


def run_command(place: Place, name: str, say: Say, lock: int | None = None) -> str:
    """One of the platform's own commands, by the code of a place.

    Args:
        place: Whose code.
        name: The command, such as ``up``.
        say: Told what the command says.
        lock: A locked file that the command inherits.

    Returns:
        What went wrong, in words, or nothing.
    """
    command = [place.python, "-P", "-m", "airworthy.cli", name]
    lines: list[str] = []
    try:
        with subprocess.Popen(
            command, env=variables(place), cwd=folder(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, pass_fds=[lock] if lock is not None else [],
        ) as process:  # fmt: skip
            limit = threading.Timer(COMMAND_TIMEOUT_S, process.kill)
            limit.start()
            for line in process.stdout or ():
                say(f"  {line.rstrip()}")
                lines.append(line)
            limit.cancel()
    except OSError as error:
        return f"`airworthy {name}` of {place.words}: {error}"
    if not process.returncode:
        return ""
    return f"`airworthy {name}` of {place.words}: {''.join(lines).strip()[-LAST_WORDS:]}"


def variables(place: Place | None = None) -> dict[str, str]:
    """This process's environment for a process that is no part of the platform, and runs the code of a place."""
    kept = {
        n: v
        for n, v in inherited(os.environ).items()
        if n not in (processes.PLATFORM, processes.PROGRAM, "VIRTUAL_ENV")
    }
    kept["PYTHONPATH"] = paths(kept, Path(place.root) if place else PROJECT_ROOT)
    kept["AIRWORTHY_VAR"] = str(get_settings().var)
    # A release has no repository and no uv beside it: it goes on with those of the checkout.
    kept["AIRWORTHY_PIPELINE_REPOSITORY"] = revisions.repository()
    with suppress(ConfigurationError):
        kept["AIRWORTHY_UV"] = releasing.find_uv()
    if place is not None:
        kept |= {"AIRWORTHY_PROJECT_ROOT": place.root, SWITCH: "1"}
    return kept
