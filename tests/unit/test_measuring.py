"""What a piece of work used, by the system's own counters."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airworthy import measuring

BIG = 150_000_000


def burn(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def test_cpu_of_this_process_and_of_its_children() -> None:
    used = measuring.start()
    burn(0.2)
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.4: pass"], check=True)

    found = used()

    assert 0.6 <= found.cpu_seconds < 3
    assert found.seconds >= 0.2


def test_what_was_used_before_does_not_count(tmp_path: Path) -> None:
    block = bytearray(BIG)
    block[::4096] = b"x" * len(block[::4096])
    del block
    (tmp_path / "before").write_bytes(b"x" * 5_000_000)
    burn(0.3)

    found = measuring.start()()

    assert found.cpu_seconds < 0.1
    assert found.bytes_written < 1_000_000
    now = next(int(s.split()[1]) for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmRSS"))
    assert found.peak_memory_bytes < now * 1024 + BIG / 2


def test_a_peak_that_was_given_back_counts_and_so_does_what_was_written(tmp_path: Path) -> None:
    # In a process of its own: one that has worked before may have memory left over to take the block from.
    work = f"""
from pathlib import Path
from airworthy import measuring
used = measuring.start()
before = used().peak_memory_bytes
block = bytearray({BIG})
block[::4096] = b"x" * len(block[::4096])
del block
Path({str(tmp_path / "file")!r}).write_bytes(b"x" * 3_000_000)
found = used()
print(before, found.peak_memory_bytes, found.bytes_written)
"""
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    before, peak, written = map(int, done.stdout.split())

    assert peak >= before + BIG * 0.8
    assert 3_000_000 <= written < 20_000_000


def test_a_fork_is_measured_by_itself() -> None:
    """As Airflow's tasks are: a fork of a process that has worked, and has held much, before."""
    block = bytearray(BIG)
    block[::4096] = b"x" * len(block[::4096])
    burn(0.3)
    del block
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, repr(measuring.start()()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    found = eval(os.read(read, 4096), {"Usage": measuring.Usage})

    assert found.cpu_seconds < 0.1
    assert found.peak_memory_bytes < measuring.start()().peak_memory_bytes + BIG / 2


def test_without_the_systems_counters_it_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measuring, "PROC", tmp_path / "none")

    found = measuring.start()()

    assert (found.peak_memory_bytes, found.bytes_written) == (0, 0)
