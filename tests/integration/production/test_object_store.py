"""The lake, the landing zone and releases on an S3 API: the same promises as on a local disk."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
import s3fs

from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.config.use_case import use_cases
from airworthy.errors import AirworthyError, ServiceUnavailableError, SupersededError
from airworthy.lake import landing, tables
from airworthy.ledger import commits
from airworthy.platform import migrations
from airworthy.training import folders
from ports import free_ports

WRITER = Path(__file__).with_name("delta_writer.py")
SCHEMA = pa.schema(
    [
        ("writer", pa.string()),
        ("round", pa.int64()),
        pa.field("interval", pa.string(), nullable=False),
    ]
)


@pytest.fixture
def s3(platform_env: Settings, object_store: int, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A platform whose lake, landing zone and releases are in a new bucket, which migrations make."""
    bucket = f"s3://aw-{secrets.token_hex(4)}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{object_store}",
        "AWS_ALLOW_HTTP": "true",
        "NO_PROXY": "127.0.0.1",
        "AIRWORTHY_USE_CASES": "tiny_orders",
        "AIRWORTHY_LAKE_URL": f"{bucket}/lake",
        "AIRWORTHY_LANDING_URL": f"{bucket}/landing",
        "AIRWORTHY_RELEASE_URL": f"{bucket}/releases",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # a client keeps the address that it was made with
    get_settings.cache_clear()
    use_cases.cache_clear()
    assert migrations.buckets(get_settings()) == [bucket]
    return get_settings()


@pytest.fixture
def orders(s3: Settings) -> UseCase:
    return get_use_case("tiny_orders")


def test_migrations_make_the_bucket_once(s3: Settings) -> None:
    assert migrations.buckets(s3) == []


def test_a_store_that_does_not_answer_is_a_clear_error(s3: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(ServiceUnavailableError, match="cannot be made or looked at"):
            migrations.buckets(s3)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_of_writers_that_replace_one_interval_exactly_one_wins(s3: Settings, tmp_path: Path) -> None:
    rivals, rounds = 3, 15
    tables.create("race", SCHEMA)
    writers = [
        subprocess.Popen(
            [sys.executable, str(WRITER), "race", f"w{i}", str(rivals), str(rounds), str(tmp_path)],
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(rivals)
    ]
    answers = [writer.communicate(timeout=240) for writer in writers]
    assert [w.returncode for w in writers] == [0] * rivals, answers
    said = [out.splitlines() for out, _ in answers]

    for number in range(rounds):
        words = [lines[number] for lines in said]
        assert words.count("won") == 1, f"round {number}: {words}"
    table = tables.open_table("race")
    assert table.version() == rounds
    last = next(i for i, lines in enumerate(said) if lines[-1] == "won")
    assert table.to_pyarrow_table().to_pydict() == {
        "writer": [f"w{last}"] * 3,
        "round": [rounds - 1] * 3,
        "interval": ["2024-01-01"] * 3,
    }


def test_a_superseded_writer_publishes_nothing(s3: Settings) -> None:
    tables.create("race", SCHEMA)
    resource = "race/2024-01-01"
    old = commits.claim(resource, "the first")
    new = commits.claim(resource, "the second")

    def rows(name: str) -> dict[str, pa.Table]:
        return {"2024-01-01": pa.table({"writer": [name], "round": pa.array([0], pa.int64())})}

    with pytest.raises(SupersededError):
        tables.publish("race", rows("old"), resource=resource, token=old, inputs={"2024-01-01": "x"})
    assert tables.read("race").num_rows == 0
    (ref,) = tables.publish("race", rows("new"), resource=resource, token=new, inputs={"2024-01-01": "x"})
    assert tables.read("race")["writer"].to_pylist() == ["new"]
    assert (ref.data_version, ref.rows) == (1, 1)


def test_landed_files_are_found_and_a_correction_is_another_delivery(orders: UseCase) -> None:
    from tiny_orders import world

    keys = world.land_history(orders, "2024-01-03")
    first = landing.landed_digests(orders)
    assert list(first) == keys
    found = landing.landed(orders, orders.data.first_interval)
    assert found is not None
    content = landing.read_bytes(landing.data_file(orders, found.manifests["orders"]))
    assert content == world.to_csv(world.orders_of("2024-01-01"))

    world.land_day(orders, "2024-01-02", seed=8)
    second = landing.landed_digests(orders)
    assert [key for key in keys if first[key] != second[key]] == ["2024-01-02"]


def test_a_folder_is_whole_or_not_there_and_readers_never_see_a_part(s3: Settings) -> None:
    content = {"a.bin": os.urandom(1 << 20), "b.json": b"{}"}
    digest, folder = folders.write_folder(f"{s3.release_url}/models", content)
    assert folders.read_folder(folder, digest)[1] == content
    assert folders.write_folder(f"{s3.release_url}/models", content)[0] == digest

    url, stop = f"{s3.release_url}/page.html", threading.Event()
    sizes: set[int | None] = set()
    folders.put(url, b"x" * 1000)

    def read() -> None:
        while not stop.is_set():
            found = landing.read_bytes(url)
            sizes.add(None if found is None else len(found))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        folders.put(url, b"y" * 200_000)
        folders.put(url, b"x" * 1000)
    stop.set()
    reader.join()
    assert sizes <= {1000, 200_000}


def test_a_table_that_was_never_created_is_a_clear_error(s3: Settings) -> None:
    with pytest.raises(AirworthyError, match="does not exist"):
        tables.open_table("nothing/here")
