"""What the story left behind is what really happened, stage by stage."""

from __future__ import annotations

from itertools import pairwise

import httpx
import numpy as np
import pyarrow.compute as pc
import pytest
from sklearn.metrics import roc_auc_score

from airworthy.config import get_settings, get_use_case
from airworthy.intervals import Interval, days
from airworthy.lake import tables
from airworthy.ledger import promotions
from airworthy.ledger.commits import decided_intervals, newest_commits
from airworthy.records import Verdict
from airworthy.training import model_files, read_training_set

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]  # the story takes six minutes, and far more on a busy machine

FIRST, LAST = Interval.of("2013-01-01"), Interval.of("2013-02-17")


@pytest.fixture
def case(played):
    return get_use_case("flight_delays")


def test_every_step_went_well(played):
    assert {name: step["outcome"] for name, step in played.steps.items() if step["status"] != "ok"} == {}
    assert len(played.steps) >= 7


def test_the_scheduler_and_the_service_were_killed_on_the_way(played):
    from airworthy.platform.services import status

    assert played.killed == ["scheduler", "service"]
    assert {s.name: s.state for s in status() if s.problem} == {}


def test_rows_in_are_clean_rows_and_quarantined_rows(case):
    decided = decided_intervals(case.name)
    for interval in days(FIRST, LAST):
        assert decided[interval.key].status == "published"
    for source in case.sources:
        landed = sum(d.outcome["rows_in"].get(source, 0) for d in decided.values())
        clean = tables.read(case.table("clean", source)).num_rows
        quarantined = tables.read(case.table("quarantine", source)).num_rows
        assert landed == clean + quarantined, source
        assert landed > 0, source


def test_each_interval_has_one_version_that_counts_and_the_table_holds_it(case):
    table = case.table("clean", "flights")
    counted = {
        row["interval"]: row["count_all"]
        for row in tables.read(table, columns=["interval"])
        .group_by("interval")
        .aggregate([([], "count_all")])
        .to_pylist()
    }
    assert counted == {key: commit.rows for key, commit in newest_commits(table).items()}


def test_rolling_features_equal_a_brute_force_count(case):
    """Late rate of the route in the seven days up to the interval, counted row by row from the clean table."""
    from use_cases.flight_delays.features import PRIOR_FLIGHTS, PRIOR_LATE

    flights = tables.read(case.table("clean", "flights")).to_pylist()
    features = tables.read(case.table("features", "flight_delays_route")).to_pylist()
    rng = np.random.default_rng(7)
    for row in rng.choice(features, 100, replace=False):
        end = Interval.of(row["interval"])
        keys = {end.shift(-back).key for back in range(7)}
        route = (row["origin"], row["dest"])
        flown = [f for f in flights if f["interval"] in keys and (f["origin"], f["dest"]) == route]
        window = [flight["late"] for flight in flown if flight["late"] is not None]
        expected = (sum(window) + PRIOR_LATE * PRIOR_FLIGHTS) / (len(window) + PRIOR_FLIGHTS)
        assert row["route_late_7d"] == pytest.approx(expected, abs=1e-12), row


def test_the_verdicts_figures_are_those_of_the_holdout(case):
    """ROC AUC recomputed with scikit-learn from the training set's file and the staged model."""
    for row in promotions.verdicts(case.name):
        verdict = Verdict.model_validate(row.record)
        from airworthy.ledger.database import transaction
        from airworthy.ledger.models import TrainingSet
        from airworthy.records import TrainingSetRef

        with transaction() as session:
            ref = TrainingSetRef.model_validate(session.get(TrainingSet, verdict.training_set_digest).ref)
        holdout = read_training_set(ref)
        holdout = holdout.filter(pc.equal(holdout["part"], "holdout"))
        folder = f"{get_settings().release_url}/models/{verdict.model_digest}"
        scores = model_files.load(folder, verdict.model_digest).predict_table(holdout)
        assert verdict.holdout_rows == holdout.num_rows
        assert verdict.metrics["roc_auc"] == pytest.approx(
            roc_auc_score(holdout["label"].to_numpy(zero_copy_only=False), scores), abs=1e-6
        )


