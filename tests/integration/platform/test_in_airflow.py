"""The tiny shop in Airflow, through the real scheduler: what starts a training, batch scoring, late rows of a database.

Deliveries are paused: what passes is promoted by hand here. At the end, what was planted is in no place that people look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from airworthy import ingest
from airworthy.cli import app
from airworthy.config import get_settings, get_use_case
from airworthy.errors import DataRejectedError
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger import attempts, commits, promotions, requests, usage
from airworthy.ledger.clock import advance, data_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Claim, RetrainingRequest
from airworthy.monitoring.collect import log_table
from shown import secrets, shown, where

from ...faults.invariant import data_violations  # noqa: TID252 - one invariant for every fault
from .airflow_shop import DESK, KEY, NAME, ORDER, PERSON, PLANTED, WEEKS, Shop, land_orders, opened, planted, until
from .mixture import ARRIVALS, Mixture

pytestmark = pytest.mark.timeout(1800)

STORM, PROCESSES, EVENTS = 50, 5, 10
BACKFILLED, SCHEDULED, REFUSED = ("2024-02-03", "2024-02-04"), "2024-02-05", "2024-02-06"
MIXED = "2024-02-10"
TICKETS, TICKETS_NEXT = "2013-11-05", "2013-11-06"


@pytest.fixture(scope="module")
def shop(postgres: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The platform, up, with five weeks of the shop published on it."""
    with opened(postgres, tmp_path_factory.mktemp("cases")) as made:
        yield made


def test_new_data_ask_for_the_first_training(shop: Shop) -> None:
    note = shop.monitor("early")

    run, causes = shop.trained()

    assert "asked for a training: new_data" in note
    assert causes == {"new_data"}
    assert run["run_type"] == "asset_triggered"
    assert promotions.verdicts(NAME)[-1].decision == "pass", run["note"]


def test_the_end_of_a_pause_wakes_the_delivery_of_what_waits(shop: Shop) -> None:
    def events() -> int:
        return len(
            [e for e in shop.api._all("/api/v2/assets/events", "asset_events") if e["name"] == f"{NAME}/challenger"]
        )

    def command(*words: str) -> str:
        found = CliRunner().invoke(app, [*words, "--why", "a test"])
        assert found.exit_code == 0, found.output
        return found.output

    before = events()
    command("pause")
    command("pause", NAME)
    assert "was woken" not in command("resume", NAME)  # every use case is paused still
    assert events() == before
    assert f"{NAME}.deliver was woken" in command("resume")
    until(lambda: events() == before + 1, 20, "the challenger's asset has an event")
    shop.promote()
    command("pause")
    assert "was woken" not in command("resume")  # nothing waits any more


def test_every_task_of_the_training_was_measured(shop: Shop) -> None:
    (name,) = shop.seen
    measured = {(row.task, row.outcome) for row in usage.usage_of(name)}
    api = {t["task_id"] for t in shop.api.tasks(f"{NAME}.train", name.partition("/")[2]) if t["state"] == "success"}
    assert {(task, "done") for task in api} == measured
    total = usage.cost(usage.usage_of(name))
    assert total.cpu_seconds > 0.1
    assert total.peak_memory_bytes > 50_000_000
    assert total.bytes_written > 10_000
    assert total.amount > 0
    assert {row.executor for row in usage.usage_of(name)} == {"LocalExecutor"}


def test_the_schedule_asks_once_its_time_has_come(shop: Shop) -> None:
    (first,) = shop.scheduled()
    assert "needed intervals are published" in str(first["note"])  # it asked for nothing
    shop.later(days=4)
    shop.next_run_is_now(f"{NAME}.train")

    run, causes = shop.trained()
    assert run["run_type"] == "scheduled"
    assert causes == {"schedule"}


