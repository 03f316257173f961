"""Batch scoring: an interval is predicted once by the champion, from features as they were known, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_orders import world as shop
from typer.testing import CliRunner

import stage_suites
from airworthy import features, ingest, monitoring, registry
from airworthy.cli import app
from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.errors import (
    ConfigurationError,
    DataRejectedError,
    NoChampionError,
    NotLandedError,
    ReleaseError,
    SupersededError,
)
from airworthy.intervals import Interval
from airworthy.lake import landing, tables
from airworthy.ledger import commits
from airworthy.ledger.clock import advance
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TrainingSet, Validation
from airworthy.platform import lineage
from airworthy.platform.lineage_things import find
from airworthy.platform.why import why
from airworthy.serving import batch

from .world import promote, release

DAY = Interval.of("2024-01-09")


@pytest.fixture
def orders(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> UseCase:
    """Ten days of orders, ingested, and no champion."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    get_settings.cache_clear()
    case = get_use_case("tiny_orders")
    for stage in (ingest, features, batch, monitoring):
        for name, schema in stage.table_schemas(case).items():
            tables.create(name, schema)
    features.apply(case)
    for key in shop.land_history(case, "2024-01-10"):
        advance(case, Interval.of(key).end)
        ingest.ingest_interval(case, Interval.of(key), run="test")
    return case


def scores(case: UseCase, day: Interval = DAY) -> pa.Table:
    return tables.read(case.table("scores", "batch"), day, day)


def test_every_row_is_scored_with_the_features_of_its_moment(orders: UseCase) -> None:
    champion = release(orders, seed=1)
    promote(orders, champion)
    outcome = batch.score(orders, DAY, run="test")
    rows, clean = scores(orders), tables.read(orders.table("clean", "orders"), DAY, DAY)
    assert outcome.status == "scored"
    assert outcome.partition.rows == rows.num_rows == clean.num_rows > 20
    assert not outcome.in_sample
    assert set(rows["release"].to_pylist()) == {champion.digest}
    asked = clean.select([*orders.prediction.request, *({orders.prediction.time} - set(orders.prediction.request))])
    by_hand = registry.load(champion.digest).predict(features.historical(orders, asked).to_pylist())
    found = dict(zip(rows["order_id"].to_pylist(), rows["probability"].to_pylist(), strict=True))
    assert np.allclose([found[i] for i in clean["order_id"].to_pylist()], by_hand, atol=1e-12)
    assert len(set(found.values())) > 10
    profile = outcome.links["Profile"].replace(get_settings().reports_url, get_settings().docs_url)
    (found,) = json.loads(Path(profile).with_name("profile.json").read_text())
    assert (found["title"], found["rows"]) == (f"tiny_orders/scores/batch {DAY}", rows.num_rows)
    threshold = orders.problem.threshold
    assert rows["decision"].to_pylist() == [p >= threshold for p in rows["probability"].to_pylist()]


def test_the_same_is_scored_once_and_another_champion_scores_again(orders: UseCase) -> None:
    first = release(orders, seed=1)
    promote(orders, first)
    before = batch.score(orders, DAY, run="test")
    version = tables.open_table(orders.table("scores", "batch")).version()
    again = batch.score(orders, DAY, run="test")
    assert (again.status, again.partition) == ("already", before.partition)
    assert tables.open_table(orders.table("scores", "batch")).version() == version
    second = release(orders, seed=2, version=2, against=first.digest)
    promote(orders, second, expected=first.digest)
    assert batch.score(orders, DAY, run="test").status == "scored"
    assert set(scores(orders)["release"].to_pylist()) == {second.digest}
    assert scores(orders).num_rows == before.partition.rows


def test_a_corrected_day_before_changes_the_features_and_so_the_scores(orders: UseCase) -> None:
    promote(orders, release(orders, seed=1))
    before = batch.score(orders, DAY, run="test")
    shop.land_day(orders, DAY.shift(-1).key, seed=99)
    ingest.ingest_interval(orders, DAY.shift(-1), run="test")
    after = batch.score(orders, DAY, run="test")
    assert after.status == "scored"
    assert after.partition.data_version > before.partition.data_version


