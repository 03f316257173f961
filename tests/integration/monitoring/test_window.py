"""Monitoring of windows: a real ledger, Delta tables, Evidently, and a prediction log that a real spool wrote."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from airworthy.config import get_settings
from airworthy.errors import ConfigurationError, DataRejectedError, ReleaseError
from airworthy.intervals import Interval, days
from airworthy.lake import landing
from airworthy.ledger import requests
from airworthy.ledger.database import transaction
from airworthy.ledger.models import MonitoringWindow, RetrainingRequest
from airworthy.monitoring import monitor
from stage_suites import between, give_suite, matches

DAYS = 3
N = 120
FIRST = Interval.of("2024-03-04")
SHIFTED = {"shift": 80.0, "channels": (0.8, 0.1, 0.1)}


def window(number: int) -> list[str]:
    """Days of the window so many windows after the first."""
    return [i.key for i in days(FIRST.shift(number * DAYS), FIRST.shift(number * DAYS + DAYS - 1))]


def play(world, number: int, *, good: bool = True, labels: bool = True, **changes) -> None:
    for day in window(number):
        world.predict(day, N, **changes)
        if labels:
            world.label(day, N, good=good)
    world.now(f"{Interval.of(window(number)[-1]).end:%Y-%m-%d}T12:00:00")


def look(world, number: int, use_case=None):
    return monitor(use_case or world.use_case, Interval.of(window(number)[-1]), DAYS, run=f"monitor__{number}")


def asked(world) -> list[RetrainingRequest]:
    return requests.open_requests(world.use_case.name)


def spec(world, **changes):
    return world.use_case.model_copy(update={"monitoring": world.use_case.monitoring.model_copy(update=changes)})


def patient(world, **changes):
    """The use case without the causes that only count days."""
    training = world.use_case.training.model_copy(update={"new_data_intervals": 999, "max_age_days": 999, **changes})
    return world.use_case.model_copy(update={"training": training})


def test_a_window_of_the_same_world_is_quiet_and_measured(world, champion):
    champion()
    play(world, 0)
    outcome = look(world, 0)
    assert (outcome.predictions, outcome.labelled) == (360, 360)
    assert outcome.drifted == ()
    assert outcome.drift_share == 0.0
    assert outcome.requested == ()
    assert outcome.metrics["roc_auc"] == pytest.approx(0.83, abs=0.06)
    assert outcome.metrics["champion_roc_auc"] == outcome.metrics["roc_auc"]
    assert outcome.metrics["label_rate"] == pytest.approx(0.5, abs=0.1)
    assert outcome.metrics["features_without_data"] == 1
    assert "360 predictions, 360 labelled; ROC AUC 0.8" in outcome.reason
    assert "no data in never_known" in outcome.reason
    assert outcome.reason.endswith("no reason for a training")
    # The report and the figures are where the links say.
    root = Path(get_settings().docs_url)
    for name, suffix in (("Drift report", "html"), ("drift figures", "json")):
        path = f"drift/tiny_orders/{window(0)[0]}_{window(0)[-1]}.{suffix}"
        assert outcome.links[name] == f"{get_settings().reports_url}/{path}"
        assert 0 < (root / path).stat().st_size < 5_000_000
    figures = json.loads((root / path).read_text())
    assert {f["name"] for f in figures["features"]} == {
        "order_channel",
        "order_amount",
        "order_hour",
        "vip",
        "never_known",
    }


def test_planted_drift_is_named_and_asks_at_the_second_violation(world, champion):
    use_case = spec(world, drift_share=0.5)
    champion()
    play(world, 0, **SHIFTED)
    first = look(world, 0, use_case)
    assert first.drifted == ("order_amount", "order_channel")
    assert first.drift_share == 0.5  # two of the four that have data
    assert first.requested == ()
    assert asked(world) == []

    play(world, 1, **SHIFTED)
    second = look(world, 1, use_case)
    assert second.requested == ("drift",)
    assert second.reason.endswith("asked for a training: drift")
    [request] = asked(world)
    assert request.cause == "drift"
    assert request.requested_by == "monitor__1"
    assert request.evidence["drift_share"] == 0.5
    assert request.evidence["violating_windows"] == [
        f"{window(1)[0]}_{window(1)[-1]}",
        f"{window(0)[0]}_{window(0)[-1]}",
    ]
    assert request.data_time == datetime.fromisoformat(f"{Interval.of(window(1)[-1]).end:%Y-%m-%d}T12:00:00+00:00")


def test_a_quiet_newest_window_does_not_ask_whatever_came_before(world, champion):
    champion()
    for number in (0, 2):
        play(world, number, **SHIFTED)
    play(world, 1)
    look(world, 0)
    assert look(world, 1).requested == ()
    assert look(world, 2).requested == ("drift",)  # two of the last three, the newest among them


def test_monitoring_again_finds_and_asks_the_same_once(world, champion):
    champion()
    for number in (0, 1):
        play(world, number, **SHIFTED)
        look(world, number)
    again = look(world, 1)
    assert again.requested == ("drift",)
    assert len(asked(world)) == 1
    # Also when that request was answered meanwhile, and nothing else would hold it back.
    requests.claim_requests(world.use_case.name, "train__1")
    requests.close_requests(world.use_case.name, "train__1", "refused")
    once_more = look(world, 1, patient(world, cooldown_days=0))
    assert once_more.requested == ("drift",)
    assert asked(world) == []
    with transaction() as session:
        rows = session.query(MonitoringWindow).all()
        assert sorted((r.window, r.violates) for r in rows) == [
            (f"{window(n)[0]}_{window(n)[-1]}", True) for n in (0, 1)
        ]


def test_one_violation_looked_at_twice_or_by_overlapping_windows_is_still_one(world, champion):
    champion()
    play(world, 0, **SHIFTED)
    assert look(world, 0).drift_share == 0.5
    assert look(world, 0).requested == ()
    overlapping = monitor(world.use_case, Interval.of(window(0)[-1]), 2, run="by hand")
    assert overlapping.drift_share == 0.5
    assert overlapping.requested == ()


def test_an_old_window_judged_again_after_a_newer_one_does_not_ask(world, champion):
    champion()
    for number in (0, 1):
        play(world, number, **SHIFTED)
    play(world, 2)
    look(world, 0)
    look(world, 2)
    late = look(world, 1, patient(world))
    assert late.drift_share == 0.5
    assert late.requested == ()
    assert asked(world) == []


def test_decay_against_the_verdict_asks(world, champion):
    use_case = patient(world)
    champion()
    for number in (0, 1):
        play(world, number, good=False)
        outcome = look(world, number, use_case)
    assert outcome.drifted == ()
    assert outcome.requested == ("decay",)
    assert outcome.metrics["metric_loss"] == pytest.approx(0.83 - outcome.metrics["champion_roc_auc"])
    assert asked(world)[0].evidence["metric_loss"] > 0.2


def test_labels_to_come_are_pending_and_not_zero(world, champion):
    # Given predictions of which one day's labels are in, one day's known only later, and one day's not landed.
    champion()
    use_case = spec(world, min_labelled=100)
    known, later, absent = window(0)
    for day in (known, later, absent):
        world.predict(day, N)
    world.label(known, N, nothing=10)
    world.label(later, N, lag=timedelta(days=9))
    world.now(f"{Interval.of(absent).end:%Y-%m-%d}T12:00:00")
    outcome = look(world, 0, use_case)
    assert outcome.labelled == N - 10
    assert (outcome.metrics["pending"], outcome.metrics["without_label"]) == (2 * N, 10)
    assert outcome.metrics["label_rate"] == pytest.approx(0.5, abs=0.15)
    assert outcome.metrics["champion_roc_auc"] == outcome.metrics["roc_auc"]
    # Below the bound there is no figure at all, certainly not a rate of zero.
    few = look(world, 0, spec(world, min_labelled=200))
    assert "label_rate" not in few.metrics
    assert "roc_auc" not in few.metrics
    assert "no quality figure below 200 labels" in few.reason


def test_a_correction_replaces_the_label(world, champion):
    champion()
    [day, *_] = window(0)
    world.predict(day, N)
    world.label(day, N, good=True)
    world.label(day, N, nothing=N)
    world.now("2024-03-20T00:00:00")
    outcome = look(world, 0)
    assert (outcome.labelled, outcome.metrics["without_label"]) == (0, N)


def test_decay_counts_only_what_the_champion_predicted(world, champion):
    # A predecessor predicted badly; the champion's own predictions are good.
    champion("q" * 64)
    champion("r" * 64)
    for day in window(0):
        world.predict(day, N)
        bad = world.records(day, N)
        world.spool.append([{**r, "release": "q" * 64, "probability": 1 - r["probability"]} for r in bad])
        world.label(day, N)
    world.now("2024-03-20T00:00:00")
    outcome = look(world, 0)
    assert outcome.labelled == 720
    assert outcome.metrics["roc_auc"] == pytest.approx(0.5, abs=0.06)
    assert outcome.metrics["champion_roc_auc"] == pytest.approx(0.83, abs=0.06)
    # A window that only another release served says nothing about this champion.
    champion("s" * 64)
    assert "metric_loss" not in look(world, 0).metrics


def test_an_open_request_a_training_under_way_and_the_cool_down_hold_it_back(world, champion):
    use_case = patient(world, cooldown_days=7)
    champion()
    for number in (0, 1):
        play(world, number, **SHIFTED)
        look(world, number, use_case)
    assert len(asked(world)) == 1

    play(world, 2, **SHIFTED)
    open_already = look(world, 2, use_case)
    assert open_already.requested == ()
    assert "in spite of drift: a request for a training is open already" in open_already.reason

    requests.claim_requests(use_case.name, "train__1")
    play(world, 3, **SHIFTED)
    under_way = look(world, 3, use_case)
    assert "open already" in under_way.reason

    requests.close_requests(use_case.name, "train__1", "refused: ROC AUC")
    cooling = look(world, 3, use_case)
    assert "cool-down is 7 days" in cooling.reason
    assert asked(world) == []

    # Asked on 10 March: from the 17th on the cool-down is over.
    play(world, 4, **SHIFTED)
    assert look(world, 4, use_case).requested == ("drift",)


def test_a_training_that_died_does_not_hold_requests_back_for_ever(world, champion):
    use_case = patient(world)
    champion()
    for number in (0, 1):
        play(world, number, **SHIFTED)
        look(world, number, use_case)
    requests.claim_requests(use_case.name, "train__1")
    with transaction() as session:
        for row in session.query(RetrainingRequest).all():
            row.claimed_at = row.claimed_at - timedelta(hours=7)
    play(world, 2, **SHIFTED)
    assert look(world, 2, use_case).requested == ("drift",)


def test_no_predictions_is_a_result_and_new_data_counts_all_the_same(world, champion):
    champion()  # its data ends on 1 March
    for interval in days(Interval.of("2024-02-20"), Interval.of("2024-03-13")):
        world.decide(interval.key)
    world.now("2024-03-14T06:00:00")
    outcome = monitor(world.use_case, Interval.of("2024-03-13"), 7, run="m")
    assert outcome.predictions == 0
    assert outcome.metrics["published_intervals"] == 13
    assert outcome.reason == "no predictions in this window; no reason for a training"
    world.decide("2024-03-14", status="rejected")
    world.decide("2024-03-15")
    asked_for = monitor(world.use_case, Interval.of("2024-03-15"), 7, run="m")
    assert asked_for.requested == ("new_data",)
    assert asked(world)[0].evidence["published_intervals"] == 14


def test_an_old_champion_asks(world, champion):
    champion()
    world.now("2024-04-30T00:00:01")
    assert monitor(world.use_case, Interval.of("2024-04-29"), 7, run="m").requested == ("age",)


def land(world, day: str, content: bytes = b"x") -> None:
    interval = Interval.of(day)
    landing.land(world.use_case, "orders", interval, content, 1, interval.end)
    digest = landing.landed(world.use_case, interval).digest
    world.digests[day] = digest


def test_the_first_training_is_asked_for_once_when_the_history_is_decided(world):
    # Given 28 landed days, as many as a first training needs, of which one is not decided yet.
    world.digests = {}
    history = [i.key for i in days(Interval.of("2024-01-01"), Interval.of("2024-01-28"))]
    for day in history:
        land(world, day)
    world.now("2024-01-29T00:00:00")

    def decide(day: str) -> None:
        from airworthy.ledger import commits
        from airworthy.records import IngestOutcome

        resource = f"tiny_orders/ingest/{day}"
        outcome = IngestOutcome(
            use_case="tiny_orders", interval=Interval.of(day), status="published", landed_digest=world.digests[day]
        )
        commits.decide_interval(resource, commits.claim(resource, "t"), outcome)

    for day in history[:-1]:
        decide(day)

    def ask():
        return monitor(world.use_case, Interval.of("2024-01-28"), 7, run="m")

    too_few = ask()
    assert too_few.reason == "no predictions in this window; no reason for a training"
    land(world, "2024-01-29")
    world.now("2024-01-30T00:00:00")
    decide("2024-01-28")
    waits = ask()
    assert "in spite of new_data: 1 landed intervals are not decided yet" in waits.reason
    decide("2024-01-29")
    # A corrected file that was landed meanwhile is not decided either.
    land(world, "2024-01-20", b"corrected")
    assert "1 landed intervals are not decided yet" in ask().reason
    decide("2024-01-20")
    outcome = ask()
    assert outcome.requested == ("new_data",)
    assert asked(world)[0].evidence == {
        "published_intervals": 29,
        "needed": 28,
        "champion": None,
        "window": "2024-01-22_2024-01-28",
    }

    # Other windows of the backfill ask no second time: not while it is open, and not for the same data afterwards.
    other = monitor(world.use_case, Interval.of("2024-01-21"), 7, run="m")
    assert other.requested == ()
    requests.claim_requests("tiny_orders", "train__1")
    requests.close_requests("tiny_orders", "train__1", "refused")
    world.now("2024-02-10T00:00:00")
    same_data = monitor(world.use_case, Interval.of("2024-01-21"), 7, run="m")
    assert same_data.reason == "no predictions in this window; no reason for a training"
    land(world, "2024-02-09")
    decide("2024-02-09")
    assert monitor(world.use_case, Interval.of("2024-02-09"), 7, run="m").requested == ("new_data",)


def test_without_a_champion_predictions_are_counted_and_drift_is_not_measured(world):
    play(world, 0)
    outcome = look(world, 0)
    assert outcome.predictions == 360
    assert outcome.drift_share is None
    assert "no champion to compare with" in outcome.reason


def test_few_predictions_say_nothing_about_drift(world, champion):
    champion()
    world.predict(window(0)[0], 50, **SHIFTED)
    world.now("2024-03-20T00:00:00")
    outcome = look(world, 0)
    assert outcome.drift_share is None
    assert "fewer than 100 predictions" in outcome.reason


def test_a_window_without_days_is_refused(world):
    with pytest.raises(ConfigurationError, match="0 days"):
        monitor(world.use_case, Interval.of("2024-03-10"), 0, run="m")


def test_a_lost_training_set_is_an_error_and_no_quiet_window(world, champion):
    champion()
    play(world, 0)
    shutil.rmtree(Path(get_settings().release_url) / "training_sets")
    with pytest.raises(ReleaseError, match=r"training set .* is missing"):
        look(world, 0)


def test_a_log_that_fails_its_suite_is_not_measured(world, champion, monkeypatch, tmp_path):
    champion()
    play(world, 0)
    give_suite(monkeypatch, tmp_path, "log/predictions", between("probability", 0, 1))
    assert "/data_docs/" in look(world, 0).links["Data Docs"]
    give_suite(monkeypatch, tmp_path, "log/predictions", between("probability", 0, 0.01))
    with pytest.raises(DataRejectedError, match="probability: expect_column_values_to_be_between"):
        look(world, 0)


def test_a_log_that_fails_its_suite_is_told_without_the_values_of_tagged_columns(
    world, champion, monkeypatch, tmp_path
):
    champion()
    play(world, 0)
    case = world.use_case
    spec = case.sources["orders"]
    column = spec.columns["order_id"].model_copy(update={"tags": ("personal",)})
    source = spec.model_copy(update={"columns": {**spec.columns, "order_id": column}})
    tagged = case.model_copy(update={"sources": {**case.sources, "orders": source}})
    for name in ("id", "request"):
        give_suite(monkeypatch, tmp_path, "log/predictions", matches(name, "^nothing$"))
        with pytest.raises(DataRejectedError, match=rf"{name}: .*\[personal\]") as caught:
            look(world, 0, tagged)
        pages = [p.read_text() for p in Path(get_settings().docs_url).rglob("*") if p.is_file()]
        assert pages
        assert not [words for words in (str(caught.value), *pages) if "o-2024-03" in words]
