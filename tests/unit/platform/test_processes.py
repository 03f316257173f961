"""Finding and ending the platform's own processes, and nobody else's."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from airworthy.config import Settings
from airworthy.errors import ConfigurationError
from airworthy.platform import processes, services

# A child that leaves its parent's process group, as Airflow's tasks do, and ignores TERM.
STUBBORN = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, f"{os.getpid()}\\n".encode())  # one write: two processes share the pipe
time.sleep(120)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "var")


def start(code: str, marks: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **marks}, stdout=subprocess.PIPE, text=True
    )


class Stubborn:
    """The parent and the child, by pid: the tests end these themselves, and rely on nothing that they test."""

    def __init__(self, settings: Settings) -> None:
        self.parent = start(STUBBORN, processes.marks(settings, "scheduler"))
        assert self.parent.stdout
        self.pids = {int(self.parent.stdout.readline()) for _ in range(2)}


@pytest.fixture
def stubborn(settings: Settings) -> Iterator[Stubborn]:
    started = Stubborn(settings)
    yield started
    for pid in started.pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    started.parent.wait(5)


def pids(found: list[psutil.Process]) -> set[int]:
    return {p.pid for p in found}


def test_a_program_is_found_with_children_that_left_its_group(settings: Settings, stubborn: Stubborn) -> None:
    assert pids(processes.belonging(settings)) == pids(processes.belonging(settings, "scheduler")) == stubborn.pids
    assert processes.belonging(settings, "service") == []


def test_it_is_found_when_its_parent_is_gone(settings: Settings, stubborn: Stubborn) -> None:
    stubborn.parent.kill()
    stubborn.parent.wait(5)

    assert pids(processes.belonging(settings)) == stubborn.pids - {stubborn.parent.pid}


def test_it_is_ended_even_when_it_does_not_listen(settings: Settings, stubborn: Stubborn) -> None:
    found = processes.belonging(settings)
    assert pids(found) == stubborn.pids  # nobody else is ended, should this ever be wrong

    assert processes.end(found, patience_s=1) == 2

    assert processes.belonging(settings) == []


def test_another_platform_is_left_alone(tmp_path: Path, stubborn: Stubborn) -> None:
    assert processes.belonging(Settings(var=tmp_path / "another")) == []


def test_nobody_ends_the_command_that_asks(settings: Settings) -> None:
    code = "from airworthy.config import Settings\nfrom airworthy.platform import processes\n"
    code += f"print(len(processes.belonging(Settings(var={str(settings.var)!r}))))"
    answered = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **processes.marks(settings)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert answered.stdout.strip() == "0"


def test_pid_files(tmp_path: Path) -> None:
    file = tmp_path / "x.pid"
    assert processes.alive(file) is None
    file.write_text(f"{os.getpid()}\n")
    assert processes.alive(file) == os.getpid()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    file.write_text(str(gone.pid))
    assert processes.alive(file) is None
    file.write_text("what")
    assert processes.alive(file) is None


def test_waiting_for_an_end() -> None:
    process = psutil.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"])

    assert not processes.wait_for_end(process.pid, 0.01)
    process.wait()
    assert processes.wait_for_end(process.pid, 5)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def addresses(settings: Settings, **urls: int) -> Settings:
    free = {}
    for name in ("airflow_url", "mlflow_url", "service_url", "reports_url"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free[name] = f"http://127.0.0.1:{probe.getsockname()[1]}"
    return Settings(var=settings.var, **free | {n: f"http://127.0.0.1:{p}" for n, p in urls.items()})


def test_a_taken_port_is_named_with_who_has_it_and_what_to_set(settings: Settings, taken: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        services.check_ports(addresses(settings, service_url=taken))

    for words in (str(taken), f"pid {os.getpid()}", "AIRWORTHY_SERVICE_URL", "Prediction service"):
        assert words in caught.value.what


def test_free_ports_pass_and_one_given_twice_does_not(settings: Settings) -> None:
    services.check_ports(addresses(settings))
    twice = addresses(settings)

    with pytest.raises(ConfigurationError, match="both MLflow and Reports"):
        services.check_ports(Settings(**twice.model_dump() | {"reports_url": twice.mlflow_url}))


def test_a_port_that_was_just_closed_is_free() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server, _ = listener.accept()
            server.close()
    time.sleep(0.05)

    assert not services.is_taken(port)
