"""A source in a real PostgreSQL: extracted by watermark, landed when it changed, then ingested like any file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from airworthy.config import Settings, UseCase, load_use_case
from airworthy.errors import (
    ConfigurationError,
    DataRejectedError,
    NotLandedError,
    ServiceUnavailableError,
    SupersededError,
)
from airworthy.ingest import extract, ingest_interval, ready, recheck, table_schemas, wakes
from airworthy.intervals import Interval
from airworthy.lake import landing, tables
from airworthy.ledger import clock, commits
from airworthy.records import IngestOutcome

KEY, NEXT = "2013-11-05", "2013-11-06"
DAY = Interval.of(KEY)
Sql = Callable[..., None]


@pytest.fixture
def sql(platform_env: Settings, postgres: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sql]:
    """Runs a statement in the desk's database, which lives in the same server under its own schema."""
    where = platform_env.ledger_dsn.replace("+psycopg", "")
    # A session in another zone than UTC must not move a row to another day.
    monkeypatch.setenv("TINY_TICKETS_URL", f"{platform_env.ledger_dsn}&options=-c%20timezone%3DAsia/Kolkata")
    with psycopg.connect(where, autocommit=True, options="-c timezone=UTC") as connection:

        def run(statement: str, *values: object) -> None:
            connection.execute(statement, values or None)  # type: ignore[arg-type]

        run("CREATE SCHEMA desk")
        run(
            "CREATE TABLE desk.tickets (ticket bigint, customer text, amount numeric, opened_at timestamptz, "
            "escalated boolean, internal text)"
        )
        run("CREATE TABLE desk.calls (call text, started timestamp, minutes int)")
        yield run


@pytest.fixture
def tickets(sql: Sql) -> UseCase:
    """The use case, its tables empty; tickets of two days and one of the third are in the database."""
    use_case = load_use_case("tiny_tickets")
    for name, schema in table_schemas(use_case).items():
        tables.create(name, schema)
    for number in range(49):
        opened = DAY.start + timedelta(hours=number)
        sql(
            "INSERT INTO desk.tickets VALUES (%s, %s, %s, %s, %s)", number, f"c{number % 3}", "12.50", opened,
            number % 4 == 0,
        )  # fmt: skip
    sql("INSERT INTO desk.tickets VALUES (99, 'c1', NULL, '2013-11-07 00:15Z', NULL)")
    return use_case


def ingest(use_case: UseCase, key: str = KEY) -> IngestOutcome:
    return ingest_interval(use_case, Interval.of(key), run="test")


def clean(use_case: UseCase, key: str = KEY, source: str = "tickets") -> list[dict[str, object]]:
    return tables.read(use_case.table("clean", source), Interval.of(key), Interval.of(key)).to_pylist()


def test_the_rows_of_an_interval_are_those_from_its_start_to_before_its_end(tickets: UseCase) -> None:
    first, second = ingest(tickets), ingest(tickets, NEXT)
    assert (first.rows_in["tickets"], second.rows_in["tickets"]) == (24, 24)
    found = sorted(clean(tickets), key=lambda row: int(str(row["ticket"])))
    assert [row["ticket"] for row in found] == list(range(24))
    assert found[0]["opened_at"] == DAY.start
    assert (found[1]["amount"], found[4]["escalated"]) == (12.5, True)
    # After the extraction it is a delivery like any other.
    manifest = landing.landed_manifest(tickets, "tickets", DAY)
    assert manifest is not None
    assert manifest.file.endswith(".parquet")


def test_an_unchanged_rerun_is_a_no_op_whatever_the_order_of_rows(tickets: UseCase, sql: Sql) -> None:
    first = ingest(tickets)
    version = tables.open_table("tiny_tickets/clean/tickets").version()
    sql("CREATE TABLE desk.other AS SELECT * FROM desk.tickets ORDER BY random()")
    sql("DROP TABLE desk.tickets")
    sql("ALTER TABLE desk.other RENAME TO tickets")
    second = ingest(tickets)
    assert (second.status, second.reason) == ("already", f"already ingested {first.landed_digest[:12]}")
    manifest, again = landing.landed_manifest(tickets, "tickets", DAY), extract.offered(tickets, "tickets", DAY)
    assert manifest is not None
    assert isinstance(again, extract.Extract)
    assert landing.read_bytes(landing.data_file(tickets, manifest)) == again.content
    assert tables.open_table("tiny_tickets/clean/tickets").version() == version


