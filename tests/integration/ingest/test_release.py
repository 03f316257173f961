"""Quarantine is released by correcting the rule: judged again, published as a correction, with who and why."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from parcels import world
from sqlalchemy import select

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError, DataRejectedError, NotLandedError
from airworthy.ingest import contents, entries, ingest_interval, release
from airworthy.ingest import interval as stage
from airworthy.intervals import Interval
from airworthy.lake import landing, quarantine, tables
from airworthy.ledger import clock, commits
from airworthy.ledger.database import transaction
from airworthy.ledger.models import QuarantineRelease
from airworthy.records import ReleaseOutcome

KEY = "2013-11-05"
DAY = Interval.of(KEY)
LATER = DAY.end + timedelta(days=3)


def rows(layer: str, source: str = "parcels") -> list[dict[str, Any]]:
    return tables.read(f"parcels/{layer}/{source}", DAY, DAY).to_pylist()


def names(layer: str) -> set[str]:
    if layer == "quarantine":
        return {json.loads(r["row"])["parcel"] for r in rows(layer)}
    return {r["parcel"] for r in rows(layer)}


def add_up() -> None:
    assert Counter(r["parcel"] for r in rows("raw")) == Counter(
        [*(r["parcel"] for r in rows("clean")), *(json.loads(r["row"])["parcel"] for r in rows("quarantine"))]
    )


def zones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *allowed: str) -> None:
    """Correct the suite: these zones exist."""
    own = UseCase.suite_path

    def path(self: UseCase, table: str) -> Path:
        if table != "parcels":
            return own(self, table)
        suite = json.loads(own(self, table).read_text())
        suite["expectations"][1]["kwargs"]["value_set"] = list(allowed)
        (tmp_path / "parcels.json").write_text(json.dumps(suite))
        return tmp_path / "parcels.json"

    monkeypatch.setattr(UseCase, "suite_path", path)


def let_in(parcels: UseCase) -> ReleaseOutcome:
    return release(parcels, DAY, who="cli/ann", why="the west opened")


def asked() -> list[tuple[str, str, str]]:
    with transaction() as session:
        return [(r.who, r.why, r.status) for r in session.scalars(select(QuarantineRelease))]


@pytest.fixture
def four_out(parcels: UseCase) -> UseCase:
    """A published day with three parcels of unknown zones in quarantine, and one without its number of pieces."""
    given = world.parcels(KEY)
    for n, zone in ((3, "west"), (4, "west"), (5, "moon")):
        given[n]["zone"] = zone
    given[9]["pieces"] = ""
    world.land_parcels(parcels, KEY, given)
    world.land_depots(parcels, KEY)
    assert ingest_interval(parcels, DAY, run="test").rows_rejected["parcels"] == 4
    clock.advance(parcels, LATER)
    return parcels


def test_what_passes_under_the_corrected_suite_is_published_and_the_rest_stays(
    four_out: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    depots = commits.newest_commits("parcels/clean/depots")[KEY].digest
    zones(monkeypatch, tmp_path, "north", "south", "west")
    outcome = let_in(four_out)
    assert (outcome.status, outcome.released, outcome.kept) == ("released", {"parcels": 2}, {"parcels": 2})
    assert "2 rows came out of quarantine" in outcome.reason
    add_up()
    kept = {json.loads(r["row"])["parcel"]: r["reason"] for r in rows("quarantine")}
    assert set(kept) == {"p20131105005", "p20131105009"}
    assert "zone: expect_column_values_to_be_in_set" in kept["p20131105005"]
    # Nobody could use them before they came out; what was published before was known before.
    known = {r["parcel"]: r["available_at"] for r in rows("clean")}
    out = {n for n, moment in known.items() if moment == LATER}
    assert out == {"p20131105003", "p20131105004"}
    assert {known[n] for n in known if n not in out} == {DAY.end + timedelta(hours=2)}
    assert commits.newest_commits("parcels/clean/depots")[KEY].digest == depots
    assert asked() == [("cli/ann", "the west opened", "released")]


def test_without_a_correction_nothing_is_published(four_out: UseCase) -> None:
    version = tables.open_table("parcels/clean/parcels").version()
    outcome = let_in(four_out)
    assert (outcome.status, outcome.kept) == ("kept", {"parcels": 4})
    assert tables.open_table("parcels/clean/parcels").version() == version
    assert asked() == [("cli/ann", "the west opened", "kept")]


def test_a_suite_that_refuses_the_day_today_changes_nothing(
    four_out: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = (names("clean"), names("quarantine"))
    zones(monkeypatch, tmp_path, "west")
    with pytest.raises(DataRejectedError, match="rows rejected, more than the share"):
        let_in(four_out)
    assert (names("clean"), names("quarantine")) == before
    assert commits.decided_intervals("parcels")[KEY].status == "published"
    assert [status for *_, status in asked()] == ["refused"]


def test_a_row_that_fails_today_is_withdrawn_and_that_is_said(
    four_out: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    zones(monkeypatch, tmp_path, "north", "south", "west")
    let_in(four_out)
    zones(monkeypatch, tmp_path, "north", "south", "moon")
    outcome = let_in(four_out)
    assert outcome.released == {"parcels": 1}
    assert "2 rows that were published fail today and were withdrawn" in outcome.reason
    assert names("quarantine") == {f"p2013110500{n}" for n in (3, 4, 9)}
    add_up()


def test_a_refused_file_is_let_in_after_the_fix_even_when_upstream_took_it_away(
    parcels: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = world.parcels(KEY)
    for n in range(8):
        given[n]["zone"] = "west"
    manifest = world.land_parcels(parcels, KEY, given)
    world.land_depots(parcels, KEY)
    with pytest.raises(DataRejectedError, match="airworthy quarantine release"):
        ingest_interval(parcels, DAY, run="test")
    (entry,) = entries(parcels)
    assert (entry.interval, entry.source, entry.file) == (KEY, "parcels", manifest.file)
    assert entry.reason.startswith("8 of 40 rows rejected")
    Path(landing.data_file(parcels, manifest)).unlink()
    with pytest.raises(DataRejectedError, match="8 of 40 rows"):
        let_in(parcels)
    assert rows("clean") == []
    zones(monkeypatch, tmp_path, "north", "south", "west")
    clock.advance(parcels, LATER)
    outcome = let_in(parcels)
    assert (outcome.status, outcome.released) == ("released", {"parcels": 40, "depots": 8})
    add_up()
    assert {r["available_at"] for r in rows("clean")} == {LATER}
    assert [status for *_, status in asked()] == ["refused", "released"]
    assert entries(parcels) == []


def test_a_release_needs_a_reason_something_to_release_and_the_same_files(four_out: UseCase) -> None:
    with pytest.raises(ConfigurationError, match="needs a reason"):
        release(four_out, DAY, who="ann", why=" ")
    with pytest.raises(ConfigurationError, match="nothing in quarantine"):
        release(four_out, DAY.shift(1), who="ann", why="x")
    world.land_parcels(four_out, KEY)
    with pytest.raises(NotLandedError, match="other files"):
        let_in(four_out)
    (Path(landing.folder(four_out, "parcels", DAY)) / landing.MANIFEST).unlink()
    with pytest.raises(NotLandedError, match="no longer in the landing zone"):
        let_in(four_out)
    assert asked() == []


def test_who_and_why_are_kept_when_the_release_is_killed_on_the_way(
    four_out: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    zones(monkeypatch, tmp_path, "north", "south", "west")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commits, "decide_interval", killed)
        with pytest.raises(KeyboardInterrupt):
            let_in(four_out)
    assert asked() == [("cli/ann", "the west opened", "asked")]
    add_up()
    let_in(four_out)
    add_up()


def test_the_list_and_the_details_say_what_where_and_why(four_out: UseCase) -> None:
    found = entries(four_out)
    assert [(e.source, e.rows) for e in found] == [("parcels", 1), ("parcels", 3)]
    assert {e.reason.split(":")[0] for e in found} == {"zone", "pieces"}
    assert (
        entries(four_out, source="depots")
        == entries(four_out, DAY.shift(1))
        == entries(four_out, None, DAY.shift(-1))
        == []
    )
    shown = contents(four_out, DAY, limit=1)
    assert (shown["status"], shown["parcels"]["rows"], len(shown["parcels"]["first"])) == ("published", 4, 1)
    assert contents(four_out, DAY.shift(1))["status"] == "never ingested"
    assert quarantine.read_rows(four_out, "parcels").num_rows == 4
    assert stage.ingest_interval(four_out, DAY, run="test").status == "already"
