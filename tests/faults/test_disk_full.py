"""F11: a full disk, from any write on: a clear error, nothing half committed, and no repair when there is space again.

The disk is full for one process by the preloaded library: every write to a file under ``var`` gets ENOSPC. PostgreSQL's is
a small file system in memory, which only root can mount.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from .campaign import FULL_CAMPAIGN, WORK, chosen
from .invariant import violations
from .world import COUNT, FULL, World


def test_a_full_disk_is_told_and_needs_no_repair(world: World, findings: list[dict[str, Any]]) -> None:
    (ended,) = world.run(WORK, mode=COUNT)
    effects, expected = int(ended["said"]), world.state()
    problems = []
    for point in chosen("full", effects, 40 if FULL_CAMPAIGN else 1):
        world.reset()
        world.run(WORK, at=point, mode=FULL)
        # What is published then is still whole,
        broken = violations(world)
        told = [event for event in world.history() if "error" in event]
        broken += [
            f"{event['error']}: {event['what'][:200]}"
            for event in told
            if event["error"] != "DiskFullError" or "bytes needed" not in event["what"]
        ]
        # and with space again the next run ends as if nothing had been.
        world.run(WORK)
        if world.state() != expected:
            broken.append("the result differs from the undisturbed one")
        findings.append(
            {"fault": "F11 disk full", "point": point, "of": effects, "errors": len(told), "violations": broken}
        )  # fmt: skip
        problems += [f"full from {point} of {effects}: {words}" for words in broken + violations(world)]
    assert problems == []


TOLD = ("is full", "gave no connection")
"""What a database that cannot write says, in our words; PostgreSQL opens no connection when it cannot write at all."""


@pytest.fixture
def small_disk(postgres: Path) -> Iterator[Path]:
    """A file system of 96 MB that PostgreSQL may write to."""
    folder = Path(tempfile.mkdtemp(prefix="aw-small", dir="/tmp"))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip("a small file system cannot be mounted here (it takes root)")
    (folder / "space").mkdir()
    owner = (postgres / "postmaster.pid").stat()
    os.chown(folder / "space", owner.st_uid, owner.st_gid)
    folder.chmod(0o755)
    yield folder
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


@pytest.mark.skipif(not FULL_CAMPAIGN, reason="a part of make chaos")
@pytest.mark.parametrize("database", ["ledger", "online"])
def test_a_full_disk_of_the_database_is_told_and_needs_no_repair(
    world: World, postgres: Path, small_disk: Path, database: str, findings: list[dict[str, Any]]
) -> None:
    def sql(statement: str) -> None:
        with psycopg.connect(f"host={postgres} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(statement)

    world.run(WORK)
    expected = world.state()
    world.reset()
    # Given a database on a disk without a byte of space,
    sql(f"CREATE TABLESPACE small_{database} LOCATION '{small_disk / 'space'}'")
    try:
        sql(f"ALTER DATABASE {world.database(database)} SET TABLESPACE small_{database}")
        world.online() if database == "online" else world.state()  # PostgreSQL writes a file for the first connection
        filler = small_disk / "filler"
        file = os.open(filler, os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while os.write(file, b"x" * 4096):
                pass
        os.close(file)
        assert shutil.disk_usage(small_disk).free == 0
        # when work is done until it needs space, then that is told, and what is published is whole;
        world.run(WORK)
        told = [event for event in world.history() if "error" in event]
        broken = violations(world)
        broken += [f"not told: {event}" for event in told if not any(w in event["what"] for w in TOLD)]
        # and with space again the next run ends as if nothing had been.
        filler.unlink()
        world.run(WORK)
        if world.state() != expected:
            broken.append("the result differs from the undisturbed one")
        findings.append({"fault": f"F11 disk of {database} full", "errors": len(told), "violations": broken})
        assert broken + violations(world) == []
        assert told or database == "online", "the database needed no space: it was not tested"
    finally:
        world.reset()
        sql(f"DROP TABLESPACE small_{database}")
