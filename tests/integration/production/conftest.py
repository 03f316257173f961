"""What the production parts need on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from ports import free_ports

from .native import start, stop

COMPLETE = "AIRWORTHY_TESTS_COMPLETE"


def missing(what: str, how: str) -> None:
    """Leave a test out, or fail it where everything must be there."""
    if os.environ.get(COMPLETE) == "1":
        pytest.fail(f"{what} is not here, and {COMPLETE}=1 wants every test: {how}")
    pytest.skip(f"{what} is not here: {how}")


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """Folder of a PostgreSQL server's programs: the one on the PATH, or Debian's newest."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    missing("PostgreSQL's server", "apt-get install postgresql")
    raise AssertionError


@pytest.fixture(scope="session")
def redis_server() -> str:
    """The Redis server's program."""
    found = shutil.which("redis-server")
    if not found:
        missing("redis-server", "apt-get install redis-server")
    return str(found)


@pytest.fixture(scope="session")
def object_store() -> Iterator[int]:
    """An S3 API on loopback (moto's server), for the session; yields its port."""
    if importlib.util.find_spec("moto") is None:
        missing("moto", "uv sync (it is in the group dev)")
    (port,) = free_ports(1)
    folder = Path(tempfile.mkdtemp(prefix="aw-moto-"))
    server = start(
        [sys.executable, str(Path(__file__).with_name("s3_server.py")), str(port)],
        dict(os.environ),
        folder / "moto.log",
    )
    deadline = time.monotonic() + 90
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
            break
        except HTTPError:
            break
        except OSError:
            assert server.poll() is None, (folder / "moto.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "moto's server does not answer"
            time.sleep(0.2)
    yield port
    stop([server])
    shutil.rmtree(folder, ignore_errors=True)
