"""A full disk, told in words: what did not fit, where, how much is free, and that nothing has to be repaired."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake.exceptions import DeltaError

from airworthy.errors import ServiceUnavailableError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WORDS = ("No space left on device", "Disk quota exceeded", "File too large")


class DiskFullError(ServiceUnavailableError):
    """Raised when a disk takes no more; worth trying again when there is space."""


@contextmanager
def writing(url: str, size: int) -> Iterator[None]:
    """Within it, a full disk raises DiskFullError.

    Args:
        url: What is written.
        size: About how many bytes.
    """
    try:
        yield
    except (OSError, DeltaError) as error:
        if not _is_full(error):
            raise
        raise DiskFullError(
            f"{url} cannot be written, the disk is full: about {size} bytes needed, {_free(url)} free",
            next_step="free space there and run it again: nothing was committed, and nothing has to be repaired",
        ) from error


def _is_full(error: OSError | DeltaError) -> bool:
    # delta-rs gives the system's words, not its number.
    return getattr(error, "errno", None) in FULL or any(words in str(error) for words in WORDS)


def _free(url: str) -> str:
    folder = Path(url.removeprefix("file://"))
    while folder != folder.parent:
        if folder.exists():
            return f"{shutil.disk_usage(folder).free} bytes"
        folder = folder.parent
    return "nobody knows how many"
