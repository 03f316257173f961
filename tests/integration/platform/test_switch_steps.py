"""The steps of a switch, each interrupted before and after it took effect; the ledger, the journal and the lock are real.

The two places are programs of a few lines that answer ``up``, ``down`` and ``status``: each start of a whole platform takes
most of a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airworthy.config import Settings
from airworthy.errors import ConfigurationError, ServiceUnavailableError
from airworthy.ledger import pipeline_releases as ledger
from airworthy.platform import places, switching
from airworthy.platform.places import Place, Pointer
from airworthy.platform.switching import Journal

STEPS = ("drain", "stop", "point", "start", "check", "back")
PROGRAM = """#!/bin/sh
here=$(dirname "$0"); shift 3
echo "$(basename $here) $1" >> "$AIRWORTHY_VAR/commands"
while [ -e "$AIRWORTHY_VAR/hold" ]; do sleep 0.05; done
case $1 in
  up) if [ -e "$here/sick" ]; then echo "it is sick" >&2; exit 1; fi; basename $here > "$AIRWORTHY_VAR/running" ;;
  down) rm -f "$AIRWORTHY_VAR/running" ;;
  status) [ "$(cat "$AIRWORTHY_VAR/running")" = "$(basename $here)" ] || { echo "another one runs" >&2; exit 1; } ;;
esac
"""


class World:
    """An old and a new place, and a switch between them that was asked for."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.old, self.new = self._place("old", None), self._place("new", "a" * 64)
        (var / "running").write_text("old\n")
        self.generation = ledger.ask("a" * 64, expected=None, who="t", why="a test")
        places.write("current.json", Pointer(present=self.old, checkout=self.old))

    def _place(self, name: str, digest: str | None) -> Place:
        root = self.var / name
        root.mkdir(parents=True)
        (root / "python").write_text(PROGRAM)
        (root / "python").chmod(0o755)
        return Place(digest=digest, python=str(root / "python"), root=str(root))

    def at(self, step: str, *, reason: str = "") -> None:
        """The journal as a killed switch left it."""
        places.write(
            "switch.json",
            Journal.model_validate(
                {"generation": self.generation, "old": self.old, "new": self.new, "step": step, "reason": reason}
            ),
        )

    def took_effect(self, step: str) -> None:
        """What a step had done when it was killed, with all that came before it."""
        done = STEPS[: STEPS.index(step) + 1] if step != "back" else STEPS[:4]
        if "stop" in done:
            (self.var / "running").unlink()
        if "point" in done:
            places.write("current.json", Pointer(present=self.new, checkout=self.old))
        if "start" in done:
            (self.var / "running").write_text("new\n")

    @property
    def running(self) -> str:
        return (self.var / "running").read_text().strip()

    @property
    def state(self) -> str:
        row = ledger.find_switch(self.generation)
        assert row is not None
        return row.state


@pytest.fixture
def world(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(switching, "LOOK_S", 0.01)
    monkeypatch.setattr(switching, "MOST_LOOKS", switching.HEALTHY_LOOKS)
    return World(platform_env.var)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("step", STEPS[:5])
def test_a_switch_that_was_killed_at_a_step_is_finished(world: World, step: str, done: bool) -> None:
    before = STEPS[STEPS.index(step) - 1]
    if done:
        world.took_effect(step)
    elif step != "drain":
        world.took_effect(before)
    world.at(step)

    assert switching.carry_out()

    assert (world.running, world.state) == ("new", "switched")
    assert places.pointer().present == world.new
    assert places.pointer().checkout == world.old
    assert ledger.current() == "a" * 64
    assert switching.journal() is None


@pytest.mark.parametrize("step", STEPS)
def test_an_unhealthy_release_falls_back_wherever_it_was_killed(world: World, step: str) -> None:
    (Path(world.new.root) / "sick").touch()
    world.took_effect("point") if step in ("start", "back") else None
    world.at(step, reason="it is sick" if step == "back" else "")
    if step == "check":  # it started, and is not what answers now
        (world.var / "running").write_text("nobody\n")

    assert not switching.carry_out()

    assert (world.running, world.state) == ("old", "fell_back")
    assert places.pointer().present == world.old
    assert ledger.current() is None
    assert switching.journal() is None


def test_when_not_even_the_old_one_starts_the_journal_stays_for_the_next_try(world: World) -> None:
    for place in (world.old, world.new):
        (Path(place.root) / "sick").touch()
    world.at("drain")

    with pytest.raises(ServiceUnavailableError, match="does not start again either"):
        switching.carry_out()
    assert world.state == "asked"
    (Path(world.old.root) / "sick").unlink()

    assert not switching.carry_out()
    assert (world.running, world.state) == ("old", "fell_back")


def test_a_command_that_outlives_the_killed_process_keeps_others_away(world: World) -> None:
    """Else its late ``down`` would end what the next one starts."""
    world.at("stop")
    (world.var / "hold").touch()
    program = "from airworthy.platform import switching; switching.carry_out()"
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ})
    eventually(lambda: (world.var / "commands").exists())

    process.kill()
    process.wait()

    assert switching.is_going_on()
    with pytest.raises(ConfigurationError, match="another process"):
        switching.carry_out()
    with pytest.raises(ConfigurationError, match="being switched"):
        switching.refuse_during_a_switch()
    (world.var / "hold").unlink()
    eventually(lambda: not switching.is_going_on())
    assert switching.carry_out()
    assert world.running == "new"


def eventually(check: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s"
        time.sleep(0.05)
