"""The embedded platform as a whole: up, down, status."""

from __future__ import annotations

import fcntl
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airworthy.config import Settings, get_settings
from airworthy.errors import ConfigurationError, ServiceUnavailableError
from airworthy.platform import credentials, health, migrations, postgres, processes, switching
from airworthy.platform.layout import Layout, port_of
from airworthy.platform.programs import AIRFLOW, PROGRAMS
from airworthy.platform.supervisor import State, Supervisor

Say = Callable[[str], None]
LOG_TAIL = 15


@dataclass(frozen=True)
class Status:
    """What ``airworthy status`` shows of a program; ``problem`` is empty when it does its work."""

    name: str
    title: str
    state: str
    pid: int
    uptime_s: float
    url: str
    problem: str


def up(say: Say = lambda _: None) -> dict[str, float]:
    """Start the platform, bring its schemas up to date, and wait until everything does its work.

    A platform that runs already is checked, what is missing is started. Where a release of the pipeline was switched to, it
    is that release that is started; a switch that was interrupted is finished first.

    Args:
        say: Told what happens, a line each.

    Returns:
        Seconds by phase; they overlap. ``total`` is wall time.

    Raises:
        ConfigurationError: a port is taken, or the settings are not those of an embedded platform.
        ServiceUnavailableError: a program does not get ready; the end of its log is in the message.
    """
    settings = get_settings()
    _check_embedded(settings)
    start = time.monotonic()
    switching.refuse_during_a_switch()
    if switching.up_elsewhere(say):
        get_settings.cache_clear()
        return {"total": round(time.monotonic() - start, 1)}
    credentials.ensure(settings)
    with _alone(settings):
        supervisor = Supervisor(settings)
        if not supervisor.is_running():
            _clear_the_ground(settings, say)
            supervisor.start()
        elif _all_ready(settings, supervisor):
            say("the platform is up already")
            return {"total": round(time.monotonic() - start, 1)}
        seconds = _start_all(supervisor, say)
    seconds["total"] = round(time.monotonic() - start, 1)
    return seconds


def down(say: Say = lambda _: None) -> int:
    """Stop the platform, PostgreSQL last, and see to it that none of its processes is left.

    Returns:
        How many processes had to be ended because nobody looked after them any more (0 is normal).
    """
    settings = get_settings()
    switching.refuse_during_a_switch()
    supervisor = Supervisor(settings)
    if supervisor.is_running():
        for stage in sorted({p.stage for p in PROGRAMS.values()} - {0}, reverse=True):
            names = [p.name for p in PROGRAMS.values() if p.stage == stage]
            say(f"stopping {', '.join(names)}")
            supervisor.stop_programs(names)
        say("stopping postgres")
        supervisor.shut_down()
    left = processes.belonging(settings)
    if left:
        say(f"ending what was left behind: {', '.join(map(processes.words, left))}")
        processes.end(left)
    if postgres.stop(settings):
        say("stopped a PostgreSQL that had lost its supervisor")
    return len(left)


def status() -> list[Status]:
    """Each program of the platform; all ``STOPPED`` when it is down."""
    settings = get_settings()
    states = Supervisor(settings).states()

    def one(name: str) -> Status:
        program, state = PROGRAMS[name], states.get(name) or State(name, "STOPPED", 0, 0.0, 0.0, "not started")
        url = program.url(settings) if program.url else ""
        return Status(name, program.title, state.state, state.pid, state.uptime_s, url, health.problem(settings, state))

    with ThreadPoolExecutor(max_workers=len(PROGRAMS)) as pool:
        return list(pool.map(one, PROGRAMS))


def airflow_login() -> tuple[str, Path]:
    """Airflow's administrator, and the file with the passwords of all its users."""
    return "admin", Layout(get_settings()).passwords


def log_tail(name: str, lines: int) -> list[str]:
    """The last lines of a program's log; empty when it never ran.

    Raises:
        ConfigurationError: there is no such program.
    """
    if name != "supervisor" and name not in PROGRAMS:
        raise ConfigurationError(
            f"there is no service {name!r}", next_step=f"choose one of {', '.join([*PROGRAMS, 'supervisor'])}"
        )
    path = Layout(get_settings()).log_file(name)
    if not path.exists():
        return []
    return path.read_text(errors="replace").splitlines()[-lines:]


