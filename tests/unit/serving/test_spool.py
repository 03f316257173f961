"""The spool: whole frames come back, torn and damaged ones do not, and its errors reach the caller."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airworthy.errors import ServiceUnavailableError
from airworthy.serving import spool
from airworthy.serving.spool import Spool, files, frame, in_use, read

values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
records = st.lists(st.dictionaries(st.text(), values), max_size=5)


@given(records, st.data())
def test_a_file_cut_anywhere_gives_exactly_its_whole_frames(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], data: st.DataObject
) -> None:
    # Given a file cut at any byte, as kill -9 or a full disk leaves it.
    frames = [frame(r) for r in rows]
    content = b"".join(frames)
    cut = data.draw(st.integers(0, len(content)))
    path = tmp_path_factory.mktemp("spool") / "a.log"
    path.write_bytes(content[:cut])
    # When it is read, and read again after the rest came.
    first = list(read(path))
    path.write_bytes(content)
    rest = list(read(path, first[-1][1] if first else 0))
    # Then first the whole frames, then the others, and nothing twice.
    whole = sum(1 for i in range(1, len(frames) + 1) if len(b"".join(frames[:i])) <= cut)
    assert [r for r, _ in first] == rows[:whole]
    assert [r for r, _ in rest] == rows[whole:]


@given(st.binary(min_size=1, max_size=60))
def test_a_damaged_frame_is_passed_over_and_the_next_is_found(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("spool") / "a.log"
    path.write_bytes(frame({"n": 1}) + noise + frame({"n": 2})[:-3] + frame({"n": 3}))
    assert [r["n"] for r, _ in read(path)] == [1, 3]


def test_a_frame_with_a_flipped_bit_is_not_read(tmp_path: Path) -> None:
    content = bytearray(frame({"n": 1}) + frame({"n": 2}))
    content[spool.HEADER.size + 3] ^= 1
    (tmp_path / "a.log").write_bytes(content)
    assert [r["n"] for r, _ in read(tmp_path / "a.log")] == [2]


def test_threads_share_one_file_and_lose_nothing(tmp_path: Path) -> None:
    writer = Spool(tmp_path, "case", "one/two")
    threads = [
        threading.Thread(target=lambda i=i: [writer.append([{"n": i * 1000 + k}]) for k in range(200)])
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = files(tmp_path, "case")
    assert sorted(r["n"] for r, _ in read(path)) == sorted(i * 1000 + k for i in range(6) for k in range(200))
    assert path.name.startswith(f"one_two-{os.getpid()}-")


def test_a_full_file_is_closed_and_a_new_one_begun(tmp_path: Path) -> None:
    writer = Spool(tmp_path, "case", "a", rotate_bytes=100)
    for n in range(10):
        writer.append([{"n": n, "text": "x" * 40}])
    paths = files(tmp_path, "case")
    assert len(paths) > 2
    assert [r["n"] for p in paths for r, _ in read(p)] == list(range(10))
    assert not in_use(paths[0])


def test_a_file_is_in_use_until_its_process_ends(tmp_path: Path) -> None:
    # Given a file that another process writes.
    code = "import sys, time; from pathlib import Path; from airworthy.serving.spool import Spool\n"
    code += "Spool(Path(sys.argv[1]), 'case', 'a').append([{'n': 1}]); print('written', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (path,) = files(tmp_path, "case")
        assert in_use(path)
        # When it is killed, the file is free and its record is there.
        process.kill()
        process.wait()
    assert not in_use(path)
    assert [r for r, _ in read(path)] == [{"n": 1}]


def test_what_json_or_utf_8_cannot_hold_is_written_all_the_same(tmp_path: Path) -> None:
    Spool(tmp_path, "case", "a").append([{"n": float("nan")}, {"n": "\ud800", "m": "é"}, {"n": -(2**70)}])
    (path,) = files(tmp_path, "case")
    assert [r for r, _ in read(path)] == [{"n": None}, {"n": "\ud800", "m": "é"}, {"n": -(2**70)}]


def test_a_full_disk_is_an_error_and_torn_tails_stay_at_the_end(tmp_path: Path) -> None:
    # Given a limit of the system that lets a part of a write through (as a full disk does), and later all of it.
    code = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from airworthy.errors import ServiceUnavailableError
        from airworthy.serving.spool import Spool
        writer, text = Spool(Path(sys.argv[1]), "case", "a"), "x" * 500
        def limit(n): resource.setrlimit(resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))
        writer.append([{"n": 0, "text": text}])
        limit(800)
        for n in (1, 2):
            try:
                writer.append([{"n": n, "text": text * n}])
                print("written", n)
            except ServiceUnavailableError as error:
                print("refused", n, error.what.split(": ")[-1])
        limit(resource.RLIM_INFINITY)
        writer.append([{"n": 3, "text": text}])
        """
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    # Then what was not written whole was refused, and what came later is read.
    assert run.stdout.splitlines() == [
        "refused 1 the disk took a part of it only",
        "refused 2 the disk took a part of it only",
    ]
    paths = files(tmp_path, "case")
    assert [r["n"] for p in paths for r, _ in read(p)] == [0, 3]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "case").write_text("a file where the folder should be")
    with pytest.raises(ServiceUnavailableError, match="cannot be written"):
        Spool(tmp_path, "case", "a").append([{"n": 1}])