def test_a_row_that_changed_late_makes_a_new_version_on_a_rerun(tickets: UseCase, sql: Sql) -> None:
    ingest(tickets)
    ingest(tickets, NEXT)
    before = commits.newest_commits("tiny_tickets/clean/tickets")
    clock.advance(tickets, DAY.end + timedelta(days=5))
    sql("UPDATE desk.tickets SET escalated = NOT escalated WHERE ticket = 3")
    assert ingest(tickets).status == "published"
    after = commits.newest_commits("tiny_tickets/clean/tickets")
    assert after[KEY].data_version > before[KEY].data_version
    assert after[NEXT].id == before[NEXT].id
    known = {row["ticket"]: row["available_at"] for row in clean(tickets)}
    assert known[3] == DAY.end + timedelta(days=5)
    assert known[4] == DAY.end


def test_the_reconciler_lands_what_changed_late_and_arrivals_take_it(tickets: UseCase, sql: Sql) -> None:
    clock.advance(tickets, Interval.of(NEXT).end + timedelta(hours=2))
    for key in (KEY, NEXT):
        ingest(tickets, key)
    assert recheck(tickets) == ["2013-11-04"]  # a day without a row that nobody has asked for yet
    assert wakes(tickets) == ["2013-11-04"]
    ingest(tickets, "2013-11-04")
    assert (recheck(tickets), wakes(tickets)) == ([], [])
    sql("UPDATE desk.tickets SET amount = 1 WHERE ticket = 3")
    assert wakes(tickets) == []
    assert recheck(tickets) == [KEY]
    assert wakes(tickets) == [KEY]
    ingest(tickets)
    assert wakes(tickets) == []
    # A database that is days behind: the newest days that are complete in it, not the newest of the calendar.
    clock.advance(tickets, DAY.end + timedelta(days=9))
    sql("UPDATE desk.tickets SET amount = 2 WHERE ticket = 3")
    assert KEY in recheck(tickets)


def test_an_interval_is_complete_when_the_newest_watermark_has_passed_its_end_and_the_lag(
    tickets: UseCase, sql: Sql
) -> None:
    sql("DELETE FROM desk.tickets WHERE ticket = 99")
    assert not ready(tickets, Interval.of(NEXT))
    with pytest.raises(NotLandedError) as caught:
        ingest(tickets, NEXT)
    assert (
        "the newest opened_at of tickets is 2013-11-07 00:00 UTC, complete from 2013-11-07 00:15" in caught.value.what
    )
    assert landing.landed_manifest(tickets, "tickets", Interval.of(NEXT)) is None
    sql("INSERT INTO desk.tickets VALUES (99, 'c1', NULL, '2013-11-07 00:15Z', NULL)")
    assert ready(tickets, Interval.of(NEXT))
    assert ingest(tickets, NEXT).status == "published"


def test_rows_that_the_database_forgot_stay_published(tickets: UseCase, sql: Sql) -> None:
    ingest(tickets)
    sql("DELETE FROM desk.tickets WHERE ticket < 40")
    assert ingest(tickets).status == "already"
    assert len(clean(tickets)) == 24


LOCAL = {  # New York, 2013: local time to UTC, at both changes of clocks
    "2013-03-09 19:00:00": "2013-03-10 00:00:00",  # UTC's midnight in winter
    "2013-03-10 01:59:59": "2013-03-10 06:59:59",
    "2013-03-10 03:00:00": "2013-03-10 07:00:00",
    "2013-03-10 19:59:59": "2013-03-10 23:59:59",
    "2013-03-10 20:00:00": "2013-03-11 00:00:00",  # and in summer
    "2013-11-02 20:00:00": "2013-11-03 00:00:00",
    "2013-11-03 01:30:00": "2013-11-03 05:30:00",  # twice: the first of the two
    "2013-11-03 18:59:59": "2013-11-03 23:59:59",
    "2013-11-03 19:00:00": "2013-11-04 00:00:00",
}


def test_naive_times_are_in_the_one_interval_of_their_zone(tickets: UseCase, sql: Sql) -> None:
    for local in LOCAL:
        sql("INSERT INTO desk.calls VALUES (%s, %s, 5)", local, local)
    clock.advance(tickets, DAY.end)
    found: list[dict[str, object]] = []
    for key in ("2013-03-09", "2013-03-10", "2013-03-11", "2013-11-02", "2013-11-03", "2013-11-04"):
        ingest(tickets, key)
        rows = clean(tickets, key, "calls")
        assert all(str(row["started"]).startswith(key) for row in rows)
        found += rows
    assert {row["call"]: f"{row['started']:%Y-%m-%d %H:%M:%S}" for row in found} == LOCAL
    assert len(found) == len(LOCAL)


