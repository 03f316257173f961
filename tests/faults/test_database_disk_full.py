"""F11: the disk of the PostgreSQL server is full. It is told, nothing is lost, and with space again nothing has to be repaired.

The server's folder is a small file system of its own, so that the disk is really full, and only for the server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from tiny_orders import world as shop

from airworthy import features, ingest
from airworthy.config import UseCase, get_settings
from airworthy.errors import ServiceUnavailableError
from airworthy.features.catalog import catalog
from airworthy.features.publish import write
from airworthy.intervals import Interval
from airworthy.ledger import audit, commits
from airworthy.platform import postgres
from airworthy.platform.layout import Layout

from ..integration.serving.world import NOW, ORDER  # noqa: TID252 - one small world
from .test_database_restart import DAYS, assert_published_once, on_its_own_postgres

SIZE_MB = 256
CUSTOMER = "c15"  # of no value in the world of serving
AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> Iterator[UseCase]:
    """The tiny use case; its PostgreSQL is on a file system of 256 MB."""
    folder = Path(tempfile.mkdtemp(prefix="aw", dir="/tmp"))
    place = folder / "var" / "pg"
    place.mkdir(parents=True)
    try:
        mounting = [*AS_ROOT, "mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,uid={os.geteuid()}", "tmpfs", str(place)]
        mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        mounted = subprocess.CompletedProcess(mounting, 1, "", str(error))
    if mounted.returncode:
        why = f"a small file system cannot be mounted, which takes root or sudo: {mounted.stderr.strip()}"
        if os.environ.get("AIRWORTHY_TESTS_COMPLETE"):
            pytest.fail(why)
        pytest.skip(why)
    try:
        with on_its_own_postgres(folder, monkeypatch) as case:
            yield case
    finally:
        subprocess.run([*AS_ROOT, "umount", str(place)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def fill() -> Path:
    """Take all space; its log of changes has some files ahead, as on a server that has been running for a while."""
    with postgres.connect(get_settings().socket_dir) as server:
        for _ in range(3):
            server.execute("SELECT pg_switch_wal()")
            server.execute("CHECKPOINT")
    filler = Layout(get_settings()).postgres / "filler"
    with filler.open("wb") as file:
        block = os.fstatvfs(file.fileno())
        os.posix_fallocate(file.fileno(), 0, block.f_bavail * block.f_frsize)
    assert shutil.disk_usage(filler).free == 0
    return filler


def online(orders: UseCase, *customers: str) -> set[object]:
    """Orders of the last seven days of customers, as the online store has them."""
    vectors = features.OnlineFeatures(orders).lookup([{**ORDER, "customer": customer} for customer in customers], NOW)
    return {vector.values["orders_7d"] for vector in vectors}


def in_a_week(customer: str, days: int) -> int:
    """The same when so many days are published, as the shop knows it."""
    return sum(row["customer"] == customer for day in DAYS[:days][-7:] for row in shop.orders_of(day))


def values(customers: list[str]) -> pa.Table:
    """A value for each customer."""
    day = NOW.replace(hour=0)
    row = {"event_timestamp": day, "available_at": day, "returned_share_7d": 0.0, "orders_7d": 1, "mean_amount_7d": 1.0}
    return pa.Table.from_pylist([{"customer": customer, **row} for customer in customers])


def test_a_full_disk_of_the_database_is_told_and_needs_no_repair(orders: UseCase) -> None:
    # Given a published day and more that landed.
    for day in DAYS:
        shop.land_day(orders, day)
    ingest.ingest_interval(orders, Interval.of(DAYS[0]), run="before")
    features.catch_up(orders, run="before")
    seen = 1

    # When the server's disk is full,
    filler, told = fill(), []
    for number, day in enumerate(DAYS[1:], 2):
        try:
            ingest.ingest_interval(orders, Interval.of(day), run="full")
            features.catch_up(orders, run="full")
            seen = number  # what still fits is taken
        except ServiceUnavailableError as error:
            told.append(error)
    (view,), newcomers = catalog(orders).views, [f"n{number:04d}" for number in range(2000)]
    with pytest.raises(ServiceUnavailableError) as refused:
        write(orders, view, values(newcomers))
    told.append(refused.value)
    written = 0
    while written < 1000:
        try:
            audit.record_action("ada", "rollback", orders.name, str(written), "a reason" * 20, "shell")
            written += 1
        except ServiceUnavailableError as error:
            told.append(error)
            break
    # then each error says what is full, where, and what to do;
    assert {error.what.partition(" at ")[0] for error in told} == {"the online store", "the disk of the ledger"}
    for error in told:
        assert "is full" in error.what
        assert str(get_settings().socket_dir) in error.what
        assert "free space on" in error.next_step
    # the server answers, with all that it took, and nothing of what it refused.
    assert [action.subject for action in audit.actions(orders.name)] == [str(n) for n in range(written)]
    decided = [day for day in DAYS if day in commits.decided_intervals(orders.name)]
    assert_published_once(orders, decided)
    assert DAYS[0] in decided
    assert online(orders, CUSTOMER) <= {in_a_week(CUSTOMER, days) for days in range(seen, len(DAYS) + 1)}
    assert online(orders, *newcomers) == {None}

    # And when there is space again, the next run ends as if nothing had been.
    filler.unlink()
    for day in DAYS:
        ingest.ingest_interval(orders, Interval.of(day), run="again")
    features.catch_up(orders, run="again")
    assert_published_once(orders, DAYS)
    write(orders, view, values(newcomers))
    assert online(orders, *newcomers) == {1}
    assert online(orders, CUSTOMER) == {in_a_week(CUSTOMER, len(DAYS))}
