"""``airworthy doctor``: what would keep the platform from running here, and what to do about each finding."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

from airworthy.config import Settings, get_settings
from airworthy.errors import AirworthyError
from airworthy.platform import environment, processes, services
from airworthy.platform.layout import SOCKET_LIMIT, Layout, port_of
from airworthy.platform.programs import PROGRAMS
from airworthy.platform.supervisor import Supervisor

MIN_DISK_GB, MIN_MEMORY_GB = 5.0, 6.0
GB = 1024**3
MAX_NAMED = 8


@dataclass(frozen=True)
class Finding:
    """One check. ``advice`` says what to do, and is empty when all is well."""

    level: Literal["ok", "warning", "error"]
    subject: str
    words: str
    advice: str = ""


def examine() -> list[Finding]:
    """Every check, in order; none of them changes anything."""
    settings = get_settings()
    return [finding for check in CHECKS for finding in check(settings)]


def python(_: Settings) -> Iterator[Finding]:
    """The Python version."""
    words = f"Python {'.'.join(map(str, sys.version_info[:3]))} in {sys.prefix}"
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        yield Finding("ok", "Python", words)
    else:
        yield Finding("error", "Python", words, "install Python 3.11, 3.12 or 3.13 and run `make setup PYTHON=<path>`")


def bytecode(_: Settings) -> Iterator[Finding]:
    """Whether Python may keep its compiled code."""
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        yield Finding(
            "warning", "bytecode", "PYTHONDONTWRITEBYTECODE is set: every start compiles everything again",
            "unset it in your shell (the platform's own services do not get it)",
        )  # fmt: skip
    else:
        yield Finding("ok", "bytecode", "Python keeps its compiled code")


def packages(settings: Settings) -> Iterator[Finding]:
    """Installed packages against the lock file."""
    if not settings.lock_file.is_file():
        yield Finding("warning", "packages", f"there is no lock file {settings.lock_file}", "set AIRWORTHY_LOCK_FILE")
        return
    locked: dict[str, set[str]] = defaultdict(set)
    for package in tomllib.loads(settings.lock_file.read_text())["package"]:
        if "version" in package and "registry" in package.get("source", {}):
            locked[_normal(package["name"])].add(package["version"])
    installed = {_normal(d.metadata["Name"]): d.version for d in distributions()}
    other = [
        f"{n} {v} (locked: {', '.join(sorted(locked[n]))})"
        for n, v in sorted(installed.items())
        if n in locked and v not in locked[n]
    ]
    missing = sorted(_direct() - set(installed))
    if other or missing:
        words = "; ".join(filter(None, [_named("other versions than locked", other), _named("not installed", missing)]))
        yield Finding("error", "packages", words, "run `make setup`")
    else:
        yield Finding("ok", "packages", f"{len(set(installed) & set(locked))} packages are as locked")


def _direct() -> set[str]:
    """What airworthy itself needs, by name."""
    own = next((d for d in distributions(name="airworthy")), None)
    needs = (own.requires or []) if own else []
    return {_normal(re.split(r"[\s\[<>=!~;]", n, maxsplit=1)[0]) for n in needs if "extra ==" not in n}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _named(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{what}: {', '.join(names[:MAX_NAMED])}{more}"


def machine(settings: Settings) -> Iterator[Finding]:
    """Disk and memory."""
    place = next(p for p in (settings.var, *settings.var.parents) if p.exists())
    free = shutil.disk_usage(place).free / GB
    words = f"{free:.1f} GB free at {place}"
    if free >= MIN_DISK_GB:
        yield Finding("ok", "disk", words)
    else:
        yield Finding(
            "error", "disk", words, f"free {MIN_DISK_GB:.0f} GB, or set AIRWORTHY_VAR to a folder on another disk"
        )
    memory = psutil.virtual_memory()
    words = f"{memory.total / GB:.1f} GB, {memory.available / GB:.1f} GB of it available"
    if memory.total / GB >= MIN_MEMORY_GB * 0.95:  # a machine sold with 6 GB shows a little less
        yield Finding("ok", "memory", words)
    else:
        yield Finding("error", "memory", words, f"use a machine with {MIN_MEMORY_GB:.0f} GB")


def ports(settings: Settings) -> Iterator[Finding]:
    """Ports: ours when the platform is up, free when it is down."""
    if Supervisor(settings).is_running():
        yield Finding("ok", "ports", "in use by this platform, which is up")
        return
    try:
        services.check_ports(settings)
    except AirworthyError as error:
        yield Finding("error", "ports", error.what, "free them or set the variables named there")
    else:
        numbers = sorted(port_of(p.url(settings)) for p in PROGRAMS.values() if p.url)
        yield Finding("ok", "ports", f"{', '.join(map(str, numbers))} are free")


def addresses(settings: Settings) -> Iterator[Finding]:
    """The embedded services listen on this machine only, whatever their URL says."""
    away = [
        p.variable
        for p in PROGRAMS.values()
        if p.url and urlsplit(p.url(settings)).hostname not in ("127.0.0.1", "localhost", "::1")
    ]
    if away:
        yield Finding(
            "warning", "addresses", f"{', '.join(away)}: another host, but embedded services listen on 127.0.0.1",
            "put a reverse proxy before them, or run the services yourself as docker-compose.yaml does",
        )  # fmt: skip


def parallelism(settings: Settings) -> Iterator[Finding]:
    """Pool slots against workers: beyond that Airflow's LocalExecutor can stall."""
    env = environment.airflow_env(settings) | environment.tuned(os.environ)
    try:
        workers, slots = int(env["AIRFLOW__CORE__PARALLELISM"]), int(env["AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT"])
    except ValueError:
        yield Finding(
            "error", "pools", f"{' and '.join(environment.TUNABLE[:2])} must be numbers", "correct or unset them"
        )
        return
    source = "of the default pool"
    if Supervisor(settings).is_running() and (actual := _actual_slots()) is not None:
        slots, source = actual, "of all pools in Airflow"
    words = f"{slots} slots {source}, {workers} workers"
    if 0 < slots <= workers <= environment.MAX_PARALLELISM:
        yield Finding("ok", "pools", words)
    else:
        yield Finding(
            "error", "pools", f"{words}: LocalExecutor can stall",
            f"slots <= workers <= {environment.MAX_PARALLELISM} must hold: lower the pools in Airflow (Admin, Pools), "
            "or set AIRFLOW__CORE__PARALLELISM",
        )  # fmt: skip