def test_the_champion_really_answers(case):
    champion = promotions.champion(case.name)
    answer = httpx.post(
        f"{get_settings().service_url}/predict", json={"requests": [case.prediction.example]}, timeout=60
    ).json()["predictions"][0]
    assert champion.digest[:12] in str(answer["version"])
    assert answer["generation"] == champion.generation
    assert 0 <= answer["probability"] <= 1


def test_the_promotion_log_is_one_line(case):
    log = promotions.promotion_log(case.name)
    assert [row.generation for row in log] == list(range(1, len(log) + 1))
    assert log[0].from_digest is None
    for before, after in pairwise(log):
        assert after.from_digest == before.to_digest
    for row in log:
        if row.action == "promote":
            assert promotions.get_verdict(row.verdict_id).decision == "pass"


def test_the_second_trainings_cause_is_the_monitors(case):
    trained = [row for row in promotions.verdicts(case.name) if "experiment" not in row.causes]
    assert len(trained) >= 2
    for row in trained:
        for cause in row.causes.values():
            assert cause["requested_by"].startswith("flight_delays.monitor/"), cause
            assert cause["evidence"]


def test_the_rollbacks_note_says_what_it_did(played):
    figures = played.steps["Rollback under load"]["figures"]
    assert not figures or figures["note"].startswith("rolled back to")


def test_a_bad_canary_aborted_by_itself_and_no_client_noticed(case, played):
    figures = played.steps["A bad canary: it aborts by itself"]["figures"]
    rolled_back = played.steps["Rollback under load"]["figures"]
    assert bool(figures) == bool(rolled_back)
    if figures:
        assert (figures["state"], figures["load"]["failed"]) == ("aborted", 0)
        assert figures["why"].startswith("canary "), figures["why"]
        assert figures["load"]["answered"] > 100
        last = promotions.promotion_log(case.name)[-1]
        assert (last.action, last.challenger_digest) == ("abort", None)


def test_what_was_served_is_what_the_clean_tables_give(played):
    figures = played.steps["What monitoring decided"]["figures"]
    assert figures["vectors_recomputed"] >= 1000
    assert figures["weeks_with_skew"] == 0


def test_flipped_labels_were_refused(case):
    flipped = [row for row in promotions.verdicts(case.name) if "experiment" in row.causes]
    assert flipped
    assert {row.decision for row in flipped} == {"refuse"}
    promoted = {row.verdict_id for row in promotions.promotion_log(case.name)}
    assert promoted & {row.id for row in flipped} == set()


def test_every_prediction_that_was_answered_is_in_the_log_once(case, played):
    from airworthy.monitoring import collect

    collect(case)
    log = tables.read(case.table("log", "predictions"), columns=["prediction_id", "prediction_time", "features"])
    ids = log["prediction_id"].to_pylist()
    assert len(ids) == len(set(ids))
    lived = played.steps["Live: the world goes on, hour by hour"]["figures"]["predictions"]
    answered = played.steps["Train, judge, deliver: the first champion"]["figures"]["load"]["answered"]
    assert len(ids) >= lived + answered


def test_links_of_the_story_lead_somewhere(case, played):
    from airworthy.platform.airflow_api import AirflowApi

    api = AirflowApi()
    links = []
    for family, task in (
        ("train", "judge"),
        ("train", "fit"),
        ("train", "register"),
        ("monitor", "monitor"),
        ("ingest", "clean"),
    ):
        run = next(r for r in api.runs(f"flight_delays.{family}") if r["state"] == "success")
        keys = ("link_mlflow", "link_verdict", "link_card", "link_drift", "link_data_docs")
        links += [url for key in keys if (url := api.xcom(f"flight_delays.{family}", run["dag_run_id"], task, key))]
    assert len(links) >= 3
    for url in links:
        assert httpx.get(url.split("#")[0], timeout=20).status_code == httpx.codes.OK, url
