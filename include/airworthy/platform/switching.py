"""Switching the embedded platform to another release of its own code: drain, restart, health check, fall back.

The ledger's row is the compare-and-set. From then on a journal on disk says which step is next, since the ledger is away
while everything restarts: every step may be done twice, so that whoever finds the journal of a killed switch finishes it
(``airworthy release resume``, ``airworthy up``, the DAG that asked). The work is done by a process that is no part of the
platform, so that the restart does not end it. The pointer file says what ``airworthy up`` starts.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from airworthy.config import get_settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.errors import ConfigurationError, ReleaseError, ServiceUnavailableError
from airworthy.ledger import pipeline_releases as ledger
from airworthy.platform import releasing
from airworthy.platform.airflow_api import AirflowApi
from airworthy.platform.environment import SWITCH
from airworthy.platform.layout import Layout
from airworthy.platform.places import Place, Pointer, folder, pointer, run_command, strangers, variables, write
from airworthy.platform.releasing import PipelineRelease
from airworthy.platform.supervisor import Supervisor
from airworthy.records import Record

Say = Callable[[str], None]
CHECKOUT = "checkout"
HEALTHY_LOOKS, MOST_LOOKS, LOOK_S = 3, 20, 2.0
PATIENCE_S = 2.0


class Journal(Record):
    """How far a switch is.

    Attributes:
        step: What is to be done next.
        pools: Slots of Airflow's pools before they were closed.
        reason: Why it goes back.
    """

    generation: int
    old: Place
    new: Place
    step: Literal["drain", "stop", "point", "start", "check", "back"] = "drain"
    pools: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it
    reason: str = ""


def journal() -> Journal | None:
    """The switch that is going on or was interrupted; None without one."""
    try:
        return Journal.model_validate_json((folder() / "switch.json").read_bytes())
    except FileNotFoundError:
        return None


@contextmanager
def _alone(patience_s: float = 0.0) -> Iterator[int | None]:
    """The lock of the switch, as a file that commands inherit: while one of them runs, even an orphan, nobody else begins."""
    folder().mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_s
    with (folder() / "switch.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield None
                    return
            time.sleep(0.05)
        yield lock.fileno()


def is_going_on() -> bool:
    """Whether a live process carries out a switch now."""
    if not (folder() / "switch.lock").exists():
        return False
    with _alone() as lock:
        return lock is None


def refuse_during_a_switch() -> None:
    """Nobody else starts or stops the platform meanwhile.

    Raises:
        ConfigurationError: a switch is going on, and this process is no part of it.
    """
    if not os.environ.get(SWITCH) and is_going_on():
        raise ConfigurationError(
            "the platform is being switched to another release now", next_step="wait; `airworthy release status` tells"
        )


def ask(target: PipelineRelease | None, *, who: str, why: str, expected: str | None = "") -> int:
    """Ask for a switch; ``carry_out`` or ``start_detached`` does it.

    Args:
        target: A release that passed its staging run; None: back to the checkout.
        who, why: For the log.
        expected: Digest of the release that the decision was based on (None: the checkout); what runs now by default.

    Raises:
        ReleaseError: it was never tried in staging, or was altered since it was built.
        StaleVerdictError: another release runs than the expected one, or another switch is going on.
    """
    with releasing.held():
        if target is not None:
            row = ledger.find_built(target.digest)
            if row is None or row.staged is None:
                raise ReleaseError(
                    f"release {target.digest[:12]} of the pipeline never passed a staging run",
                    next_step=f"`airworthy release build {target.revision} --staging`",
                )
            releasing.read(target.digest)
            releasing.environment(target)
        present = ledger.current() if expected == "" else expected
        return ledger.ask(target.digest if target else None, expected=present, who=who, why=why)


def start_detached() -> None:
    """Start a process of its own that carries out what was asked for; it survives the end of this one."""
    log = Layout(get_settings()).log_file("switch")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "airworthy.cli", "release", "resume", "--by-itself"], env=variables(), cwd=folder(),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip


def carry_out(*, say: Say = lambda _: None, generation: int | None = None) -> bool:
    """Do the switch that was asked for, or finish the one that was interrupted.

    Args:
        say: Told what happens.
        generation: Of the switch that must have been done; any by default.

    Returns:
        Whether the new release runs. False: the old one does, and the ledger says why.

    Raises:
        ConfigurationError: another process is at it.
        ServiceUnavailableError: not even the old release starts; it is tried again by ``airworthy release resume``.
        ReleaseError: the release was altered since it was asked for; the switch is refused, and nothing was changed.
    """
    with _alone(PATIENCE_S) as lock:  # somebody who only looks holds it for a moment
        if lock is None:
            raise ConfigurationError(
                "another process carries out a switch now", next_step="`airworthy release status` tells how far it is"
            )
        present = journal() or _begin()
        if present is None:
            say("no switch is asked for")
            return True
        switcher = _Switcher(say, lock)
        while True:
            say(f"switch {present.generation}, {present.old.words} to {present.new.words}: {present.step}")
            following = switcher.step(present)
            if isinstance(following, bool):
                (folder() / "switch.json").unlink(missing_ok=True)
                return following
            write("switch.json", following)
            present = following


def _begin() -> Journal | None:
    row = ledger.open_switch()
    if row is None:
        return None
    now = pointer()
    new = now.checkout
    if row.to_digest:
        try:
            release = releasing.read(row.to_digest)
        except ReleaseError as error:
            ledger.end_switch(row.generation, ledger.REFUSED, error.what)
            raise
        new = Place(digest=release.digest, python=str(release.python), root=str(release.folder))
    found = Journal(generation=row.generation, old=now.present, new=new)
    write("switch.json", found)
    return found


class _Switcher:
    """The steps. Each gives the journal of the next one, or whether the new release runs at the end."""

    def __init__(self, say: Say, lock: int) -> None:
        self.say, self.lock = say, lock

    def step(self, now: Journal) -> Journal | bool:
        steps: dict[str, Callable[[Journal], Journal | bool]] = {
            "drain": self.drain, "stop": self.stop, "point": self.point, "start": self.start, "check": self.check,
            "back": self.back,
        }  # fmt: skip
        return steps[now.step](now)

    def drain(self, now: Journal) -> Journal | bool:
        """No task starts any more (every pool is closed, no event is lost); those that run are waited for."""
        following = now.model_copy(update={"step": "stop"})
        if not Supervisor(get_settings()).is_running():
            return following
        try:
            api = AirflowApi(patience_s=20)
            pools = now.pools or {str(p["name"]): int(p["slots"]) for p in api.pools()}
            # Written down before they are closed: who takes over knows what to open again.
            write("switch.json", now.model_copy(update={"pools": pools}))
            following = following.model_copy(update={"pools": pools})
            for name in pools:
                api.set_slots(name, 0)
            deadline = time.monotonic() + get_settings().drain_seconds
            while running := api.running_tasks():
                if time.monotonic() > deadline:
                    return self._give_up(now.generation, pools, running)
                time.sleep(0.5)
        except ServiceUnavailableError as error:
            # A platform whose Airflow is down must be switchable too: a better release may be the cure.
            self.say(f"nothing can be waited for: {error.what}")
        return following

    def _give_up(self, generation: int, pools: dict[str, int], running: list[str]) -> bool:
        _reopen(pools)
        words = f"still running after {get_settings().drain_seconds} s: {', '.join(running[:5])}; nothing was changed"
        ledger.end_switch(generation, ledger.REFUSED, words)
        self.say(words)
        return False

    def stop(self, now: Journal) -> Journal:
        """The old release's programs end."""
        self.command(now.old, "down")
        return now.model_copy(update={"step": "point"})

    def point(self, now: Journal) -> Journal:
        """From here on ``airworthy up`` means the new release."""
        write("current.json", Pointer(present=now.new, checkout=pointer().checkout))
        return now.model_copy(update={"step": "start"})

    def start(self, now: Journal) -> Journal:
        """The new release's programs start, its migrations first."""
        words = self.command(now.new, "up")
        return now.model_copy(update={"step": "back", "reason": words} if words else {"step": "check"})

    def check(self, now: Journal) -> Journal | bool:
        """Only a platform that is seen to work gets its pools back, and the ledger's word."""
        if words := self.unhealthy(now.new):
            return now.model_copy(update={"step": "back", "reason": words})
        _reopen(now.pools)
        ledger.end_switch(now.generation, ledger.SWITCHED, f"{now.new.words} runs and is healthy")
        self.say(f"{now.new.words} runs and is healthy")
        return True

    def back(self, now: Journal) -> bool:
        """The old release runs again."""
        self.say(f"{now.new.words} is not healthy: {now.reason}")
        self.command(now.new, "down")
        write("current.json", Pointer(present=now.old, checkout=pointer().checkout))
        if words := self.command(now.old, "up") or self.unhealthy(now.old):
            raise ServiceUnavailableError(
                f"{now.old.words} does not start again either: {words}",
                next_step="see `airworthy logs`; then `airworthy release resume`",
            )
        _reopen(now.pools)
        ledger.end_switch(now.generation, ledger.FELL_BACK, f"fell back to {now.old.words}: {now.reason}")
        return False

    def unhealthy(self, place: Place) -> str:
        """What is wrong with the platform that was started from a place; empty when all of it does its work for a while."""
        good, last = 0, ""
        for _ in range(MOST_LOOKS):  # one after the other: a program that dies again and again has good moments
            words = self.command(place, "status")
            good, last = (0, words) if words else (good + 1, last)
            if good == HEALTHY_LOOKS:
                return strangers(place)
            time.sleep(LOOK_S)
        return last

    def command(self, place: Place, name: str) -> str:
        """One of the platform's own commands, by the code of a place; returns what went wrong, in words, or nothing."""
        return run_command(place, name, self.say if name != "status" else lambda _: None, self.lock)