def _actual_slots() -> int | None:
    from airworthy.platform.airflow_api import AirflowApi

    try:
        return sum(int(pool["slots"]) for pool in AirflowApi(patience_s=0).pools())
    except AirworthyError:  # Airflow is starting; the configuration is what will hold
        return None


def foreign_airflow(_: Settings) -> Iterator[Finding]:
    """Variables of another Airflow in the shell."""
    names = sorted(
        n
        for n in os.environ
        if (n.startswith("AIRFLOW__") and n not in environment.TUNABLE) or n in ("AIRFLOW_HOME", "AIRFLOW_CONFIG")
    )
    if names:
        yield Finding(
            "warning",
            "environment",
            _named("not passed on to this platform's Airflow", names),
            "unset them if you meant another Airflow",
        )


def paths(settings: Settings) -> Iterator[Finding]:
    """Length and characters of the paths that become sockets and URLs."""
    path = str(settings.var)
    if unusable := sorted({c for c in path if c in "%&+#?'\""}):
        yield Finding(
            "error",
            "paths",
            f"{path} has {' '.join(unusable)} in it, which breaks database addresses",
            "set AIRWORTHY_VAR to another folder",
        )
    longest = Layout(settings).postgres / ".s.PGSQL.5432"
    if len(str(longest).encode()) > SOCKET_LIMIT:
        yield Finding(
            "warning", "sockets", f"{path} is too long for sockets (107 bytes): they are among the temporary files",
            "nothing, as long as nobody empties that folder; a shorter AIRWORTHY_VAR avoids it",
        )  # fmt: skip
    else:
        yield Finding("ok", "sockets", f"{len(str(longest).encode())} of 107 bytes")


def leftovers(settings: Settings) -> Iterator[Finding]:
    """Pid files and processes of a platform that did not stop in good order."""
    layout = Layout(settings)
    running = Supervisor(settings).is_running()
    stale = [
        p for p in (layout.supervisor_pid, layout.postgres / "postmaster.pid") if p.exists() and _stale(p, running)
    ]
    left = [] if running else processes.belonging(settings)
    if stale:
        yield Finding(
            "warning", "pid files", _named("stale", [str(p) for p in stale]), "nothing: `airworthy up` deals with them"
        )
    if left:
        yield Finding(
            "warning",
            "processes",
            f"{len(left)} processes of a platform that is not up",
            "run `airworthy down`, which ends them",
        )
    if not stale and not left:
        yield Finding("ok", "leftovers", "none")


def _stale(path: Path, running: bool) -> bool:
    if path.name == "postmaster.pid":
        from airworthy.platform.postgres import postmaster

        return postmaster(path.parent.resolve()) is None
    return not running or processes.alive(path) is None


def deliveries(settings: Settings) -> Iterator[Finding]:
    """Intervals that did not land by their deadline, as far as the ledger can be asked."""
    from sqlalchemy.exc import SQLAlchemyError

    from airworthy.config import use_cases
    from airworthy.ingest import overdue

    if not settings.socket_dir.exists() and str(settings.socket_dir) in settings.ledger_dsn:
        return  # the embedded platform was never up
    try:
        found = {name: overdue(case) for name, case in use_cases().items()}
    except SQLAlchemyError:  # it is down, or was never migrated; others say so
        return
    for name, late in found.items():
        if late:
            words = _named("overdue", [f"{key} ({', '.join(lacks)})" for key, lacks in late.items()])
            yield Finding(
                "warning",
                f"deliveries of {name}",
                words,
                "ask upstream; land the files, and they are taken by themselves",
            )
        else:
            yield Finding("ok", f"deliveries of {name}", "nothing is overdue")


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    python, bytecode, packages, machine, ports, addresses, parallelism, foreign_airflow, paths, leftovers,
    deliveries,
)  # fmt: skip
