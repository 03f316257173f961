"""One interval from landing to clean: published once, or refused with nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from parcels import world
from sqlalchemy import func, select

from airworthy.config import UseCase, get_settings
from airworthy.errors import DataRejectedError, NotLandedError, SupersededError
from airworthy.ingest import ingest_interval, release
from airworthy.ingest import interval as stage
from airworthy.ingest import prepare as preparation
from airworthy.intervals import Interval
from airworthy.lake import landing, quarantine, tables
from airworthy.ledger import clock, commits
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Claim, Validation
from airworthy.records import IngestOutcome
from stage_suites import between, give_suite

KEY, OTHER = "2013-11-05", "2013-11-06"
DAY, NEXT = Interval.of(KEY), Interval.of(OTHER)


def ingest(use_case: UseCase, key: str = KEY) -> IngestOutcome:
    return ingest_interval(use_case, Interval.of(key), run="test")


def rows(layer: str, source: str = "parcels", key: str = KEY) -> list[dict[str, object]]:
    return tables.read(f"parcels/{layer}/{source}", Interval.of(key), Interval.of(key)).to_pylist()


def claims() -> int:
    with transaction() as session:
        return int(session.scalar(select(func.sum(Claim.token))) or 0)


# ---- the straight line


def test_a_landed_interval_is_published_whole(parcels: UseCase) -> None:
    world.land_day(parcels, KEY)
    outcome = ingest(parcels)
    found = landing.landed(parcels, DAY)
    assert found is not None
    assert outcome.status == "published"
    assert outcome.landed_digest == found.digest
    assert outcome.rows_in == {"parcels": 40, "depots": 8}
    assert outcome.rows_rejected == {"parcels": 0, "depots": 0}
    assert [(p.table, p.rows) for p in outcome.partitions] == [
        ("parcels/clean/parcels", 40),
        ("parcels/clean/depots", 8),
    ]
    assert outcome.reason == "published 40 parcels, 8 depots"
    raw, clean = rows("raw"), rows("clean")
    assert (len(raw), len(clean), rows("quarantine")) == (40, 40, [])
    first = min(clean, key=lambda r: str(r["parcel"]))
    assert first["promised"] == datetime(2013, 11, 5, 13, 15, tzinfo=UTC)  # 08:15 in New York
    assert first["zone"] == "NORTH"
    assert first["available_at"] == DAY.end + timedelta(hours=2)
    assert {r["available_at"] - r["at"] for r in rows("clean", "depots")} == {timedelta(hours=1)}  # type: ignore[operator]
    for ref in outcome.partitions:
        committed = commits.newest_commits(ref.table)[KEY]
        assert (committed.digest, committed.inputs) == (ref.digest, found.digest)
    assert outcome == IngestOutcome.model_validate(json.loads(json.dumps(outcome.to_json())))


def test_data_docs_and_the_ledger_hold_the_reports(parcels: UseCase) -> None:
    world.land_day(parcels, KEY)
    outcome = ingest(parcels)
    url = outcome.links["Data Docs"]
    page = Path(url.replace(get_settings().reports_url, get_settings().docs_url))
    assert "parcels/raw/depots" in page.read_text()
    with transaction() as session:
        found = session.scalars(select(Validation).order_by(Validation.table_name)).all()
    assert [(v.table_name, v.interval, v.passed) for v in found] == [
        ("parcels/raw/depots", KEY, True), ("parcels/raw/parcels", KEY, True)
    ]  # fmt: skip
    assert found[0].report["data_docs"] == url


def test_what_is_not_landed_names_the_folder_and_the_file(parcels: UseCase) -> None:
    world.land_parcels(parcels, KEY)
    with pytest.raises(NotLandedError) as caught:
        ingest(parcels)
    assert f"{get_settings().landing_url}/parcels/depots/{KEY}/manifest.json" in caught.value.what
    assert "parcels/parcels" not in caught.value.what
    assert commits.decided_intervals("parcels") == {}


def test_a_source_that_is_not_required_is_published_when_it_lands(parcels: UseCase) -> None:
    world.land_day(parcels, KEY)
    assert "vans" not in ingest(parcels).rows_in
    assert commits.newest_commits("parcels/clean/vans") == {}
    world.land_vans(parcels, KEY)
    clock.advance(parcels, DAY.end + timedelta(days=9))
    assert ingest(parcels).rows_in["vans"] == 3
    # The vans came late; what was known of the parcels before was known before.
    assert {r["available_at"] for r in rows("clean", "vans")} == {DAY.end + timedelta(days=9)}
    assert {r["available_at"] for r in rows("clean")} == {DAY.end + timedelta(hours=2)}


# ---- once only


def test_a_second_run_finds_it_done(parcels: UseCase) -> None:
    world.land_day(parcels, KEY)
    first = ingest(parcels)
    version = tables.open_table("parcels/clean/parcels").version()
    second = ingest(parcels)
    assert (second.status, second.reason) == ("already", f"already ingested {first.landed_digest[:12]}")
    assert second.partitions == first.partitions
    assert tables.open_table("parcels/clean/parcels").version() == version


def test_twenty_at_once_publish_one_set_of_rows(parcels: UseCase) -> None:
    world.land_day(parcels, KEY)

    def attempt(_: int) -> str:
        try:
            return ingest(parcels).status
        except SupersededError:
            return "superseded"

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(attempt, range(20)))
    assert statuses.count("published") == 1
    assert set(statuses) <= {"published", "superseded", "already"}
    assert (len(rows("raw")), len(rows("clean")), len(rows("clean", "depots"))) == (40, 40, 8)
    decided = commits.decided_intervals("parcels")[KEY]
    assert decided.status == "published"
    assert commits.newest_commits("parcels/clean/parcels")[KEY].token == decided.token


def test_a_writer_that_was_overtaken_publishes_nothing(parcels: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a slow run that has read the first delivery,
    world.land_day(parcels, KEY)
    publish = tables.publish

    def slow(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(tables, "publish", publish)
        world.land_parcels(parcels, KEY, world.parcels(KEY, 30))
        assert ingest(parcels).status == "published"
        return publish(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(tables, "publish", slow)
    # when a newer run publishes the correction before it, then it stands down.
    with pytest.raises(SupersededError):
        ingest(parcels)
    assert len(rows("raw")) == len(rows("clean")) == 30


@pytest.mark.parametrize("layer", ["raw", "quarantine", "clean"])
def test_a_run_killed_before_its_ledger_row_is_finished_by_the_next(
    parcels: UseCase, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    world.land_day(parcels, KEY)
    record = commits.record_commits

    def killed(resource: str, token: int, refs: list[object], inputs: dict[str, str]) -> None:
        if f"/{layer}/" in refs[0].table:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        record(resource, token, refs, inputs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(commits, "record_commits", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(parcels)
    assert commits.decided_intervals("parcels") == {}
    clock.advance(parcels, DAY.end + timedelta(days=30))
    assert ingest(parcels).status == "published"
    assert (len(rows("raw")), len(rows("clean"))) == (40, 40)
    # It is the first delivery still: known when it was, not when the second attempt came.
    assert {r["available_at"] for r in rows("clean")} == {DAY.end + timedelta(hours=2)}


def test_a_run_killed_before_its_decision_is_finished_by_the_next(
    parcels: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.land_day(parcels, KEY)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commits, "decide_interval", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(parcels)
    first = rows("clean")
    clock.advance(parcels, DAY.end + timedelta(days=30))
    assert ingest(parcels).status == "published"
    assert sorted(map(str, rows("clean"))) == sorted(map(str, first))


def test_a_correction_that_died_and_was_taken_back_leaves_nothing(
    parcels: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.land_day(parcels, KEY)
    ingest(parcels)
    first = sorted(map(str, rows("raw")))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commits, "decide_interval", killed)
        world.land_parcels(parcels, KEY, [{**row, "pieces": "9"} for row in world.parcels(KEY)])
        with pytest.raises(KeyboardInterrupt):
            ingest(parcels)
    world.land_day(parcels, KEY)
    assert ingest(parcels).status == "published"
    assert sorted(map(str, rows("raw"))) == first
    assert {row["pieces"] for row in rows("clean")} == {1, 2, 3}
    assert ingest(parcels).status == "already"


@pytest.mark.parametrize("dies", ["record_commits", "check_token"])
def test_rows_that_a_dead_correction_called_replaced_count_on(
    parcels: UseCase, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    # Given a correction that died when it had written what it was about to replace, without or with its row in the ledger,
    world.land_day(parcels, KEY)
    ingest(parcels)
    first, real, calls = sorted(map(str, rows("clean"))), getattr(commits, dies), []

    def killed(*arguments: Any, **more: Any) -> Any:
        written = rows("superseded")
        calls.append(len(written))
        if written and (dies == "record_commits" or commits.newest_commits("parcels/superseded/parcels")):
            raise KeyboardInterrupt
        return real(*arguments, **more)

    clock.advance(parcels, DAY.end + timedelta(days=3))
    with monkeypatch.context() as patch:
        patch.setattr(commits, dies, killed)
        world.land_parcels(parcels, KEY, [{**row, "pieces": "9"} for row in world.parcels(KEY)])
        with pytest.raises(KeyboardInterrupt):
            ingest(parcels)
    assert (calls[-1], sorted(map(str, rows("clean")))) == (40, first)
    # when the first files are landed again, then none of them is said to be replaced, in table and ledger.
    world.land_day(parcels, KEY)
    assert ingest(parcels).status == "published"
    assert (sorted(map(str, rows("clean"))), rows("superseded")) == (first, [])
    commit = commits.newest_commits("parcels/superseded/parcels")[KEY]
    assert commit.digest == tables.digest(tables.read("parcels/superseded/parcels", DAY, DAY))
    assert ingest(parcels).status == "already"


# ---- corrections


def test_a_correction_replaces_its_interval_and_only_that(parcels: UseCase) -> None:
    for key in (KEY, OTHER):
        world.land_day(parcels, key)
        ingest(parcels, key)
    before = commits.newest_commits("parcels/clean/parcels")
    corrected = world.parcels(KEY)
    corrected[0]["late"] = "false"
    del corrected[1]
    corrected.append({**corrected[2], "parcel": "p999"})
    world.land_parcels(parcels, KEY, corrected)
    came = DAY.end + timedelta(days=3)
    clock.advance(parcels, came)
    outcome = ingest(parcels)
    assert outcome.status == "published"
    after = commits.newest_commits("parcels/clean/parcels")
    assert after[OTHER].id == before[OTHER].id
    assert after[KEY].id > before[KEY].id
    assert len(rows("clean", key=OTHER)) == 40
    clean = {r["parcel"]: r for r in rows("clean")}
    assert set(clean) == {r["parcel"] for r in corrected}
    # A changed and a new row are known from when the correction came, the others since the first delivery.
    late = {name for name, row in clean.items() if row["available_at"] == came}
    assert late == {"p20131105000", "p999"}
    assert {r["available_at"] for n, r in clean.items() if n not in late} == {DAY.end + timedelta(hours=2)}
    assert {r["available_at"] for r in rows("clean", "depots")} == {
        r["at"] + timedelta(hours=1) for r in rows("clean", "depots")
    }  # type: ignore[operator]


def test_a_correction_of_a_correction_keeps_what_the_first_taught(parcels: UseCase) -> None:
    world.land_day(parcels, KEY)
    ingest(parcels)
    changed = world.parcels(KEY)
    changed[0]["pieces"] = "9"
    world.land_parcels(parcels, KEY, changed)
    clock.advance(parcels, DAY.end + timedelta(days=1))
    ingest(parcels)
    changed = [dict(r) for r in changed]
    changed[1]["pieces"] = "8"
    world.land_parcels(parcels, KEY, changed)
    clock.advance(parcels, DAY.end + timedelta(days=2))
    ingest(parcels)
    known = {r["parcel"]: r["available_at"] for r in rows("clean")}
    assert known["p20131105000"] == DAY.end + timedelta(days=1)
    assert known["p20131105001"] == DAY.end + timedelta(days=2)
    assert known["p20131105002"] == DAY.end + timedelta(hours=2)


# ---- rows that are refused


def test_rows_outside_the_domain_are_in_quarantine_and_none_is_lost(parcels: UseCase) -> None:
    given = world.parcels(KEY)
    given[3]["zone"] = "west"
    given[5].update(zone="east", weight="-2")
    given[9]["pieces"] = ""
    world.land_parcels(parcels, KEY, given)
    world.land_depots(parcels, KEY)
    outcome = ingest(parcels)
    assert (outcome.status, outcome.rows_rejected["parcels"]) == ("published", 3)
    assert outcome.reason == "published 37 parcels, 8 depots; 3 rows in quarantine"
    raw, clean, kept = rows("raw"), rows("clean"), rows("quarantine")
    assert len(raw) == len(clean) + len(kept) == 40
    by_parcel = {json.loads(str(r["row"]))["parcel"]: r for r in kept}
    assert set(by_parcel) == {given[n]["parcel"] for n in (3, 5, 9)}
    assert not set(by_parcel) & {r["parcel"] for r in clean}
    reason = str(by_parcel[given[5]["parcel"]]["reason"])
    assert "zone: expect_column_values_to_be_in_set" in reason
    assert "weight: expect_column_values_to_be_between" in reason
    assert by_parcel[given[9]["parcel"]]["reason"] == "pieces: empty"
    landed = landing.landed(parcels, DAY)
    assert landed is not None
    assert {r["file"] for r in kept} == {landed.manifests["parcels"].file}
    assert quarantine.read_rows(parcels, "parcels").num_rows == 3


def test_a_correction_empties_the_quarantine_again(parcels: UseCase) -> None:
    given = world.parcels(KEY)
    given[3]["zone"] = "west"
    world.land_parcels(parcels, KEY, given)
    world.land_depots(parcels, KEY)
    ingest(parcels)
    assert len(rows("quarantine")) == 1
    world.land_parcels(parcels, KEY)
    ingest(parcels)
    assert rows("quarantine") == []
    assert len(rows("clean")) == 40


def test_too_many_refused_rows_refuse_the_interval(parcels: UseCase) -> None:
    given = world.parcels(KEY)
    for n in range(5):  # an eighth; the bound is a tenth
        given[n]["zone"] = "west"
    world.land_parcels(parcels, KEY, given)
    world.land_depots(parcels, KEY)
    with pytest.raises(DataRejectedError) as caught:
        ingest(parcels)
    assert "5 of 40 rows rejected, more than the share of 0.1" in str(caught.value)
    assert "zone: expect_column_values_to_be_in_set" in str(caught.value)
    assert "/data_docs/" in caught.value.next_step
    assert rows("clean") == rows("raw") == rows("clean", "depots") == []


def test_a_row_that_gets_lost_on_the_way_is_an_error_before_anything_is_published(
    parcels: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.land_day(parcels, KEY)
    keep = quarantine.keep_rows
    monkeypatch.setattr(
        preparation.quarantine, "keep_rows", lambda rows, reasons, **more: keep(rows, reasons, **more).slice(1)
    )
    given = world.parcels(KEY)
    given[3]["zone"] = "west"
    world.land_parcels(parcels, KEY, given)
    with pytest.raises(stage.RowsLostError, match="40 rows in, 39 clean, 0 in quarantine"):
        ingest(parcels)
    assert rows("raw") == rows("clean") == []


# ---- clocks that change


def test_the_hour_that_never_was_is_in_quarantine(parcels: UseCase) -> None:
    given = world.parcels("2013-03-10")
    given[0]["promised"] = "2013-03-10 02:30:00"
    world.land_parcels(parcels, "2013-03-10", given)
    world.land_depots(parcels, "2013-03-10")
    outcome = ingest(parcels, "2013-03-10")
    assert outcome.rows_rejected["parcels"] == 1
    (kept,) = rows("quarantine", key="2013-03-10")
    assert "does not exist in America/New_York" in str(kept["reason"])
    assert json.loads(str(kept["row"]))["promised"] == "2013-03-10 02:30:00"
    clean = {r["parcel"]: r["promised"] for r in rows("clean", key="2013-03-10")}
    assert clean["p20130310001"] == datetime(2013, 3, 10, 13, 15, tzinfo=UTC)  # 09:15, summer time already


def test_the_hour_that_was_twice_is_the_first_of_the_two(parcels: UseCase) -> None:
    given = world.parcels("2013-11-03")
    given[0]["promised"] = "2013-11-03 01:30:00"
    given[1]["promised"] = "2013-11-03 01:30:00-05:00"
    world.land_parcels(parcels, "2013-11-03", given)
    world.land_depots(parcels, "2013-11-03")
    ingest(parcels, "2013-11-03")
    clean = {r["parcel"]: r["promised"] for r in rows("clean", key="2013-11-03")}
    assert clean["p20131103000"] == datetime(2013, 11, 3, 5, 30, tzinfo=UTC)
    assert clean["p20131103001"] == datetime(2013, 11, 3, 6, 30, tzinfo=UTC)


# ---- files that are refused


def truncated(use_case: UseCase) -> None:
    manifest = world.land_parcels(use_case, KEY)
    path = Path(landing.data_file(use_case, manifest))
    path.write_bytes(path.read_bytes()[:-40])


def altered(use_case: UseCase) -> None:
    manifest = world.land_parcels(use_case, KEY)
    path = Path(landing.data_file(use_case, manifest))
    path.write_bytes(path.read_bytes().replace(b"north", b"south"))


def vanished(use_case: UseCase) -> None:
    Path(landing.data_file(use_case, world.land_parcels(use_case, KEY))).unlink()


def hostile(use_case: UseCase) -> None:
    world.land_parcels(use_case, KEY)
    path = Path(landing.folder(use_case, "parcels", DAY)) / landing.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "file": "../../../../secret.csv"}))


def columns(*names: str) -> Callable[[UseCase], None]:
    given = [{**row, "colour": "red"} for row in world.parcels(KEY)]
    return lambda case: _land(case, world.to_csv(given, names))


def cell(column: str, text: str) -> Callable[[UseCase], None]:
    given = world.parcels(KEY)
    given[4][column] = given[6][column] = text
    return lambda case: _land(case, world.to_csv(given))


def _land(use_case: UseCase, content: bytes, count: int = 40) -> None:
    world.land_parcels(use_case, KEY, content=content, count=count)


FAULTS: dict[str, tuple[Callable[[UseCase], None], str]] = {
    "truncated": (truncated, "truncated or altered"),
    "altered": (altered, "truncated or altered"),
    "vanished": (vanished, "is not there"),
    "no bytes": (lambda case: _land(case, b"", 0), "empty (0 bytes)"),
    "not text": (lambda case: _land(case, b"\xff\xfe\x00" * 20), "not UTF-8 at byte 0"),
    "hostile name": (hostile, "plain name"),
    "missing column": (columns(*world.COLUMNS[:-1]), "late: missing column"),
    "new column": (columns(*world.COLUMNS, "colour"), "colour: unexpected column"),
    "wrong type": (cell("pieces", "many"), "pieces: not of type int64, 2 rows (e.g. many, many)"),
    "no time": (cell("promised", "noon"), "promised: not of type timestamp, 2 rows (e.g. noon, noon)"),
    "row count": (
        lambda case: _land(case, world.to_csv(world.parcels(KEY)), 41),
        "40 rows in the file, 41 in the manifest",
    ),
    "key twice": (cell("parcel", "p7"), "parcel: key is not unique, 2 rows (e.g. p7)"),
    "no rows": (lambda case: _land(case, world.to_csv([]), 0), "expect_table_row_count_to_be_between"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_used_stops_its_interval_and_no_other(parcels: UseCase, fault: str) -> None:
    # Given a good day and one with a damaged file,
    world.land_day(parcels, OTHER)
    ingest(parcels, OTHER)
    damage, words = FAULTS[fault]
    damage(parcels)
    world.land_depots(parcels, KEY)
    # when the damaged one is ingested, then it stops with the reason and the way out,
    with pytest.raises(DataRejectedError) as caught:
        ingest(parcels)
    text = str(caught.value)
    assert words in text
    assert KEY in text
    assert "land a corrected file" in caught.value.next_step
    # nothing of it is published, it is decided, and the file is kept with the reason,
    for layer in ("raw", "clean", "quarantine"):
        assert rows(layer) == rows(layer, "depots") == []
    decided = commits.decided_intervals("parcels")[KEY]
    landed = landing.landed(parcels, DAY)
    assert landed is not None
    assert (decided.status, decided.landed_digest) == ("rejected", landed.digest)
    reason = quarantine.read_reason(parcels, DAY, landed.digest, "parcels")
    assert reason is not None
    assert reason["failures"]
    kept = quarantine.read_file(parcels, DAY, landed.digest, "parcels")
    if fault == "hostile name":
        assert b"secret.csv" in (kept or b"")
    elif fault != "vanished":
        assert kept == Path(landing.data_file(parcels, landed.manifests["parcels"])).read_bytes()
    # the same file is refused again at once with the same words,
    with pytest.raises(DataRejectedError) as again:
        ingest(parcels)
    assert str(again.value) == text
    # the other day is untouched, and a corrected file is published.
    assert len(rows("clean", key=OTHER)) == 40
    world.land_parcels(parcels, KEY)
    assert ingest(parcels).status == "published"
    assert len(rows("clean")) == 40


def test_the_same_refused_file_is_not_read_again(parcels: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    columns(*world.COLUMNS[:-1])(parcels)
    world.land_depots(parcels, KEY)
    with pytest.raises(DataRejectedError):
        ingest(parcels)
    monkeypatch.setattr(stage, "prepare", lambda *_: pytest.fail("the file was read again"))
    with pytest.raises(DataRejectedError, match="late: missing column"):
        ingest(parcels)


def test_several_refused_files_are_told_together(parcels: UseCase) -> None:
    columns(*world.COLUMNS[:-1])(parcels)
    world.land_depots(parcels, KEY, [{**row, "queue": "long"} for row in world.depots(KEY)])
    with pytest.raises(DataRejectedError) as caught:
        ingest(parcels)
    text = str(caught.value)
    assert "late: parcels: missing column" in text
    assert "queue: depots: not of type int64, 8 rows" in text
    assert commits.decided_intervals("parcels")[KEY].reason.count("rejected") == 2


def test_a_refused_correction_leaves_what_was_published(parcels: UseCase) -> None:
    world.land_day(parcels, KEY)
    ingest(parcels)
    truncated_rows = world.to_csv(world.parcels(KEY))[:-30]
    _land(parcels, truncated_rows)
    with pytest.raises(DataRejectedError):
        ingest(parcels)
    assert len(rows("clean")) == 40


def test_no_more_than_a_few_examples_are_told(parcels: UseCase) -> None:
    given = world.parcels(KEY)
    for n, row in enumerate(given):
        row["pieces"] = f"many-{n}-" + "x" * 500
    _land(parcels, world.to_csv(given))
    world.land_depots(parcels, KEY)
    with pytest.raises(DataRejectedError) as caught:
        ingest(parcels)
    assert "40 rows" in str(caught.value)
    assert len(str(caught.value)) < 2500


def test_pushed_rows_become_what_the_file_becomes(parcels: UseCase) -> None:
    from airworthy.ingest import clean_rows, parse_rows

    world.land_day(parcels, KEY)
    ingest(parcels)
    pushed = clean_rows(parcels, "depots", parse_rows(parcels, "depots", world.depots(KEY)))
    published = tables.read("parcels/clean/depots", DAY, DAY).drop_columns(["interval"])
    assert pushed.sort_by([("depot", "ascending"), ("at", "ascending")]).equals(
        published.select(pushed.schema.names).cast(pushed.schema).sort_by([("depot", "ascending"), ("at", "ascending")])
    )
    assert pc.all(pc.equal(pc.subtract(pushed["available_at"], pushed["at"]), pa.scalar(timedelta(hours=1)))).as_py()


def test_other_days_at_the_same_time_do_not_disturb_each_other(parcels: UseCase) -> None:
    keys = [f"2013-11-{day:02d}" for day in range(10, 18)]
    for key in keys:
        world.land_day(parcels, key)
    with ThreadPoolExecutor(8) as pool:
        statuses = [outcome.status for outcome in pool.map(lambda key: ingest(parcels, key), keys)]
    assert statuses == ["published"] * 8
    assert tables.read("parcels/clean/parcels").num_rows == 8 * 40
    assert claims() == 8


def test_a_header_of_hostile_names_is_told_in_a_few_lines(parcels: UseCase) -> None:
    names = [*world.COLUMNS, *(f"\x1b[31m{'x' * 3000}{n}" for n in range(300))]
    content = (",".join(names) + "\n" + ",".join("1" for _ in names) + "\n").encode()
    world.land_parcels(parcels, KEY, content=content, count=1)
    world.land_depots(parcels, KEY)
    with pytest.raises(DataRejectedError) as caught:
        ingest(parcels)
    assert len(str(caught.value)) < 5000
    assert "\x1b" not in str(caught.value)
    decided = commits.decided_intervals("parcels")[KEY]
    assert len(decided.reason) < 1000
    kept = Path(quarantine.files_folder(parcels, DAY, decided.landed_digest)) / "parcels" / quarantine.REASON
    assert kept.stat().st_size < 50_000


def test_clean_rows_that_fail_their_suite_stop_the_interval(
    parcels: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.land_day(parcels, KEY)
    give_suite(monkeypatch, tmp_path, "clean/parcels", between("heavy", 0, 0))
    with pytest.raises(
        DataRejectedError, match=r"heavy: expect_column_values_to_be_between\(min_value=0, max_value=0\)"
    ):
        ingest(parcels)
    assert rows("clean") == rows("raw") == []
    give_suite(monkeypatch, tmp_path, "clean/parcels", between("heavy", 0, 1), between("pieces", 0, 1, "warning"))
    outcome = release(parcels, DAY, who="ann", why="heavy is 0 or 1")
    assert outcome.status == "released"
    with transaction() as session:
        found = session.scalars(select(Validation).where(Validation.table_name == "parcels/clean/parcels")).all()
    assert [(v.passed, v.report["engine"]) for v in found] == [
        (False, "great_expectations"),
        (True, "great_expectations"),
    ]
    page = outcome.links["Data Docs"].replace(get_settings().reports_url, get_settings().docs_url)
    assert "clean-parcels/index.html" in Path(page).read_text()
    profile = Path(outcome.links["Profile"].replace(get_settings().reports_url, get_settings().docs_url))
    assert "of the labels (late) are positive" in profile.read_text()
    assert json.loads((profile.parent / "profile.json").read_text())[0]["rows"] == 40


def test_values_that_move_inside_their_domain_are_published(parcels: UseCase) -> None:
    # Value skew is for monitoring, which asks for a training; it stops nothing.
    world.land_parcels(parcels, KEY, [{**row, "weight": "99", "zone": "north"} for row in world.parcels(KEY)])
    world.land_depots(parcels, KEY)
    assert ingest(parcels).rows_rejected["parcels"] == 0