def _check_embedded(settings: Settings) -> None:
    if not postgres.is_embedded(settings):
        raise ConfigurationError(
            "AIRWORTHY_LEDGER_DSN names another PostgreSQL than the embedded one",
            next_step="unset it to use the embedded platform, or run the services yourself as docker-compose.yaml does",
        )


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One ``up`` at a time: a second one waits, and then finds everything started."""
    with (Layout(settings).run / "up.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear_the_ground(settings: Settings, say: Say) -> None:
    # Whatever a killed supervisor left behind would fight with its successors. PostgreSQL is not ended by signals:
    # its holder, if there is one, stops it cleanly, and a server without a holder is found again.
    left = [p for p in processes.belonging(settings) if "postgres" not in p.name()]
    if left:
        say(f"ending what an earlier run left behind: {', '.join(map(processes.words, left))}")
        processes.end(left, patience_s=30)
    check_ports(settings)


def check_ports(settings: Settings) -> None:
    """Raise ConfigurationError, naming them all, when ports of the platform are taken or given twice."""
    taken, seen = [], dict[int, str]()
    for program in PROGRAMS.values():
        if program.url is None:
            continue
        port = port_of(program.url(settings))
        if port in seen:
            taken.append(f"port {port} is meant for both {seen[port]} and {program.title}: set {program.variable}")
        elif is_taken(port):
            who = processes.listener(port) or "an unknown process"
            taken.append(
                f"port {port} for {program.title} is taken by {who}: end that, "
                f"or set {program.variable}=http://127.0.0.1:<free port>"
            )
        seen[port] = program.title
    if taken:
        raise ConfigurationError(
            "the platform cannot listen:\n- " + "\n- ".join(taken),
            next_step="see above; `airworthy doctor` checks again",
        )


def is_taken(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _all_ready(settings: Settings, supervisor: Supervisor) -> bool:
    states = supervisor.states()
    return len(states) == len(PROGRAMS) and not any(health.problem(settings, s) for s in states.values())


def _start_all(supervisor: Supervisor, say: Say) -> dict[str, float]:
    """PostgreSQL first; then three strands side by side: a schema, then what needs it."""
    seconds: dict[str, float] = {}
    say("starting PostgreSQL")
    supervisor.start_programs(["postgres"])
    seconds["postgres"] = _wait(supervisor, "postgres", say, time.monotonic())
    get_settings.cache_clear()  # only now is it known where the socket is
    seconds |= migrations.run(["databases"])

    failures: list[Exception] = []

    def strand(schema: str, names: tuple[str, ...]) -> None:
        start = time.monotonic()
        try:
            if schema:
                seconds.update(migrations.run_apart(schema))
                say(f"schemas: {schema} ({time.monotonic() - start:.1f} s)")
            supervisor.start_programs(names)
            started = time.monotonic()
            for name in names:
                seconds[name] = _wait(supervisor, name, say, started, given_up=failures)
        except Exception as error:
            failures.append(error)

    strands = [("airflow", AIRFLOW), ("mlflow", ("mlflow",)), ("tables", ("service",)), ("", ("reports",))]
    with ThreadPoolExecutor(max_workers=len(strands)) as pool:
        for arguments in strands:
            pool.submit(strand, *arguments)
    if failures:
        raise failures[0]
    return seconds


def _wait(supervisor: Supervisor, name: str, say: Say, start: float, *, given_up: Sequence[Exception] = ()) -> float:
    """Wait until a program that was started at ``start`` does its work; returns the seconds that it took.

    Nobody waits for the rest once something failed (``given_up``): a switch goes back the sooner.
    """
    settings, problem = get_settings(), ""
    while time.monotonic() - start < settings.ready_seconds:
        state = supervisor.states().get(name)
        if state is None:
            raise ServiceUnavailableError(
                "the process supervisor is gone", next_step="see `airworthy logs supervisor`, then `airworthy up`"
            )
        if state.state == "FATAL" or given_up:
            problem = state.detail
            break
        problem = health.problem(settings, state)
        if not problem:
            seconds = round(time.monotonic() - start, 1)
            say(f"{PROGRAMS[name].title} is ready ({seconds} s)")
            return seconds
        time.sleep(0.2)
    words = "\n".join(f"  | {line}" for line in log_tail(name, LOG_TAIL))
    raise ServiceUnavailableError(
        f"{PROGRAMS[name].title} is not ready after {time.monotonic() - start:.0f} s: {problem}\n{words}",
        next_step=f"see `airworthy logs {name}`, correct it, then `airworthy up`",
    )
