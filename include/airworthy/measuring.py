"""What a piece of work costs this process: CPU, peak memory, bytes written, by Linux' own counters.

A counter that the system does not give is zero: measuring never stands in the way of the work.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/self")
# Written to /proc/self/clear_refs it sets the peak back to what is held now.
RESET_PEAK = "5"


@dataclass(frozen=True)
class Usage:
    """What a piece of work used.

    Attributes:
        seconds: From start to end, on the monotonic clock.
        cpu_seconds: User and system time of this process and of its children that have ended.
        peak_memory_bytes: Largest resident memory of this process meanwhile (``VmHWM``); children are not in it.
        bytes_written: Bytes handed to ``write`` (``wchar`` of ``/proc/self/io``): files, logs and pipes, of this process
            and of its children that have ended; what goes over a network socket is not in it.
    """

    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    bytes_written: int


def start() -> Callable[[], Usage]:
    """Start to measure; the returned function gives what was used since.

    The differences are taken since a task's process is a fork of one that has worked before. ``ru_maxrss`` is of no use
    there: it may carry the peak of the parent.
    """
    began, cpu, written = time.monotonic(), _cpu_seconds(), _bytes_written()
    _reset_peak()

    def used() -> Usage:
        return Usage(
            seconds=max(0.0, time.monotonic() - began),
            cpu_seconds=max(0.0, _cpu_seconds() - cpu),
            peak_memory_bytes=_peak_memory(),
            bytes_written=max(0, _bytes_written() - written),
        )

    return used


def _cpu_seconds() -> float:
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def _reset_peak() -> None:
    try:
        (PROC / "clear_refs").write_text(RESET_PEAK)
    except OSError:
        return  # the peak may then be one from before: too high, never too low


def _peak_memory() -> int:
    return _field("status", "VmHWM:") * 1024


def _bytes_written() -> int:
    return _field("io", "wchar:")


def _field(file: str, name: str) -> int:
    try:
        lines = (PROC / file).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
