"""The process supervisor: its configuration, its start, and what is asked of it over its control socket."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airworthy.config import Settings
from airworthy.errors import ServiceUnavailableError
from airworthy.platform import environment, processes
from airworthy.platform.layout import Layout
from airworthy.platform.programs import PROGRAMS, Program, full_env

RUNNING = ("STARTING", "RUNNING", "BACKOFF")
FAULT_NOT_RUNNING, FAULT_ALREADY_STARTED = 70, 60


@dataclass(frozen=True)
class State:
    """What the supervisor says of a program.

    Attributes:
        name: The program.
        state: ``RUNNING``, ``STARTING``, ``BACKOFF``, ``STOPPED``, ``STOPPING``, ``EXITED`` or ``FATAL``.
        pid: Of its process, 0 when there is none.
        started: Wall time of its start, seconds since 1970, UTC; 0 when it never was.
        uptime_s: Seconds that it has been running.
        detail: The supervisor's words.
    """

    name: str
    state: str
    pid: int
    started: float
    uptime_s: float
    detail: str


def _escaped(text: object) -> str:
    return str(text).replace("%", "%%")  # the configuration file expands %(names)s


def configuration(settings: Settings) -> str:
    """The supervisor's configuration file. Programs start when they are told to, in the order of ``services.up``."""
    layout = Layout(settings)
    user = f"user={pwd.getpwuid(os.geteuid()).pw_name}\n" if os.geteuid() == 0 else ""
    parts = [
        f"[unix_http_server]\nfile={_escaped(layout.supervisor_socket)}\nchmod=0700\n",
        f"[supervisord]\n{user}logfile={_escaped(layout.log_file('supervisor'))}\nlogfile_maxbytes=5MB\nlogfile_backups=1\n"
        f"pidfile={_escaped(layout.supervisor_pid)}\nchildlogdir={_escaped(layout.logs)}\ndirectory={_escaped(layout.run)}\n",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n",
        *(_section(layout, program) for program in PROGRAMS.values()),
    ]
    return "\n".join(parts)


def _section(layout: Layout, program: Program) -> str:
    command = shlex.join([sys.executable, "-m", "airworthy.platform.launch", program.name])
    return (
        f"[program:{program.name}]\ncommand={_escaped(command)}\npriority={10 + program.stage}\n"
        "autostart=false\nautorestart=true\nstartsecs=2\nstartretries=20\n"
        f"stopsignal=TERM\nstopwaitsecs={program.stop_s}\nkillasgroup={'false' if program.stage == 0 else 'true'}\n"
        f"redirect_stderr=true\nstdout_logfile={_escaped(layout.log_file(program.name))}\n"
        "stdout_logfile_maxbytes=10MB\nstdout_logfile_backups=2\n"
    )


class Supervisor:
    """The supervisor of one platform."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.layout = Layout(settings)

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.layout.supervisor_socket}")
        # One connection a call: callers are threads, and a connection is not theirs to share.
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def is_running(self) -> bool:
        """Whether the supervisor answers."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def start(self, *, timeout_s: float = 20.0) -> None:
        """Start the supervisor; it goes on when this process ends.

        Raises:
            ServiceUnavailableError: it does not answer in time.
        """
        self.layout.supervisor_config.write_text(configuration(self.settings))
        env = full_env(self.settings, environment.service_env) | processes.marks(self.settings)
        # What the operator tunes for Airflow has to reach the programs, which ask the environment themselves.
        env |= environment.tuned(os.environ)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.layout.supervisor_config)]
        done = subprocess.run(command, env=env, cwd=self.layout.run, capture_output=True, text=True, check=False)
        deadline = time.monotonic() + timeout_s
        while not self.is_running():
            if done.returncode or time.monotonic() > deadline:
                raise ServiceUnavailableError(
                    f"the process supervisor does not start: {(done.stderr or done.stdout).strip()[-500:]}",
                    next_step=f"see {self.layout.log_file('supervisor')}",
                )
            time.sleep(0.05)

    def states(self) -> dict[str, State]:
        """The state of each program; empty when the supervisor does not run."""
        try:
            infos = self._call("getAllProcessInfo")
        except (OSError, xmlrpc.client.Error):
            return {}
        return {i["name"]: _state(i) for i in infos}

    def start_programs(self, names: Iterable[str]) -> None:
        """Start programs, and do not wait; those that run are left alone."""
        for name in names:
            try:
                self._call("startProcess", name, False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != FAULT_ALREADY_STARTED:
                    raise ServiceUnavailableError(
                        f"{name} cannot be started: {fault.faultString}", next_step=f"see `airworthy logs {name}`"
                    ) from fault

    def stop_programs(self, names: Iterable[str], *, timeout_s: float = 90.0) -> None:
        """Stop programs, all at once, and wait until they are.

        Raises:
            ServiceUnavailableError: one of them does not stop.
        """
        chosen = set(names)
        for name in chosen:
            try:
                self._call("stopProcess", name, False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != FAULT_NOT_RUNNING:
                    raise ServiceUnavailableError(
                        f"{name} cannot be stopped: {fault.faultString}", next_step=f"see `airworthy logs {name}`"
                    ) from fault
        deadline = time.monotonic() + timeout_s
        while running := [
            s.name for s in self.states().values() if s.name in chosen and s.state in (*RUNNING, "STOPPING")
        ]:
            if time.monotonic() > deadline:
                raise ServiceUnavailableError(
                    f"{', '.join(running)} did not stop in {timeout_s:.0f} s", next_step="run `airworthy down` again"
                )
            time.sleep(0.1)

    def shut_down(self, *, timeout_s: float = 90.0) -> None:
        """Stop what still runs, in order, and the supervisor itself.

        Raises:
            ServiceUnavailableError: it does not stop.
        """
        pid = processes.alive(self.layout.supervisor_pid)
        self._call("shutdown")
        # Its pid file goes before it does.
        if pid is not None and not processes.wait_for_end(pid, timeout_s):
            raise ServiceUnavailableError(
                f"the process supervisor (pid {pid}) did not stop in {timeout_s:.0f} s",
                next_step="run `airworthy down` again",
            )


def _state(info: dict[str, Any]) -> State:
    # "now" and "start" come from the same clock of the supervisor.
    uptime = float(info["now"] - info["start"]) if info["statename"] == "RUNNING" else 0.0
    return State(
        info["name"], info["statename"], int(info["pid"]), float(info["start"]), uptime, str(info["description"])
    )
