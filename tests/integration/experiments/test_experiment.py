"""An experiment from form to report, by the functions that the DAG and the notebook call."""

from __future__ import annotations

import json
from datetime import date
from urllib.request import urlopen

import pytest

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError, DataRejectedError, ReleaseError
from airworthy.evaluation import judge
from airworthy.evaluation.experiment import Form, Plan, fit_planned, plan
from airworthy.evaluation.experiment_report import report
from airworthy.evaluation.run_record import note_judged, publish_record, run_record
from airworthy.evaluation.tried_page import page_path, publish_tried, tried
from airworthy.lake.landing import read_bytes
from airworthy.ledger import attempts, promotions, usage
from airworthy.measuring import Usage
from airworthy.records import CandidateRef, Verdict
from airworthy.training import build_training_set, fit, tracking

FOREST = "sklearn.ensemble.RandomForestClassifier"
RUN = "tiny_orders.experiment/manual__1"


def experiment(case: UseCase, run: str = RUN, **form: object) -> tuple[Plan, CandidateRef, Verdict]:
    planned = plan(case, Form.of(form), run=run, who="ada")
    candidate = fit_planned(case, planned, run=run)
    verdict = judge(case, candidate, causes=planned.causes)
    note_judged(run, "experiment", candidate, verdict, planned.causes)
    return planned, candidate, verdict


def champion_of_all(case: UseCase) -> None:
    candidate = fit(case, build_training_set(case, run="train__1"), run="train__1")
    lenient = case.gate.model_copy(update={"max_calibration_error": 0.9, "min_gain_over_prior": 0.0})
    case = case.model_copy(update={"gate": lenient})
    verdict = judge(case, candidate, causes={})
    assert verdict.decision == "pass", verdict.summary
    release = registry.register(case, candidate, verdict)
    promotions.promote(
        case.name, release.digest, expected=None, action="promote", verdict_id=verdict.id, who="t", why="t",
        data_time=verdict.data_time,
    )  # fmt: skip


def test_an_experiment_leaves_a_report_plots_a_record_and_a_line_on_the_page(lab: UseCase) -> None:
    planned, candidate, verdict = experiment(
        lab, reason="do two features do?", features=["order_amount", "order_channel"], days=8, algorithm=FOREST
    )
    usage.record_usage(
        usage.TaskName(RUN, "tiny_orders.experiment", "fit"), Usage(3.0, 2.5, 300_000_000, 1_000_000), "done"
    )

    outcome = report(lab, planned, candidate, verdict, run=RUN)
    publish_record(RUN, candidate.run_id)
    publish_tried(lab)

    settings = get_settings()
    page = read_bytes(f"{settings.docs_url}/{outcome.url.removeprefix(settings.reports_url + '/')}").decode()
    for words in ("do two features do?", "RandomForestClassifier", "order_amount", "<svg", "about", verdict.id):
        assert words in page, words
    client = tracking.client()
    files = {f.path for f in client.list_artifacts(candidate.run_id)}
    plots = {f.path for f in client.list_artifacts(candidate.run_id, "plots")}
    assert {"verdict.json", "run.json", "plots"} <= files
    assert plots == {"plots/roc.png", "plots/calibration.png", "plots/scores.png"}
    url = f"{settings.mlflow_url}/get-artifact?path=run.json&run_uuid={candidate.run_id}"
    with urlopen(url) as answer:
        record = json.load(answer)
    assert record["asked"]["reason"] == "do two features do?"
    assert record["training_set"]["data_versions"] == candidate.training_set.data_versions
    assert record["metrics"]["train"]["roc_auc" if "roc_auc" in record["metrics"]["train"] else "train_roc_auc"] > 0.5
    assert record["metrics"]["holdout"] == verdict.metrics
    assert record["cost"]["cpu_seconds"] == 2.5
    assert {"revision", "versions", "parameters", "artefacts", "previous_model", "steps"} <= record.keys()
    index = read_bytes(f"{settings.docs_url}/{page_path(lab.name)}").decode()
    for words in ("do two features do?", "2 of 7", "RandomForestClassifier", verdict.id, candidate.run_id, "ada"):
        assert words in index, words
    (line,) = tried(lab)
    assert (line.decision, line.roc_auc) == (verdict.decision, verdict.metrics["roc_auc"])


def test_fewer_features_and_other_days_are_judged_on_the_champions_own_terms(lab: UseCase) -> None:
    champion_of_all(lab)

    _, candidate, verdict = experiment(lab, features=["order_amount"], first_day="2024-01-02", last_day="2024-01-08")

    # Both were scored on the same holdout, although the candidate knows nothing of the champion's inputs.
    assert verdict.champion_metrics["roc_auc"] > 0.5
    assert verdict.metrics["roc_auc"] > 0.5
    assert not [c.words for c in verdict.checks if "does not have its inputs" in c.words]
    assert verdict.holdout_rows == candidate.training_set.holdout_rows
    whole = build_training_set(lab, run="train__2")
    assert (candidate.training_set.holdout_start, verdict.holdout_rows) == (whole.holdout_start, whole.holdout_rows)
    assert list(registry_columns(candidate)) == ["order_amount"]