def test_an_interval_that_was_refused_at_ingest_is_refused_here(orders: UseCase) -> None:
    promote(orders, release(orders, seed=1))
    day = Interval.of("2024-01-11")
    landing.land(orders, "orders", day, b"not,an,order\n1,2,3\n", 1, day.end)
    with pytest.raises(DataRejectedError):
        ingest.ingest_interval(orders, day, run="test")
    with pytest.raises(DataRejectedError, match="cannot be scored") as refused:
        batch.score(orders, day, run="test")
    assert "mend the interval first" in refused.value.next_step
    assert scores(orders, day).num_rows == 0


def test_an_interval_that_is_not_there_yet_is_waited_for(orders: UseCase) -> None:
    promote(orders, release(orders, seed=1))
    with pytest.raises(NotLandedError, match="2024-02-01 is not published"):
        batch.score(orders, Interval.of("2024-02-01"), run="test")


def test_scores_that_a_correction_outdates_are_told_before_and_after_and_scored_again(orders: UseCase) -> None:
    # Given three scored days, and a correction of the second that nobody has taken yet.
    champion = release(orders, seed=1)
    promote(orders, champion)
    early, late = DAY.shift(-4), DAY.shift(1)
    for day in (early, DAY, late):
        batch.score(orders, day, run="test")
    assert batch.outdated(orders) == {}
    assert batch.outdated_words(orders) == "no batch scores are outdated"
    rows = shop.orders_of(DAY.key)[3:]
    for row in rows[:5]:
        row["amount"] += 50
    landing.land(orders, "orders", DAY, shop.to_csv(rows), len(rows), late.end)

    # When somebody asks what it would change, then the day's own scores and those that look back on it are counted.
    radius = monitoring.blast_radius(orders, DAY, DAY)
    assert radius.scores == {champion.digest: scores(orders).num_rows + scores(orders, late).num_rows}
    assert f"{2 * shop.ORDERS_A_DAY} batch scores" in radius.summary
    assert batch.outdated(orders) == {}

    # When it is taken, then they are outdated, until they are scored again; the early day never was.
    ingest.ingest_interval(orders, DAY, run="test")
    features.catch_up(orders, run="test")
    assert batch.outdated(orders) == {DAY.key: champion.digest, late.key: champion.digest}
    assert f"({DAY.key}, {late.key})" in batch.outdated_words(orders)
    (node,) = [n for n in lineage.down(find(f"tiny_orders/clean/orders/{DAY.key}")).children if "batch" in n.kind]
    assert node.words.endswith("outdated: rows or features changed since")
    done = CliRunner().invoke(app, ["score", orders.name, "--outdated"])
    assert done.exit_code == 0, done.output
    assert batch.outdated(orders) == {}
    assert scores(orders).num_rows == len(rows)
    assert batch.score(orders, early, run="test").status == "already"
    # Another champion outdates nothing: the release that answered is asked.
    promote(orders, release(orders, seed=2), expected=champion.digest)
    assert batch.outdated(orders) == {}


def test_nothing_is_scored_without_a_champion(orders: UseCase) -> None:
    with pytest.raises(NoChampionError, match="no champion"):
        batch.score(orders, DAY, run="test")


def test_an_altered_champion_or_one_of_other_definitions_scores_nothing(orders: UseCase) -> None:
    stranger = release(orders, seed=2, definitions={"tiny_orders_customer": "another"})
    promote(orders, stranger)
    with pytest.raises(ReleaseError, match=r"other feature definitions .*: tiny_orders_customer changed"):
        batch.score(orders, DAY, run="test")
    champion = release(orders, seed=1)
    promote(orders, champion, expected=stranger.digest)
    file = Path(registry.release_folder(champion.digest).removeprefix("file://")) / "scorer.bin"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ReleaseError, match="altered"):
        batch.score(orders, DAY, run="test")
    assert scores(orders).num_rows == 0