def test_an_hour_that_never_was_is_in_one_interval_and_in_quarantine(tickets: UseCase, sql: Sql) -> None:
    sql("INSERT INTO desk.calls VALUES ('never', '2013-03-10 02:30', 5), ('was', '2013-03-10 04:30', 5)")
    clock.advance(tickets, DAY.end)
    outcome = ingest(tickets, "2013-03-10")
    assert (outcome.rows_in["calls"], outcome.rows_rejected["calls"]) == (2, 1)


def test_a_naive_watermark_without_a_declared_zone_is_refused(tickets: UseCase, sql: Sql) -> None:
    sql("ALTER TABLE desk.tickets ALTER opened_at TYPE timestamp")
    with pytest.raises(ConfigurationError, match="opened_at of source tickets of tiny_tickets has no time zone"):
        ingest(tickets)


def test_a_row_without_watermark_is_told_and_not_lost(tickets: UseCase, sql: Sql) -> None:
    sql("INSERT INTO desk.tickets VALUES (100, 'c1', 1, NULL, NULL)")
    with pytest.raises(ConfigurationError, match="empty in some rows"):
        ingest(tickets)


def test_schema_skew_in_the_database_stops_the_interval(tickets: UseCase, sql: Sql) -> None:
    sql("ALTER TABLE desk.tickets ALTER amount TYPE text")
    with pytest.raises(DataRejectedError, match="amount: not of type float64 in the database"):
        ingest(tickets)
    sql("ALTER TABLE desk.tickets DROP COLUMN amount")
    with pytest.raises(ConfigurationError, match=r"column .*amount.* does not exist"):
        ingest(tickets)
    assert landing.landed_manifest(tickets, "tickets", DAY) is None


def test_a_database_that_does_not_answer_is_tried_again_and_no_secret_is_told(
    tickets: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_TICKETS_URL", "postgresql+psycopg://desk:hunter2@127.0.0.1:9/desk")
    with pytest.raises(ServiceUnavailableError) as caught:
        ingest(tickets)
    monkeypatch.setenv("TINY_TICKETS_URL", "hunter2")
    with pytest.raises(ConfigurationError) as refused:
        ingest(tickets)
    monkeypatch.delenv("TINY_TICKETS_URL")
    with pytest.raises(ConfigurationError, match="TINY_TICKETS_URL is not set"):
        ingest(tickets)
    assert "hunter2" not in str(caught.value) + str(refused.value)


def test_a_run_that_was_overtaken_lands_nothing(tickets: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = extract.offered

    def slow(*arguments: object) -> object:
        found = offered(*arguments)  # type: ignore[arg-type]
        commits.claim(f"tiny_tickets/ingest/{KEY}", "a newer run")
        return found

    monkeypatch.setattr(extract, "offered", slow)
    with pytest.raises(SupersededError):
        ingest(tickets)
    assert landing.landed_manifest(tickets, "tickets", DAY) is None


def test_another_dialect_whose_times_are_texts(
    platform_env: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_TICKETS_URL", f"sqlite:///{tmp_path}/desk.sqlite")
    with closing(sqlite3.connect(tmp_path / "desk.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE tickets (ticket, customer, amount, opened_at, escalated)")
        for row in ((1, "c1", 2.5, f"{KEY} 00:00:00", 1), (2, "c2", None, f"{NEXT} 00:15:00", None)):
            connection.execute("INSERT INTO tickets VALUES (?, ?, ?, ?, ?)", row)
    use_case = load_use_case("tiny_tickets")
    spec = use_case.sources["tickets"]
    assert spec.sql is not None
    sql = spec.sql.model_copy(update={"table": "tickets"})
    source = spec.model_copy(update={"timezone": "UTC", "sql": sql})
    use_case = use_case.model_copy(update={"sources": {"tickets": source}})
    for name, schema in table_schemas(use_case).items():
        tables.create(name, schema)
    ingest(use_case)
    (row,) = clean(use_case)
    assert (row["ticket"], row["amount"], row["opened_at"], row["escalated"]) == (1, 2.5, DAY.start, True)
