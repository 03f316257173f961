"""The landing zone: atomic deliveries, names that are not trusted, a digest that changes with every correction."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from parcels import world

from airworthy.config import UseCase, get_settings, load_use_case
from airworthy.intervals import Interval, days
from airworthy.lake import landing

DAY = Interval.of("2013-11-05")


@pytest.fixture
def zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty local landing zone."""
    monkeypatch.setenv("AIRWORTHY_VAR", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path / "landing" / "parcels"
    get_settings.cache_clear()


@pytest.fixture
def use_case() -> UseCase:
    return load_use_case("parcels")


def manifest_of(zone: Path, source: str, /, **changes: object) -> None:
    path = zone / source / DAY.key / landing.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_delivery_is_a_named_file_and_a_manifest(zone: Path, use_case: UseCase) -> None:
    manifest = world.land_parcels(use_case, DAY.key)
    folder = zone / "parcels" / DAY.key
    assert sorted(p.name for p in folder.iterdir()) == sorted([manifest.file, "manifest.json"])
    assert manifest.file == f"parcels-2013-11-05.{manifest.sha256[:12]}.csv"
    assert manifest.rows == 40
    assert landing.read_bytes(landing.data_file(use_case, manifest)) == world.to_csv(world.parcels(DAY.key))


def test_an_interval_is_landed_when_every_required_source_is(zone: Path, use_case: UseCase) -> None:
    assert landing.landed(use_case, DAY) is None
    world.land_parcels(use_case, DAY.key)
    assert landing.landed(use_case, DAY) is None
    assert [Path(u).parts[-3] for u in landing.missing(use_case, DAY)] == ["depots"]
    world.land_depots(use_case, DAY.key)
    found = landing.landed(use_case, DAY)
    assert found is not None
    assert set(found.manifests) == {"parcels", "depots"}
    assert landing.missing(use_case, DAY) == []


def test_the_digest_changes_with_content_and_only_with_content(zone: Path, use_case: UseCase) -> None:
    world.land_day(use_case, DAY.key)
    first = landing.landed(use_case, DAY)
    manifest_of(zone, "parcels", published_at="2013-11-09T00:00:00Z")
    again = landing.landed(use_case, DAY)
    world.land_parcels(use_case, DAY.key, world.parcels(DAY.key, 39))
    corrected = landing.landed(use_case, DAY)
    manifest_of(zone, "parcels", rows=41)
    recounted = landing.landed(use_case, DAY)
    world.land_vans(use_case, DAY.key)
    with_vans = landing.landed(use_case, DAY)
    one, two, *others = [found.digest for found in (first, again, corrected, recounted, with_vans) if found]
    assert one == two
    assert len({one, *others}) == 4


def test_a_delivery_that_stops_before_its_manifest_is_not_there(
    zone: Path, use_case: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.land_depots(use_case, DAY.key)
    write = landing.write_file

    def killed(folder: str, name: str, content: bytes) -> str:
        if name == landing.MANIFEST:
            raise KeyboardInterrupt
        return write(folder, name, content)

    monkeypatch.setattr(landing, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        world.land_parcels(use_case, DAY.key)
    assert landing.landed(use_case, DAY) is None
    assert landing.landed_digests(use_case) == {}


def test_a_reader_never_sees_half_a_file(zone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a writer that is killed after some bytes,
    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        landing.write_file(str(zone), "manifest.json", b"0123456789")
    # then the name that readers look at does not exist.
    assert landing.read_bytes(f"{zone}/manifest.json") is None


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/passwd",
        "/etc/passwd",
        "..",
        "a..b.csv",
        "folder/file.csv",
        "folder\\file.csv",
        "manifest.json",
        "",
        ".hidden",
        "nul\x00.csv",
        "x" * 300,
    ],
)
def test_a_hostile_file_name_is_refused(zone: Path, use_case: UseCase, name: str) -> None:
    world.land_day(use_case, DAY.key)
    manifest_of(zone, "parcels", file=name)
    found = landing.landed(use_case, DAY)
    assert found is not None
    assert "parcels" not in found.manifests
    assert "plain name" in found.broken["parcels"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interval": "2013-11-06"}, "2013-11-06"),
        ({"source": "depots"}, "depots"),
        ({"sha256": "12"}, "sha256"),
        ({"rows": -1}, "rows"),
        ({"rows": None}, "rows"),
        ({"published_at": "2013-11-06T00:00:00"}, "published_at"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(
    zone: Path, use_case: UseCase, changes: dict[str, object], words: str
) -> None:
    world.land_day(use_case, DAY.key)
    good = landing.landed(use_case, DAY)
    manifest_of(zone, "parcels", **changes)
    found = landing.landed(use_case, DAY)
    assert good is not None
    assert found is not None
    assert words in found.broken["parcels"]
    assert found.digest != good.digest
    # The watcher sees the same digests.
    assert landing.landed_digests(use_case) == {DAY.key: found.digest}


def test_a_torn_manifest_is_broken_not_fatal(zone: Path, use_case: UseCase) -> None:
    world.land_day(use_case, DAY.key)
    (zone / "parcels" / DAY.key / "manifest.json").write_bytes(b'{"source": "par')
    found = landing.landed(use_case, DAY)
    assert found is not None
    assert "manifest.json" in found.broken["parcels"]


def test_the_listing_knows_every_complete_interval_of_the_range(zone: Path, use_case: UseCase) -> None:
    for key in ("2013-11-05", "2013-11-06"):
        world.land_day(use_case, key)
    world.land_day(use_case, "2014-02-01")  # after data.last
    world.land_depots(use_case, "2013-11-07")  # parcels are missing
    (zone / "parcels" / "not-a-day").mkdir()
    (zone / "parcels" / "2013-11-08").write_text("a file where a folder should be")
    (zone / "parcels" / "2013-11-05" / ".manifest.json.abc.tmp").write_text("{")
    digests = landing.landed_digests(use_case)
    assert list(digests) == ["2013-11-05", "2013-11-06"]
    for key, digest in digests.items():
        found = landing.landed(use_case, Interval.of(key))
        assert found is not None
        assert found.digest == digest


def test_the_listing_sees_a_correction_and_reads_nothing_else_again(
    zone: Path, use_case: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("2013-11-05", "2013-11-06"):
        world.land_day(use_case, key)
    before = landing.landed_digests(use_case)
    world.land_parcels(use_case, "2013-11-06", world.parcels("2013-11-06", 30))
    read: list[str] = []
    original = landing.read_bytes
    monkeypatch.setattr(landing, "read_bytes", lambda url: read.append(url) or original(url))
    after = landing.landed_digests(use_case)
    assert before["2013-11-05"] == after["2013-11-05"]
    assert before["2013-11-06"] != after["2013-11-06"]
    assert len(read) == 1


def test_a_year_of_four_sources_is_listed_cheaply(zone: Path, use_case: UseCase) -> None:
    # Given 365 days of four sources (the use case with its columns four times),
    four = use_case.model_copy(
        update={
            "sources": dict.fromkeys(("one", "two", "three", "four"), use_case.sources["parcels"]),
            "data": use_case.data.model_copy(update={"first": datetime(2013, 1, 1, tzinfo=UTC).date()}),
        }
    )
    for interval in days(four.data.first_interval, four.data.last_interval):
        for source in four.sources:
            landing.land(four, source, interval, b"x", 1, interval.end)
    landing.landed_digests(four)
    # when a watcher looks again,
    start = time.process_time()
    digests = landing.landed_digests(four)
    seconds = time.process_time() - start
    # then it costs milliseconds.
    assert len(digests) == 365
    assert seconds < 1


def test_an_object_store_works_the_same(
    object_store: str, use_case: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRWORTHY_VAR", str(tmp_path))
    monkeypatch.setenv("AIRWORTHY_LANDING_URL", f"{object_store}/landing")
    get_settings.cache_clear()
    try:
        assert landing.landed_digests(use_case) == {}
        world.land_day(use_case, DAY.key)
        found = landing.landed(use_case, DAY)
        assert found is not None
        assert landing.landed_digests(use_case) == {DAY.key: found.digest}
        content = landing.read_bytes(landing.data_file(use_case, found.manifests["parcels"]))
        assert content == world.to_csv(world.parcels(DAY.key))
        world.land_parcels(use_case, DAY.key, world.parcels(DAY.key, 3))
        corrected = landing.landed(use_case, DAY)
        assert corrected is not None
        assert landing.landed_digests(use_case) == {DAY.key: corrected.digest} != {DAY.key: found.digest}
    finally:
        get_settings.cache_clear()
