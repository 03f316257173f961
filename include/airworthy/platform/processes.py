"""Which processes belong to a platform, and how they are ended. Nothing else on the machine is ever touched."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from airworthy.config import Settings

# Every process that the platform starts inherits these two variables; they are how it is found again, even when its
# parent was killed or it made a process group of its own (Airflow's tasks do).
PLATFORM = "AIRWORTHY_PLATFORM"
PROGRAM = "AIRWORTHY_PROGRAM"


def marks(settings: Settings, program: str = "") -> dict[str, str]:
    """The variables that mark a process as part of this platform, and of one program."""
    mark = {PLATFORM: str(settings.var.resolve())}
    return mark | {PROGRAM: program} if program else mark


def belonging(settings: Settings, program: str = "") -> list[psutil.Process]:
    """Live processes of this platform, or of one of its programs; never this one or its parents."""
    mark, found = marks(settings, program), []
    mine = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    for process in psutil.process_iter():
        if process.pid in mine:
            continue
        try:
            environ = process.environ()
            if all(environ.get(n) == v for n, v in mark.items()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # it ended meanwhile, or belongs to another user
            continue
    return found


def words(process: psutil.Process) -> str:
    """A process for people: its program, and its pid."""
    try:
        return f"{process.environ().get(PROGRAM) or process.name()} (pid {process.pid})"
    except (psutil.Error, OSError):
        return f"pid {process.pid}"


def end(processes: Iterable[psutil.Process], *, patience_s: float = 5.0) -> int:
    """End processes: TERM, and KILL for those that are still there later. Returns how many there were."""
    chosen = list(processes)
    for process in chosen:
        _quietly(process.terminate)
    _, alive = psutil.wait_procs(chosen, timeout=patience_s)
    for process in alive:
        _quietly(process.kill)
    psutil.wait_procs(alive, timeout=patience_s)
    return len(chosen)


def _quietly(action: object) -> None:
    try:
        action()  # type: ignore[operator]
    except psutil.Error:
        return


def alive(pid_file: Path) -> int | None:
    """The pid in a file when such a process runs; None when it is stale, empty or not there."""
    try:
        pid = int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return pid if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None


def wait_for_end(pid: int, timeout_s: float) -> bool:
    """Wait until a process has ended; False when it has not in time."""
    try:
        psutil.Process(pid).wait(timeout_s)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def listener(port: int) -> str | None:
    """Who listens on a TCP port, as ``name (pid)``; None when nobody or unknown."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):  # some systems tell only the administrator
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return None