def test_a_disk_that_takes_nothing_does_not_fill_the_folder_with_files(tmp_path: Path) -> None:
    writer = Spool(tmp_path, "case", "a")
    writer.append([{"n": 0}])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    (path,) = files(tmp_path, "case")
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        for _ in range(5):
            with pytest.raises(ServiceUnavailableError):
                writer.append([{"n": 1}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.append([{"n": 2}])
    assert files(tmp_path, "case") == [path]
    assert [r["n"] for r, _ in read(path)] == [0, 2]


@pytest.mark.parametrize("broken", ["rename", "fsync"])
def test_a_file_that_could_not_be_begun_whole_is_not_written_to(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    writer = Spool(tmp_path, "case", "a")
    with monkeypatch.context() as patch:
        patch.setattr(Path if broken == "rename" else os, broken, fails)
        with pytest.raises(ServiceUnavailableError, match="Input/output error"):
            writer.append([{"n": 0}])
    writer.append([{"n": 1}])
    (path,) = files(tmp_path, "case")
    assert [r for r, _ in read(path)] == [{"n": 1}]
    assert list(path.parent.iterdir()) == [path]


def test_an_append_returns_only_when_the_disk_has_it_and_many_at_once_share_the_wait(tmp_path: Path) -> None:
    """What the system was asked to write, and whether it returns only when the disk has it (strace is not everywhere)."""
    writes: list[tuple[int, bool]] = []
    real, synced = os.write, []

    def watched(file: int, data: bytes) -> int:
        written = real(file, data)
        writes.append((os.fstat(file).st_size, bool(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DSYNC)))
        return written

    def lost(file: int, data: bytes) -> int:
        real(file, data)  # the system has it, and the disk has not
        raise OSError(5, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", watched)
        writer = Spool(tmp_path, "case", "a")
        writer.append([{"n": n} for n in range(20)])
        (path,) = files(tmp_path, "case")
        assert writes == [(path.stat().st_size, True)]  # once for all of them
        # A disk that cannot keep them is an error, and what follows goes into another file.
        patch.setattr(os, "write", lost)
        with pytest.raises(ServiceUnavailableError, match="Input/output error"):
            writer.append([{"n": 20}])
        patch.setattr(os, "write", watched)
        writer.append([{"n": 21}])
        assert len(files(tmp_path, "case")) == 2
        patch.setattr(os, "fdatasync", lambda file: synced.append(os.fstat(file).st_size))
        # In the background it is synced soon, and an append does not wait for it.
        later = Spool(tmp_path / "later", "case", "a", sync_ms=30)
        later.append([{"n": 1}])
        assert (synced, writes[-1][1]) == ([], False)
        deadline = time.monotonic() + 10
        while not synced and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(synced) == 1
