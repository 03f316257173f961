"""Runs stages in processes that may be killed: a process that imported everything and used nothing forks one for each job.

Reads one JSON line for each batch: ``{"env", "use_case", "history", "at", "mode", "jobs": [[step, ...], ...], "then"}``.
The jobs of a batch run at the same time, each with the fault ``mode`` at its effect number ``at``. The jobs of ``then``
run without a fault while the first ones are stopped; after them (or after a while, when they wait for what a stopped
one holds) the stopped ones go on. Answers with one line: how each job ended, and where its fault was.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import great_expectations  # noqa: F401 - imported before the forks
from tiny_orders import world as shop

import airworthy.features.catchup
import airworthy.features.online
import airworthy.features.publish
import airworthy.ingest  # noqa: F401
from faults.campaign import corrected, deliver

COUNT = 1


def main() -> None:
    """Serve batches until standard input ends."""
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        batch = json.loads(line)
        first = [_start(batch, steps) for steps in batch["jobs"]]
        if batch["then"]:
            for pid, _ in first:
                _stopped(pid)
            second = [_start({**batch, "mode": 1}, steps) for steps in batch["then"]]
            _patiently(second, batch["patience"])
            for pid, _ in first:
                os.kill(pid, signal.SIGCONT)
            first += second
        print(json.dumps([_wait(*child) for child in first]), flush=True)  # noqa: T201


def _stopped(pid: int) -> None:
    """Wait until a process stopped itself, or ended (it is then waited for later)."""
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def _patiently(children: list[tuple[int, int]], seconds: float) -> None:
    """Wait for processes to end, but not for ever."""
    deadline = time.monotonic() + seconds
    for pid, _ in children:
        while time.monotonic() < deadline and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            time.sleep(0.05)


def _start(batch: dict[str, Any], steps: list[list[str]]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    try:
        # Standard output belongs to the answers.
        os.dup2(2, 1)
        _child(batch, steps, writing)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _wait(pid: int, reading: int) -> dict[str, Any]:
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    return {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), "said": said}


def _child(batch: dict[str, Any], steps: list[list[str]], report: int) -> None:
    os.environ.update(batch["env"])
    time.tzset()
    from airworthy.config import get_settings, get_use_case
    from airworthy.config.use_case import use_cases

    get_settings.cache_clear()
    use_cases.cache_clear()
    case = get_use_case(batch["use_case"])
    shim = ctypes.CDLL(None)
    shim.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    shim.faults_arm(str(get_settings().var).encode(), batch["at"], batch["mode"], report, batch["only"])
    for step in steps:
        event = _run(case, step)
        _append(Path(batch["history"]), {"step": step, **event})
    if batch["mode"] == COUNT:
        os.write(report, str(shim.faults_count()).encode())


def _run(case: Any, step: list[str]) -> dict[str, Any]:
    """One step, and what it said: an outcome, or an error with what, where and next."""
    from airworthy.errors import AirworthyError
    from airworthy.features import catch_up
    from airworthy.ingest import ingest_interval
    from airworthy.intervals import Interval
    from airworthy.ledger.clock import wall_now

    try:
        if step[0] == "ingest":
            outcome: Any = ingest_interval(case, Interval.of(step[1]), run=step[2])
        elif step[0] == "clock":
            ctypes.CDLL(None).faults_clock(ctypes.c_long(int(step[1])))
            return {"status": "set", "outcome": {"wall": wall_now().timestamp()}}
        elif step[0] == "correct":
            return {"status": "landed", "outcome": deliver(case, step[1], corrected(shop.orders_of(step[1]))).to_json()}
        elif step[0] == "read":
            return {"status": "read", "outcome": _read(case, int(step[1]))}
        elif step[0] == "republish":
            return {"status": "republished", "outcome": _republish(case, int(step[1]))}
        else:
            outcome = catch_up(case, run=step[1])
    except AirworthyError as error:
        return {"error": type(error).__name__, "what": error.what, "next": error.next_step, "ours": True}
    except Exception as error:
        traceback.print_exc()
        return {"error": type(error).__name__, "what": str(error), "next": "", "ours": False}
    return {"status": getattr(outcome, "status", "done"), "outcome": outcome.to_json()}


def _read(case: Any, rounds: int) -> dict[str, Any]:
    """Look every customer up again and again.

    Returns:
        ``answers``: what was ever answered, each once; ``backwards``: answers that came again after a newer one;
        ``reads`` and ``seconds``: how many entities were looked up, and how long that took (wall time).
    """
    from airworthy.features import OnlineFeatures
    from airworthy.ledger.clock import data_now

    online, moment = OnlineFeatures(case), data_now(case)
    example = case.prediction.example
    asked = [{**example, "customer": f"c{number:02d}"} for number in range(shop.CUSTOMERS)]
    seen: dict[str, list[list[Any]]] = {request["customer"]: [] for request in asked}
    backwards, start = [], time.monotonic()
    for _ in range(rounds):
        for request, vector in zip(asked, online.lookup(asked, moment), strict=True):
            values = [value for name, value in sorted(vector.values.items()) if name.endswith("_7d")]
            answer, before = [request["customer"], *values, *vector.missing, *vector.stale], seen[request["customer"]]
            if answer in before[:-1]:
                backwards.append(answer)
            elif answer not in before:
                before.append(answer)
    answers = sorted((answer for before in seen.values() for answer in before), key=str)
    seconds = time.monotonic() - start
    return {"answers": answers, "backwards": backwards, "reads": rounds * len(asked), "seconds": seconds}


def _republish(case: Any, rounds: int) -> dict[str, int]:
    """Publish all that is committed again and again, as a builder does that lost its place."""
    from airworthy.features.publish import publish_online

    return {"rows": sum(sum(publish_online(case, everything=True).values()) for _ in range(rounds))}


def _append(path: Path, event: dict[str, Any]) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(event).encode() + b"\n")
    finally:
        os.close(file)


if __name__ == "__main__":
    main()
