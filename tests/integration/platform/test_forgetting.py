"""A key is forgotten: everywhere, for good, and without harm to the others."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select
from tiny_orders import world

from airworthy import features, ingest, registry
from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError, DataRejectedError
from airworthy.intervals import Interval
from airworthy.lake import landing, tables
from airworthy.ledger.database import transaction
from airworthy.ledger.feedback import Said, feedback, keep_feedback
from airworthy.ledger.models import ForgottenKey, Validation
from airworthy.monitoring.collect import log_table
from airworthy.platform import forgotten_journal
from airworthy.platform.forgetting import forget
from airworthy.platform.forgetting_traces import from_ledger
from airworthy.serving import batch
from airworthy.serving.spool import Spool
from airworthy.training import build_training_set, read_training_set

from ..serving.world import promote, release  # noqa: TID252 - one small world for both
from .conftest import KEYS

KEY, OTHER, WHO = "c07", "c08", "cli/officer"
VIEW = "tiny_orders_customer"


def orders(layer: str) -> list[dict[str, Any]]:
    return tables.read(f"tiny_orders/{layer}/orders").to_pylist()


def land(case: UseCase, key: str, rows: list[dict[str, Any]]) -> None:
    interval = Interval.of(key)
    landing.land(case, "orders", interval, world.to_csv(rows), len(rows), interval.end)


def predicted(case: UseCase, customers: list[str]) -> None:
    """Predictions in the spool, as the service writes them; its process has ended."""
    pid = os.fork()
    if not pid:
        spool = Spool(get_settings().spool, case.name, "test")
        spool.append([record(number, customer) for number, customer in enumerate(customers)])
        os._exit(0)
    os.waitpid(pid, 0)


def record(number: int, customer: str) -> dict[str, Any]:
    return {
        "prediction_id": f"p'{number}", "at": "2024-01-02T00:00:00Z", "prediction_time": "2024-01-02T00:00:00Z",
        "use_case": "tiny_orders", "release": "r", "model_digest": "m", "generation": 1, "probability": 0.5,
        "decision": True, "latency_ms": 1.0, "missing": [], "stale": [], "id": {"order_id": f"o{number}"},
        "request": {"customer": customer, "amount": 1.0}, "features": {"order_amount": 1.0},
    }  # fmt: skip


def everywhere(text: str, folder: Path) -> list[str]:
    """Files of a folder, logs of tables too, that hold a text: in a row of Parquet or as it is."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            content = str(pq.ParquetFile(path).read().to_pylist())
        else:
            content = path.read_text(errors="ignore")
        if re.search(rf"(?<![A-Za-z0-9_-]){text}(?![A-Za-z0-9_-])", content):  # not in the middle of a file's name
            found.append(str(path))
    return found