def test_any_classifier_is_judged_and_one_that_cannot_serve_is_refused_by_name(lab: UseCase) -> None:
    planned, candidate, verdict = experiment(lab, algorithm="sklearn.naive_bayes.GaussianNB")

    failed = {c.name: c.words for c in verdict.checks if not c.passed}
    assert verdict.decision == "refuse"
    assert verdict.metrics["roc_auc"] > 0.5  # it was measured as any other
    assert failed["serving form"].startswith(
        "sklearn.naive_bayes.GaussianNB has no compiled form, so it cannot serve; next"
    )
    assert "training.algorithm" in failed["serving form"]
    assert "has no compiled form" in failed["clean process"]
    assert "GaussianNB has no compiled form" in verdict.summary
    page = report(lab, planned, candidate, verdict, run=RUN)
    assert page.url


def registry_columns(candidate: CandidateRef) -> dict[str, str]:
    from airworthy.training import model_files

    model = model_files.load(candidate.folder, candidate.model_digest)
    # What serving looks up for it is every feature of the service: it takes its own and leaves the rest.
    everything = {**model.golden[0]["features"], "orders_7d": 3, "order_channel": "app"}
    assert model.predict([everything])[0] == pytest.approx(model.golden[0]["probability"])
    return model.columns


BAD = [
    ({"features": ["no_such"]}, "no feature no_such"),
    ({"first_day": "2024-02-02", "last_day": "2024-02-01"}, "before it begins"),
    ({"first_day": "2023-12-31"}, "the data of tiny_orders are from 2024-01-01"),
    ({"days": 0}, "days: Input should be greater than or equal to 1"),
    ({"trials": 5000}, "trials: Input should be less than or equal to 200"),
    ({"trials": 3}, "has no training.search"),
    ({"algorithm": "sklearn.nothing.Here"}, "cannot be imported"),
    ({"algorithm": "sklearn.linear_model.Ridge"}, "no scikit-learn classifier"),
    ({"flip_labels": 2}, "flip_labels"),
    ({"budget_minutes": 0.00001}, "would take about"),
    ({"wish": 1}, "wish: Extra inputs are not permitted"),
]


def test_a_form_that_cannot_be_run_is_refused_before_anything_runs(shop: UseCase) -> None:
    for number, (form, words) in enumerate(BAD):
        run = f"tiny_orders.experiment/{number}"
        with pytest.raises((ConfigurationError, ReleaseError), match=words):
            plan(shop, Form.of(form), run=run, who="ada")
        row = attempts.attempt_of(run)
        assert row is None or "refused by its budget" in row.record["outcome"]


def test_the_budget_of_the_specification_is_the_bound_of_every_form(shop: UseCase) -> None:
    tight = shop.model_copy(update={"training": shop.training.model_copy(update={"experiment_budget": 1e-5})})

    with pytest.raises(ConfigurationError, match="budget 1e-05 CPU-minutes"):
        plan(tight, Form.of({"budget_minutes": 100}), run=RUN, who="ada")

    (line,) = tried(tight)
    assert line.became.startswith("refused by its budget: about")


def test_the_estimate_is_what_earlier_trainings_took(shop: UseCase) -> None:
    first = plan(shop, Form(), run=RUN, who="ada").estimate
    assert "made-up rows" in first.source
    assert first.rows == pytest.approx(1200, rel=0.02)  # ten days of 120 orders before the holdout of four
    for number, cpu in enumerate((5.0, 7.0, 60.0)):
        run = f"tiny_orders.train/{number}"
        attempts.note_attempt(
            shop.name, run, "train", algorithm=shop.training.algorithm, training_set={"train_rows": 1000}, trials=0
        )
        for task, seconds in (("fit", cpu), ("judge", 3.0)):
            name = usage.TaskName(run, "tiny_orders.train", task)
            usage.record_usage(name, Usage(1, seconds, 1, 1), "done")

    known = plan(shop, Form(), run=RUN, who="ada").estimate
    longer = plan(shop, Form.of({"days": 5}), run=RUN, who="ada").estimate

    # The middle one of the three: 7 s for 1,000 rows; and 3 s for the gate.
    assert known.cpu_seconds == pytest.approx(7.0 * known.rows / 1000 + 3.0)
    assert known.amount == pytest.approx(known.cpu_seconds / 3600 * get_settings().cost_per_cpu_hour)
    assert "last 3 trainings" in known.source
    assert longer.rows == pytest.approx(600, rel=0.02)
    other = plan(shop, Form.of({"algorithm": FOREST}), run=RUN, who="ada").estimate
    assert "made-up rows" in other.source


def test_too_few_days_are_refused_by_the_training_set(lab: UseCase) -> None:
    planned = plan(lab, Form.of({"days": 2, "last_day": date(2024, 1, 9)}), run=RUN, who="ada")
    with pytest.raises(DataRejectedError, match="widen the window"):
        fit_planned(lab, planned, run=RUN)
    assert run_record(RUN)["outcome"].startswith("estimated")
