"""The prediction log's first copy: append-only framed files on local disk, one a process.

A frame is ``magic | length | crc32 | JSON`` and reaches the file by one ``os.write`` before the answer leaves, so
that an acknowledged prediction survives ``kill -9`` of the service. The write returns when the disk has it (``O_DSYNC``), one
write for all requests that are answered together, so that it survives the loss of the machine's power too. Where that costs
too much the file is synced in the background instead: then the loss of power may lose as much as was written since.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from airworthy.errors import ServiceUnavailableError

# Bytes that JSON never holds (it escapes the last one), so that a reader can find the next frame after a damaged one.
MAGIC = b"\xabAW\x01"
HEADER = struct.Struct(">4sII")
MAX_FRAME = 1 << 24
ROTATE_BYTES = 64 << 20

log = logging.getLogger(__name__)


class Spool:
    """The writer of one process; safe to share between its threads.

    Args:
        root: Folder of all spools.
        use_case: Name of the use case; a folder below ``root``.
        instance: Name of this replica of the service.
        rotate_bytes: A file of this size is closed and a new one begun.
        sync_ms: 0 syncs each append before it returns, a longer time syncs in the background that often, -1 never.
    """

    def __init__(
        self, root: Path, use_case: str, instance: str, *, rotate_bytes: int = ROTATE_BYTES, sync_ms: int = 0
    ) -> None:
        self._folder = root / use_case
        self._prefix = re.sub(r"[^A-Za-z0-9_.]", "_", instance)
        self._rotate_bytes = rotate_bytes
        self._lock = threading.Lock()
        self._file: int | None = None
        self._size = 0
        self._sync_ms = sync_ms
        self._dirty = threading.Event()
        self._closed = threading.Event()
        if sync_ms > 0:
            threading.Thread(target=self._sync_now_and_then, daemon=True, name="spool-sync").start()

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write records as frames: see ``write`` and ``frame``."""
        self.write(list(map(frame, records)))

    def write(self, frames: Sequence[bytes]) -> None:
        """Write frames in one write, and sync them.

        Raises:
            ServiceUnavailableError: the disk did not take them; whoever asked must not get an answer.
        """
        data = b"".join(frames)
        with self._lock:
            try:
                file = self._open()
                written = os.write(file, data)
            except OSError as error:
                self._close_after_a_part()
                raise self._unwritten(error) from error
            self._size += written
            if written != len(data):
                # A torn tail is tolerated at a file's end only: what follows goes into a new file.
                self._close()
                raise self._unwritten("the disk took a part of it only")
            if self._size >= self._rotate_bytes:
                self._close()
        self._dirty.set()

    def close(self) -> None:
        """Close the file; a later append begins a new one."""
        self._closed.set()
        with self._lock:
            self._close()

    def _sync_now_and_then(self) -> None:
        while not self._closed.wait(self._sync_ms / 1000):
            if not self._dirty.is_set():
                continue
            self._dirty.clear()
            with self._lock:
                own = None if self._file is None else os.dup(self._file)
            if own is not None:
                self._sync(own)

    def _sync(self, file: int) -> None:
        """Sync a descriptor and close it."""
        try:
            os.fdatasync(file)
        except OSError as error:
            with self._lock:
                self._close()  # what the system still holds of this file may be lost: go on in a new one
            log.error("%s", self._unwritten(error))
        finally:
            os.close(file)

    def _open(self) -> int:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self._prefix}-{os.getpid()}-{time.time_ns()}.log"
            new = path.with_suffix(".new")
            synced = os.O_DSYNC if self._sync_ms == 0 else 0
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | synced
            file = os.open(new, flags, 0o640)
            try:
                # The lock is held for as long as this process lives: ``in_use`` sees by it whether a file may still
                # grow. Readers see the file only once it is locked, so that none takes it for an orphan.
                fcntl.flock(file, fcntl.LOCK_EX)
                new.rename(path)
                if self._sync_ms >= 0:
                    self._sync_folder()
            except OSError:
                # Nothing is written to a file that readers cannot see, or whose name the disk may not have.
                os.close(file)
                for name in (new, path):
                    name.unlink(missing_ok=True)
                raise
            self._file, self._size = file, 0
        return self._file

    def _sync_folder(self) -> None:
        """The name of a new file must survive too."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _close_after_a_part(self) -> None:
        """Go on in a new file when a write that failed left a part behind, which the disk may have lost or not."""
        if self._file is not None:
            with suppress(OSError):
                if os.fstat(self._file).st_size == self._size:
                    return
            self._close()

    def _close(self) -> None:
        file, self._file = self._file, None  # first: its number may soon be another file's
        if file is not None:
            with suppress(OSError):
                if self._sync_ms > 0:
                    os.fdatasync(file)
            with suppress(OSError):
                os.close(file)

    def _unwritten(self, why: OSError | str) -> ServiceUnavailableError:
        words = why if isinstance(why, str) else why.strerror or str(why)
        return ServiceUnavailableError(
            f"the prediction log in {self._folder} cannot be written: {words}",
            next_step="free space on the disk of AIRWORTHY_SPOOL; predictions are refused until it can be written",
        )


def frame(record: Mapping[str, Any]) -> bytes:
    """One record as a frame. Its values are JSON's; a number that is not finite is written as null."""
    try:
        payload = msgspec.json.encode(record)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON's escapes can write and UTF-8 cannot
        payload = json.dumps(record).encode("ascii")
    return HEADER.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


def read(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """The complete records of a file, each with the offset just after it.

    Args:
        path: A spool file, which may be growing.
        offset: Where to begin: 0, or an offset that an earlier read gave.

    Yields:
        (record, end offset). A torn tail is left for a later read; a damaged frame in the middle is passed over.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    position = 0
    while (position := data.find(MAGIC, position)) >= 0:
        payload = _payload(data, position)
        if payload is None:
            position += 1
            continue
        position += HEADER.size + len(payload)
        yield json.loads(payload), offset + position


def _payload(data: bytes, position: int) -> bytes | None:
    """The payload of the frame at a position; None when it is torn or damaged."""
    start = position + HEADER.size
    if start > len(data):
        return None
    _, length, checksum = HEADER.unpack_from(data, position)
    payload = data[start : start + length]
    whole = length <= MAX_FRAME and len(payload) == length and zlib.crc32(payload) == checksum
    return payload if whole else None


def files(root: Path, use_case: str) -> list[Path]:
    """Every spool file of a use case, oldest first."""
    return sorted((root / use_case).glob("*.log"), key=lambda p: (int(p.stem.rpartition("-")[2]), p.name))


def in_use(path: Path) -> bool:
    """Whether the process that writes a file still lives: only a file that is not in use may be removed."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
    return False
