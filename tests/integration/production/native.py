"""Programs of a test: started in groups of their own, waited for with a bound, and ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil


def start(command: list[str], env: dict[str, str], log: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program in a group of its own; its words go into a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options
        )


def stop(programs: Sequence[subprocess.Popen[bytes]], patience_s: float = 20.0) -> None:
    """End programs and everything they started: TERM to them, later KILL to whatever is left."""
    family: list[psutil.Process] = []
    for program in programs:
        with suppress(psutil.Error):
            # Airflow's tasks and workers leave their parent's group: they are found now, while they have a parent.
            family += psutil.Process(program.pid).children(recursive=True)
    for program in programs:
        with suppress(OSError):
            program.terminate()
    deadline = time.monotonic() + patience_s
    for program in programs:
        with suppress(subprocess.TimeoutExpired):
            program.wait(max(0.0, deadline - time.monotonic()))
    for program in programs:
        with suppress(OSError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait(10)
    for process in family:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(family, timeout=10)


def eventually(check: Callable[[], Any], seconds: float, what: str, every: float = 0.5) -> Any:
    """The first true answer of a check; fails after so many seconds with what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not so after {seconds:.0f} s"
        time.sleep(every)


def tail(log: Path, characters: int = 3000) -> str:
    """The last words of a log."""
    return log.read_text(errors="replace")[-characters:] if log.exists() else "(no log)"