def test_answers_that_fail_their_suite_are_not_published(
    orders: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    promote(orders, release(orders, seed=1))
    rule = stage_suites.between("probability", 0, 0.01)
    stage_suites.give_suite(monkeypatch, tmp_path, "scores/batch", rule)
    with pytest.raises(DataRejectedError, match="probability") as refused:
        batch.score(orders, DAY, run="test")
    assert "nothing was published" in refused.value.next_step
    assert refused.value.links["Data Docs"] in refused.value.next_step
    assert scores(orders).num_rows == 0
    with transaction() as session:
        kept = session.query(Validation).filter_by(table_name=orders.table("scores", "batch")).all()
    assert [row.passed for row in kept] == [False]


def test_a_newer_claim_wins(orders: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(orders, release(orders, seed=1))
    load = registry.load

    def overtaken(digest: str) -> object:
        commits.claim(f"{orders.name}/score/{DAY.key}", "a newer run")
        return load(digest)

    monkeypatch.setattr(registry, "load", overtaken)
    with pytest.raises(SupersededError):
        batch.score(orders, DAY, run="an older run")
    assert scores(orders).num_rows == 0


def test_scores_of_days_that_the_champion_learned_from_say_so(orders: UseCase) -> None:
    ref = {
        "use_case": orders.name, "digest": "t" * 64, "url": "", "data_versions": {}, "feature_service": "tiny_orders_v1",
        "feature_digest": features.feature_digest(orders), "columns": {}, "train_rows": 1, "holdout_rows": 1,
        "train_start": "2024-01-01T00:00:00Z", "train_end": "2024-01-10T00:00:00Z",
        "holdout_start": "2024-01-10T00:00:00Z", "holdout_end": "2024-01-12T00:00:00Z",
        "data_time": "2024-01-12T00:00:00Z", "label_rate": 0.5,
    }  # fmt: skip
    with transaction() as session:
        session.add(TrainingSet(digest="t" * 64, use_case=orders.name, ref=json.loads(json.dumps(ref))))
    promote(orders, release(orders, seed=1))
    outcome = batch.score(orders, DAY, run="test")
    assert outcome.in_sample
    assert "learned from these days" in outcome.reason
    assert not batch.score(orders, Interval.of("2024-01-10"), run="test").in_sample


def test_batch_predictions_are_known_to_lineage_and_why(orders: UseCase) -> None:
    # Given an interval that the champion scored.
    champion = release(orders, seed=1)
    promote(orders, champion)
    rows = batch.score(orders, DAY, run="test").partition.rows
    scored, clean = f"tiny_orders/scores/batch/{DAY.key}", f"tiny_orders/clean/orders/{DAY.key}"

    # Then it comes from its clean rows and the release, and both lead to it.
    up = lineage.up(find(scored))
    assert [(n.kind, n.name) for n in up.children] == [("interval", clean), ("release", "tiny_orders/1")]
    (down,) = [n for n in lineage.down(find(clean)).children if n.kind == "batch predictions"]
    assert (down.name, down.words) == (scored, f"{rows} rows by release {champion.digest[:12]}")
    (of_release,) = [n for n in lineage.down(find(champion.digest)).children if n.kind == "batch predictions"]
    assert of_release.words == f"{rows} rows"
    # And one can ask why; of an interval that nobody scored there is no answer.
    told = dict(why(find(scored)).parts)
    assert told["scored"].startswith(f"{rows} rows at ")
    assert champion.digest[:12] in told["answered by"]
    assert "ROC AUC 0.800" in told["evidence"]
    with pytest.raises(ConfigurationError, match="holds no batch predictions"):
        why(find(f"tiny_orders/scores/batch/{DAY.shift(-1).key}"))