def _ask(number: int) -> None:
    case = get_use_case(NAME)
    for n in range(STORM // PROCESSES):
        evidence = {"storm": f"{number}/{n}"}
        requests.request_retraining(NAME, "drift", evidence, by=f"storm-{number}", data_time=data_now(case))


def test_a_storm_of_drift_and_decay_makes_one_training(shop: Shop) -> None:
    shop.later(days=4)
    shop.strange_week("before")
    shop.strange_week("newest")
    first = shop.monitor("before")
    assert "asked for a training" not in first  # one window is not enough
    (asset,) = [a for a in shop.api._all("/api/v2/assets", "assets") if a["name"] == f"{NAME}/retrain-request"]

    def event(_: int) -> None:
        shop.api._send("POST", "/api/v2/assets/events", {"asset_id": asset["id"], "extra": {}})

    monitor = shop.api.trigger(f"{NAME}.monitor", partition_key=WEEKS["newest"])
    until(lambda: any(r.cause == "decay" for r in _all_requests()), 120, "the monitor asks")
    processes = [get_context("fork").Process(target=_ask, args=(n,)) for n in range(PROCESSES)]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(EVENTS) as pool:
        list(pool.map(event, range(EVENTS)))
    for process in processes:
        process.join()
    _, causes = shop.trained()
    shop.api.wait(f"{NAME}.monitor", monitor)
    until(lambda: all(r.outcome for r in _all_requests()), 120, "every request is answered")

    assert {"drift", "decay"} <= causes
    assert [p.exitcode for p in processes] == [0] * PROCESSES
    storm = [r for r in _all_requests() if "storm" in r.evidence]
    assert len(storm) == STORM
    until(lambda: shop.quiet(f"{NAME}.train"), 60, "quiet")
    begun = {r.run for r in attempts.attempts(NAME) if r.kind == "train"}
    assert begun == shop.seen  # and no second one
    late = [r.outcome for r in storm if r.claimed_by not in begun]
    assert all(outcome.startswith("skipped: cool-down") for outcome in late), late


def test_a_person_asks_and_no_cool_down_holds_it_back(shop: Shop) -> None:
    shop.api.trigger(f"{NAME}.train", {"reason": "the boss wants to see it"})

    run, causes = shop.trained()

    assert run["run_type"] == "manual"
    assert causes == {"on_demand"}
    (why,) = [r.evidence["reason"] for r in _all_requests() if r.cause == "on_demand"]
    assert why == "the boss wants to see it"


def test_age_asks(shop: Shop) -> None:
    shop.later(days=61)

    note = shop.monitor("first")

    _, causes = shop.trained()
    assert "asked for a training: age" in note
    assert causes == {"age"}


def _all_requests() -> list[RetrainingRequest]:
    with transaction() as session:
        return session.query(RetrainingRequest).filter_by(use_case=NAME).order_by(RetrainingRequest.id).all()


def test_batch_scoring_by_schedule_and_by_backfill_is_done_once_and_refuses_what_ingest_refused(shop: Shop) -> None:
    dag, ingest_dag, table = f"{NAME}.score", f"{NAME}.ingest", shop.case.table("scores", "batch")
    champion = promotions.champion(NAME)
    assert champion is not None
    # Given a day that landed, and one more whose file is refused (a run that waits for its day is tried on the other platform).
    land_orders(shop.case, SCHEDULED, planted(SCHEDULED))
    land_orders(shop.case, REFUSED, planted(REFUSED) + planted(REFUSED)[:1])
    assert shop.ran(ingest_dag, SCHEDULED)["state"] == "success"
    assert shop.ran(ingest_dag, REFUSED)["state"] == "failed"

    # When the schedule's time comes, and two days before and the refused one are backfilled,
    shop.next_run_is_now(dag, SCHEDULED)
    until(lambda: shop.quiet(dag) and len(shop.api.runs(dag)) == 1, 120, "the scheduled run has ended")
    first, last = Interval.of(BACKFILLED[0]), Interval.of(REFUSED)
    shop.api.backfill(dag, first.start, last.start)
    until(lambda: len(shop.api.runs(dag)) == 4 and shop.quiet(dag), 180, "all four days are scored or refused")

    # then each good day was scored once, the refused one says why, and the table and the ledger say the same.
    runs = {run["partition_key"]: run for run in shop.api.runs(dag)}
    good = (*BACKFILLED, SCHEDULED)
    assert {key: (run["run_type"], run["state"]) for key, run in runs.items()} == {
        **dict.fromkeys(BACKFILLED, ("backfill", "success")), SCHEDULED: ("scheduled", "success"),
        REFUSED: ("backfill", "failed"),
    }  # fmt: skip
    assert "cannot be scored" in runs[REFUSED]["note"]
    before = commits.newest_commits(table)
    assert sorted(before) == sorted(good)
    for key in good:
        check_scores(shop, key, champion.digest, runs[key]["dag_run_id"])
    outcomes = {row.outcome for row in usage.usage_of(f"{dag}/{runs[SCHEDULED]['dag_run_id']}")}
    assert outcomes == {"done"}

    # When the refused day is mended, and all are backfilled once more,
    land_orders(shop.case, REFUSED, planted(REFUSED))
    assert shop.ran(ingest_dag, REFUSED)["state"] == "success"
    until(lambda: not shop.open_backfills(dag), 90, "Airflow has closed the first backfill")
    shop.api.backfill(dag, first.start, last.start, reprocess="completed")
    until(lambda: len(shop.api.runs(dag)) == 8 and shop.quiet(dag), 180, "all four days are run again")

    # then only the mended one is scored: nothing else was written.
    again = {run["partition_key"]: run["dag_run_id"] for run in shop.api.runs(dag)[:4]}
    states = {key: task["state"] for key, run in again.items() for task in shop.api.tasks(dag, run)}
    assert states == {**dict.fromkeys(good, "skipped"), REFUSED: "success"}
    after = commits.newest_commits(table)
    assert {key: after[key].id for key in good} == {key: before[key].id for key in good}
    check_scores(shop, REFUSED, champion.digest, again[REFUSED])
    written = [h for h in tables.open_table(table).history() if h["operation"] == "WRITE"]
    assert len(written) == len(after)


def check_scores(shop: Shop, key: str, champion: str, run: str) -> None:
    """The day's rows are those of its clean table, by the champion; the ledger names the run that wrote them."""
    day, table = Interval.of(key), shop.case.table("scores", "batch")
    scores, clean = tables.read(table, day, day), tables.read(shop.case.table("clean", "orders"), day, day)
    assert sorted(scores["order_id"].to_pylist()) == sorted(clean["order_id"].to_pylist())
    assert set(scores["release"].to_pylist()) == {champion}
    assert commits.newest_commits(table)[key].rows == scores.num_rows > 100
    assert owner(f"{NAME}/score/{key}") == f"{NAME}.score/{run}"


def owner(resource: str) -> str:
    """Who holds a claim."""
    with transaction() as session:
        return session.get_one(Claim, resource).owner


def test_every_kind_of_run_on_one_interval_at_once_publishes_it_once(shop: Shop) -> None:
    # Given a day whose file was refused: a better one is due to whoever comes.
    mixture = Mixture(shop, Interval.of(MIXED))
    land_orders(shop.case, MIXED, planted(MIXED) + planted(MIXED)[:1])
    with pytest.raises(DataRejectedError):
        ingest.ingest_interval(shop.case, mixture.interval, run="test")
    shop.api.unpause(ARRIVALS)

    # When a backfill, the schedule, a person and the watcher of a new file all claim the day at the same moment,
    with mixture.held() as stand_there:
        mixture.start()
        stand_there(3)
        land_orders(shop.case, MIXED, planted(MIXED))
        stand_there(4)
    taken = mixture.ended()

    # then one of them published it, and nothing was lost or doubled.
    assert {one.kind for one in taken} == {"backfill", "scheduled", "manual", "asset_triggered"}
    first = mixture.published_by(taken)
    assert (len(mixture.versions()), mixture.emitted()) == (1, [first.run])
    assert data_violations(shop.case) == []

    # When a corrected file lands while all are at it again,
    with mixture.held() as stand_there:
        mixture.again()
        stand_there(3)
        land_orders(shop.case, MIXED, [*planted(MIXED)[:-2], {**planted(MIXED)[-1], "amount": 1.25}])
        stand_there(4)
    taken = mixture.ended()

    # then it made one more version, and who comes after that finds it done.
    assert {one.kind for one in taken} == {"backfill", "scheduled", "manual", "asset_triggered"}
    second = mixture.published_by(taken)
    mixture.again()
    taken = [one for one in mixture.ended() if one.kind != "asset_triggered"]
    assert {(one.state, one.note[:17]) for one in taken} == {("skipped", "already ingested ")}
    assert (len(mixture.versions()), mixture.emitted()) == (2, [first.run, second.run])
    assert data_violations(shop.case) == []


def test_a_late_change_in_a_database_is_taken_by_arrivals_once_the_database_answers(shop: Shop) -> None:
    # Given two days of tickets, ingested by runs of their partitions,
    case, dag = get_use_case(DESK), f"{DESK}.arrivals"
    shop.desk.open_tickets(TICKETS)
    advance(case, Interval.of(TICKETS_NEXT).end + timedelta(hours=2))
    for key in (TICKETS, TICKETS_NEXT):
        assert shop.ran(f"{DESK}.ingest", key)["state"] == "success"
    before = tickets()
    until(lambda: not ingest.wakes(case) and shop.quiet(dag), 90, "what else was due is done")
    # when one of them is changed in the database, which lets nobody in at the next full hour,
    advance(case, Interval.of(TICKETS_NEXT).end + timedelta(hours=3))
    shop.desk.sql("UPDATE desk.tickets SET amount = 99 WHERE ticket = 3")
    shop.desk.sql("ALTER ROLE desk NOLOGIN")
    known = {run["dag_run_id"] for run in shop.api.runs(dag)}
    shop.next_run_is_now(dag)
    until(lambda: "up_for_retry" in shop.states(dag, known), 60, "the run tries again")
    shop.desk.sql("ALTER ROLE desk LOGIN")

    # then the same run takes the change as soon as the database answers: that day alone is published again,
    until(lambda: tickets()[TICKETS].data_version > before[TICKETS].data_version, 90, "the change is published")
    until(lambda: shop.quiet(dag), 90, "the run has ended")
    (mine,) = [r for r in shop.api.runs(dag) if r["dag_run_id"] not in known and r["run_type"] == "scheduled"]
    assert mine["state"] == "success"
    assert owner(f"{DESK}/ingest/{TICKETS}").startswith(f"{dag}/")
    assert tickets()[TICKETS_NEXT].id == before[TICKETS_NEXT].id
    rows = {row["ticket"]: row for row in clean_tickets()}
    assert (rows[3]["amount"], rows[3]["available_at"]) == (99.0, data_now(case))
    assert (rows[4]["amount"], rows[4]["available_at"]) == (12.5, Interval.of(TICKETS).end)
    assert TICKETS in commits.newest_commits(case.table("features", "tiny_tickets_customer"))


def test_a_correction_that_somebody_landed_wakes_arrivals_by_the_watcher(shop: Shop) -> None:
    # Given a change in the database that was landed outside of Airflow,
    case, dag, before = get_use_case(DESK), f"{DESK}.arrivals", tickets()
    was = {row["ticket"]: row["amount"] for row in clean_tickets()}
    shop.desk.sql("UPDATE desk.tickets SET amount = amount + 1 WHERE ticket = 3")
    assert ingest.recheck(case) == [TICKETS]

    # then the watcher wakes a run, which publishes it; once.
    until(lambda: tickets()[TICKETS].data_version > before[TICKETS].data_version, 90, "the correction is published")
    until(lambda: shop.quiet(dag), 90, "the run has ended")
    by = owner(f"{DESK}/ingest/{TICKETS}").partition("/")[2]
    (run,) = [r for r in shop.api.runs(dag) if r["dag_run_id"] == by]
    assert (run["run_type"], run["state"]) == ("asset_triggered", "success")
    assert {row["ticket"]: row["amount"] for row in clean_tickets()} == {**was, 3: was[3] + 1}
    assert tickets()[TICKETS_NEXT].id == before[TICKETS_NEXT].id


def tickets() -> dict[str, commits.Commit]:
    return commits.newest_commits(f"{DESK}/clean/tickets")


def clean_tickets() -> list[dict[str, object]]:
    return tables.read(f"{DESK}/clean/tickets", Interval.of(TICKETS), Interval.of(TICKETS)).to_pylist()


def test_what_was_planted_is_in_the_data_and_nowhere_else(shop: Shop) -> None:
    # Given orders of the planted customer in training, quarantine and a refused file (above), and in predictions,
    found, identity = asked(shop)
    shop.monitor("newest")
    # and what people are shown of them,
    found["why page"] = httpx.get(f"{get_settings().reports_url}/why/{identity}", timeout=60, trust_env=False).content
    assert b"[personal]" in found["why page"]
    for words in (f"why {identity}", f"quarantine list {NAME}", f"quarantine show {NAME} {SCHEDULED}"):
        told = CliRunner().invoke(app, words.split(), env={"COLUMNS": "250"}, catch_exceptions=False)
        assert told.exit_code == 0, told.output
        found[f"airworthy {words}"] = told.output.encode()
    found |= shown()

    # then neither it nor a secret is anywhere in that; both are in the data.
    assert where(found, PLANTED | secrets()) == []
    assert len(where(found, {"a mask": "[personal]"})) > 10
    day = Interval.of(SCHEDULED)
    assert any(
        PERSON in row for row in tables.read(shop.case.table("quarantine", "orders"), day, day)["row"].to_pylist()
    )
    assert any(PERSON in row and ORDER in row for row in tables.read(log_table(shop.case))["request"].to_pylist())


def asked(shop: Shop) -> tuple[dict[str, bytes], str]:
    """What clients are told who give no key, a wrong one, or a wrong request; and the id of a prediction that was made."""
    order = {
        **shop.case.prediction.example,
        "order_id": ORDER,
        "customer": PERSON,
        "ordered_at": "2024-02-01T12:00:00Z",
    }
    url, own = f"{get_settings().service_url}/{NAME}", {"X-API-Key": KEY}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        told = {
            "no key": client.post("/predict", json=order),
            "wrong key": client.post("/predict", json=order, headers={"X-API-Key": f"{KEY}?"}),
            "wrong number": client.post("/predict", json={**order, "amount": PERSON}, headers=own),
            "wrong field": client.post("/explain", json={**order, "whose": PERSON}, headers=own),
        }
        assert [answer.status_code for answer in told.values()] == [401, 401, 422, 422]
        assert client.post("/explain", json=order, headers=own).status_code == 200
        answer = client.post("/predict", json=order, headers=own)
        assert answer.status_code == 200, answer.text
    return {name: answer.content for name, answer in told.items()}, answer.json()["predictions"][0]["prediction_id"]