def ledger_words() -> str:
    with psycopg.connect(get_settings().ledger_dsn.replace("postgresql+psycopg://", "postgresql://")) as connection:
        names = [n for (n,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        return str([connection.execute(f'SELECT t::text FROM "{n}" t').fetchall() for n in names])


def test_a_key_is_gone_from_everything_and_does_not_come_back(shop: UseCase, postgres: Path) -> None:
    # Given a key in tables, quarantine, a refused file, predictions, online, and a correction of a day,
    rows = world.orders_of("2024-01-03")
    for row in rows[:40]:
        row["customer"] = KEY  # a frequent value: the profile names it
    rows[5]["items"] = -1
    land(shop, "2024-01-03", rows)
    ingest.ingest_interval(shop, Interval.of("2024-01-03"), run="test")
    land(shop, KEYS[0], [{**row, "amount": row["amount"] + 2} for row in world.orders_of(KEYS[0])])
    ingest.ingest_interval(shop, Interval.of(KEYS[0]), run="test")  # what it replaced is kept
    assert tables.read("tiny_orders/superseded/orders").num_rows > 0
    land(shop, "2024-01-04", [{**row, "items": KEY} for row in rows])  # an example of the reason, too
    with pytest.raises(DataRejectedError):
        ingest.ingest_interval(shop, Interval.of("2024-01-04"), run="test")
    features.catch_up(shop, run="test")
    predicted(shop, [KEY, OTHER, KEY])
    said = [Said("p'0", "comment", comment="mine"), Said("p'1", "dispute", comment=f"it was {KEY}, not me")]
    assert keep_feedback(shop.name, said, Interval.of("2024-01-02").start) == 2
    asked = [{**shop.prediction.example, "customer": name} for name in (KEY, OTHER)]
    from airworthy.ledger.clock import data_now

    online = features.OnlineFeatures(shop)
    assert [v.missing for v in online.lookup(asked, data_now(shop))] == [(), ()]
    before = {layer: orders(layer) for layer in ("raw", "clean")}
    assert len(everywhere(KEY, Path(get_settings().lake_url))) > 6
    assert everywhere(KEY, Path(get_settings().docs_url))
    # when it is forgotten,
    outcome = forget(shop, "customer", KEY, who=WHO)
    # then it is in no table (nor in an old version of one), no file, no prediction, and not online;
    mine = [r for r in before["raw"] if r["customer"] == KEY]
    assert outcome.rows["tiny_orders/raw/orders"] == len(mine) > 5
    assert outcome.rows["tiny_orders/quarantine/orders"] == 1
    assert outcome.rows["tiny_orders/clean/orders"] == len(mine) - 1
    assert outcome.rows[log_table(shop)] == 2
    assert outcome.online == 3
    assert outcome.files == 2  # the refused file, and the reason beside it
    assert everywhere(KEY, Path(get_settings().lake_url)) == []
    # nor in a page of a report, nor as an example in the ledger;
    assert outcome.pages > 0
    assert everywhere(KEY, Path(get_settings().docs_url)) == []
    assert outcome.notes > 0
    assert outcome.feedback == 1
    assert [(f.prediction_id, f.comment) for f in feedback(shop.name)] == [("p'1", "it was [forgotten], not me")]
    assert re.findall(rf".{{60}}(?<![A-Za-z0-9_-]){KEY}(?![A-Za-z0-9_-]).{{9}}", ledger_words()) == []
    assert outcome.backups_until == ""
    assert list(get_settings().spool.rglob("*.log")) == []
    assert [v.missing for v in online.lookup(asked, data_now(shop))] == [(VIEW,), ()]
    # everything of the others is there;
    for layer, given in before.items():
        assert sorted(map(str, orders(layer))) == sorted(str(r) for r in given if r["customer"] != KEY)
    assert tables.read(log_table(shop)).num_rows == 1
    # the ledger says who, when and how much, but not whom;
    with transaction() as session:
        (noted,) = session.scalars(select(ForgottenKey)).all()
    assert (noted.who, noted.column_name, noted.removed["rows"]) == (WHO, "customer", outcome.rows)
    with psycopg.connect(get_settings().ledger_dsn.replace("postgresql+psycopg://", "postgresql://")) as connection:
        kept = connection.execute("SELECT f::text FROM forgotten_key f").fetchall()
    assert KEY not in str(kept)
    # and it does not come back: not by the file that is landed still, not by a correction, not by a second call.
    assert ingest.ingest_interval(shop, Interval.of(KEYS[0]), run="again").status == "already"
    land(shop, KEYS[0], [{**row, "amount": row["amount"] + 1} for row in world.orders_of(KEYS[0])])
    said = ingest.ingest_interval(shop, Interval.of(KEYS[0]), run="correction")
    assert (said.status, "rows of forgotten keys left out" in said.reason) == ("published", True)
    features.catch_up(shop, run="test")
    assert not [r for layer in ("raw", "clean") for r in orders(layer) if r["customer"] == KEY]
    again = forget(shop, "customer", KEY, who=WHO)
    assert sum(again.rows.values()) == again.online == again.files == 0


def test_scores_of_the_key_go_too_and_the_others_stay(shop: UseCase) -> None:
    day = Interval.of(KEYS[1])
    promote(shop, release(shop, seed=1))
    scored = batch.score(shop, day, run="test").partition.rows
    mine = {row["order_id"] for row in orders("clean") if row["customer"] == KEY}
    before = set(tables.read(shop.table("scores", "batch"))["order_id"].to_pylist())
    assert before & mine
    assert len(before) == scored
    outcome = forget(shop, "customer", KEY, who=WHO)
    assert outcome.rows["tiny_orders/scores/batch"] == len(before & mine)
    assert set(tables.read(shop.table("scores", "batch"))["order_id"].to_pylist()) == before - mine


def test_a_training_set_loses_its_rows_and_still_reads(shop: UseCase) -> None:
    for key in ("2024-01-03", "2024-01-04", "2024-01-05"):
        world.land_day(shop, key)
        ingest.ingest_interval(shop, Interval.of(key), run="test")
    training = shop.training.model_copy(update={"holdout_days": 1, "min_train_days": 2})
    ref = build_training_set(shop.model_copy(update={"training": training}), run="test")
    before = read_training_set(ref)
    mine = {r["order_id"] for r in orders("clean") if r["customer"] == KEY}
    # A champion and a challenger that were trained on it, and a release that was not.
    champion = release(shop, seed=1, version=1, training_set_digest=ref.digest)
    promote(shop, champion)
    challenger = release(shop, seed=2, version=2, training_set_digest=ref.digest)
    release(shop, seed=3, version=3)
    outcome = forget(shop, "customer", KEY, who=WHO)
    assert outcome.models == (
        f"version 1, release {champion.digest[:12]}, champion", f"version 2, release {challenger.digest[:12]}, challenger",
    )  # fmt: skip
    assert registry.load(champion.digest).release == champion  # it goes on serving, as `stays` says
    after = read_training_set(ref)
    assert outcome.training_sets == {ref.digest: before.num_rows - after.num_rows}
    assert not mine & set(after["order_id"].to_pylist())
    assert set(before["order_id"].to_pylist()) - set(after["order_id"].to_pylist()) <= mine
    assert not Path(ref.url).exists()


def test_what_cannot_be_forgotten_is_refused_before_anything_happens(shop: UseCase) -> None:
    for column in ("amount", "nothing"):
        with pytest.raises(ConfigurationError, match="can be forgotten"):
            forget(shop, column, "1", who=WHO)
    with transaction() as session:
        assert session.scalars(select(ForgottenKey)).all() == []


def test_without_the_secret_nothing_is_let_in(shop: UseCase) -> None:
    forget(shop, "customer", KEY, who=WHO)
    (get_settings().var / "secrets" / "forget.key").unlink()
    world.land_day(shop, "2024-01-03")
    with pytest.raises(ConfigurationError, match="forgotten keys"):
        ingest.ingest_interval(shop, Interval.of("2024-01-03"), run="test")


@pytest.mark.parametrize("key", ["c00", "c29"])
def test_the_smallest_and_the_largest_key_leave_the_logs_of_the_tables_too(shop: UseCase, key: str) -> None:
    assert everywhere(key, Path(get_settings().lake_url) / "tiny_orders/clean/orders/_delta_log")
    forget(shop, "customer", key, who=WHO)
    assert everywhere(key, Path(get_settings().lake_url)) == []
    # And the tables live on.
    world.land_day(shop, "2024-01-03")
    assert ingest.ingest_interval(shop, Interval.of("2024-01-03"), run="test").status == "published"
    features.catch_up(shop, run="test")
    assert len(tables.open_table("tiny_orders/clean/orders").history()) > 0


def test_an_interrupted_forgetting_is_finished_by_the_next_migration(
    shop: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise ConnectionError("the machine is switched off")

    with monkeypatch.context() as broken:
        broken.setattr("airworthy.platform.forgetting._from_table", away)
        with pytest.raises(ConnectionError):
            forget(shop, "customer", KEY, who=WHO)
    assert [r for r in orders("clean") if r["customer"] == KEY]
    assert forgotten_journal.finish(shop) == 1
    assert not [r for r in orders("clean") if r["customer"] == KEY]
    assert forgotten_journal.finish(shop) == 0


def test_an_example_in_a_validation_that_is_the_key_is_dropped_and_the_others_stay(shop: UseCase) -> None:
    # Given a report whose check found two customers, and tells of one of them in words.
    found = {"name": "x", "examples": [KEY, OTHER, f"{KEY}5"], "words": f"{KEY} and others"}
    with transaction() as session:
        session.add(
            Validation(use_case=shop.name, table_name="t", interval=KEYS[0], passed=False, report={"results": [found]})
        )

    assert from_ledger(shop, KEY) == 1

    with transaction() as session:
        (row,) = session.scalars(select(Validation).where(Validation.table_name == "t")).all()
    (result,) = row.report["results"]
    assert result["examples"] == [OTHER, f"{KEY}5"]
    assert KEY not in result["words"].split()
    assert result["words"].endswith("and others")