def _reopen(pools: dict[str, int]) -> None:
    if pools:
        api = AirflowApi()
        for name, slots in pools.items():
            api.set_slots(name, slots)


def up_elsewhere(say: Say) -> bool:
    """Start what the pointer names, when that is not the code of this process; False when it is."""
    if journal() is not None and not os.environ.get(SWITCH):
        say("a switch of the release was interrupted: it is finished first")
        carry_out(say=say)
        return True
    present = pointer().present
    if Path(present.root) == PROJECT_ROOT or os.environ.get(SWITCH):
        return False
    say(f"{present.words} runs from {present.root}")
    if words := run_command(present, "up", say):
        raise ServiceUnavailableError(words, next_step="see `airworthy logs`, or `airworthy release switch checkout`")
    return True


def describe() -> dict[str, Any]:
    """What runs by the pointer and by the ledger, and the switch that is going on."""
    found: dict[str, Any] = {"runs": pointer().present.to_json(), "going_on": is_going_on()}
    if present := journal():
        found["switch"] = present.to_json()
    try:
        row = ledger.open_switch()
        found |= {"ledger": ledger.current(), "asked": row.generation if row else None}
    except Exception as error:  # the platform may be down
        found["ledger"] = f"does not answer ({type(error).__name__})"
    return found
