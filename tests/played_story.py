"""The embedded platform on ports of its own, and a short story played on it once for all end-to-end tests."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from airworthy.intervals import Interval
from whole_platform import whole_platform


@dataclass
class Played:
    """The platform after the story.

    Attributes:
        var: Its folder.
        steps: The record of the story, ``var/demo.json``.
        killed: Names of the programs that were killed with SIGKILL in the middle.
    """

    var: Path
    steps: dict[str, dict]
    killed: list[str] = field(default_factory=list)


def _kill(name: str, killed: list[str]) -> None:
    from airworthy.platform.services import status

    pid = next(s.pid for s in status() if s.name == name)
    for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
        process.send_signal(signal.SIGKILL)
    killed.append(name)


def _assassin(killed: list[str], stop: threading.Event) -> None:
    """Kills the scheduler in the middle of the backfill, and the service in the middle of the live days."""
    from airworthy.ledger.commits import decided_intervals

    for name, key in (("scheduler", "2013-01-15"), ("service", "2013-02-06")):
        while key not in decided_intervals("flight_delays"):
            if stop.wait(0.5):
                return
        _kill(name, killed)


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Play a shorter story through the real scheduler; the scheduler and the service are killed on the way."""
    from rich.console import Console

    from airworthy.platform.demo import Demo, Plan

    killed: list[str] = []
    stop = threading.Event()
    plan = Plan(Interval.of("2013-01-01"), Interval.of("2013-02-03"), Interval.of("2013-02-17"), requests_per_day=100)
    with whole_platform("flights_short", keep=tmp_path_factory.mktemp("e2e")) as var:
        threading.Thread(target=_assassin, args=(killed, stop), daemon=True).start()
        try:
            Demo(plan, Console(file=sys.stderr, force_terminal=False, width=160)).run()
            yield Played(var, {step["name"]: step for step in _record(var)}, killed)
        finally:
            stop.set()


def _record(var: Path) -> list[dict]:
    import json

    return list(json.loads((var / "demo.json").read_text())["steps"])
