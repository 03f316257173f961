"""Verdicts on real candidates: a real training set, fit, MLflow, release store, ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError, ReleaseError, ServiceUnavailableError
from airworthy.evaluation import baselines, examine, judge, report_link
from airworthy.evaluation.judge import report_path
from airworthy.ledger import clock, promotions
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TrainingSet
from airworthy.records import CandidateRef, Release, TrainingSetRef, Verdict
from airworthy.training import fit, model_files, tracking
from airworthy.training.training_set import part, read_training_set

Make = Callable[..., TrainingSetRef]


def failed(verdict: Verdict) -> set[str]:
    return {c.name for c in verdict.checks if not c.passed}


def promote(use_case: UseCase, candidate: CandidateRef, verdict: Verdict) -> Release:
    release = registry.register(use_case, candidate, verdict)
    promotions.promote(
        use_case.name,
        release.digest,
        expected=release.champion_digest,
        action="promote",
        verdict_id=verdict.id,
        who="test",
        why="test",
        data_time=verdict.data_time,
    )
    return release


def lenient(use_case: UseCase) -> UseCase:
    """The use case with a gate that a mediocre first model passes, to have a champion that can be beaten."""
    gate = use_case.gate.model_copy(
        update={"max_calibration_error": 0.5, "min_gain_over_prior": 0.0, "min_slice_roc_auc": 0.5, "min_saving": 1e-9}
    )
    return use_case.model_copy(update={"gate": gate})


def later(ref: TrainingSetRef) -> dict[str, object]:
    """A training set whose holdout is later than everything in another."""
    return {"start": ref.train_start, "days": 60, "seed": 2}


def test_the_first_model_passes_and_the_evidence_is_on_file(tiny: UseCase, training_set: Make) -> None:
    # Given a candidate and no champion, and groups whose treatment is told and bounds nothing.
    told = {
        "groups": ["channel"],
        "min_group_rows": 50,
        "max_selection_gap": 1.0,
        "max_hit_gap": 1.0,
        "max_false_alarm_gap": 1.0,
    }
    tiny = tiny.model_copy(update={"gate": tiny.gate.model_copy(update=told)})
    ref = training_set()
    clock.advance(tiny, ref.data_time)
    candidate = fit(tiny, ref, run="train__1")

    # When it is judged.
    verdict = judge(tiny, candidate, causes={"cause": "new_data"})

    # Then it passes on the explicit path, with the figures that anyone can compute from the holdout.
    assert verdict.decision == "pass", verdict.summary
    assert verdict.champion_digest is None
    assert "no champion yet" in verdict.summary
    assert verdict.data_time == ref.data_time
    holdout = part(read_training_set(ref), "holdout")
    labels = np.asarray(holdout["label"].to_pylist())
    scores = model_files.load(candidate.folder, candidate.model_digest).predict(holdout.to_pylist())
    assert verdict.holdout_rows == len(labels) == 720
    assert verdict.metrics["roc_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert verdict.metrics["log_loss"] == pytest.approx(log_loss(labels, scores), abs=1e-9)
    assert verdict.metrics["brier"] == pytest.approx(brier_score_loss(labels, scores), abs=1e-9)
    for check in verdict.checks:
        if check.name.startswith("slice channel="):
            rows = np.asarray(holdout["channel"].to_pylist()) == check.name.partition("=")[2]
            assert check.value == pytest.approx(roc_auc_score(labels[rows], scores[rows]), abs=1e-9)
    assert sum(c.name.startswith("slice channel=") for c in verdict.checks) == 3

    # With intervals around the figures, the calibration's bins over every row, and what becomes of each group.
    assert verdict.confidence == 0.95
    for name, (low, high) in verdict.intervals.items():
        assert low < verdict.metrics[name] < high
    assert set(verdict.intervals) == set(verdict.metrics) - {"calibration_error"}
    assert sum(rows for _, _, rows in verdict.calibration) == len(labels)
    acted = scores >= tiny.problem.threshold
    for group in verdict.groups:
        rows = np.asarray(holdout["channel"].to_pylist()) == group.value
        assert (group.column, group.rows) == ("channel", rows.sum())
        assert group.hits == pytest.approx(acted[rows & labels].mean())
    assert len(verdict.groups) == 3

    # And it is in the ledger, in MLflow and in a report.
    row = promotions.verdicts(tiny.name)[0]
    assert (row.id, row.decision, row.causes) == (verdict.id, "pass", {"cause": "new_data"})
    assert promotions.get_verdict(verdict.id) == verdict
    run = tracking.client().get_run(candidate.run_id)
    assert run.data.metrics["holdout_roc_auc"] == pytest.approx(verdict.metrics["roc_auc"])
    assert run.data.metrics["holdout_prior_roc_auc"] == pytest.approx(0.5)
    assert run.data.metrics["holdout_linear_roc_auc"] > 0.6
    assert run.data.tags["verdict"] == "pass"
    assert run.data.tags["verdict_report"] == report_link(verdict)
    assert {"verdict.json", "verdict.html", "shap.svg"} <= {
        f.path for f in tracking.client().list_artifacts(candidate.run_id)
    }
    page = (Path(get_settings().docs_url) / report_path(tiny.name, verdict.id)).read_text()
    assert "Passed" in page
    assert page.count("<svg") == 4
    assert "channel=app" in page
    assert "src=" not in page
    assert "http" not in page
    # With SHAP values of each feature, the same in the ledger, in MLflow and on the page.
    assert verdict.worth is not None
    assert (verdict.worth.measure, verdict.worth.rows) == ("shap", 100)
    assert {name for name, _ in verdict.worth.features} == set(ref.columns)
    for name, value in verdict.worth.features:
        assert run.data.metrics[f"shap_{name}"] == pytest.approx(value)
        assert f">{name}</text>" in page
        assert f">{value:.4f}</text>" in page


def test_a_retry_gives_the_same_verdict_and_computes_nothing(
    tiny: UseCase, training_set: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = fit(tiny, training_set(), run="train__1")
    verdict = judge(tiny, candidate, causes={})
    monkeypatch.setattr(examine, "score", None)
    assert judge(tiny, candidate, causes={}) == verdict
    assert len(promotions.verdicts(tiny.name)) == 1


def test_a_better_model_passes_and_worse_and_equal_ones_are_refused(tiny: UseCase, training_set: Make) -> None:
    # Given a champion that learned from labels of which a third was wrong.
    easy = lenient(tiny)
    first = training_set()
    champion = fit(tiny, first, run="train__1", flip_labels=0.35)
    release = promote(easy, champion, judge(easy, champion, causes={}))

    # When later candidates are judged on a later holdout.
    second = training_set(**later(first))
    good, bad = fit(tiny, second, run="train__2"), fit(tiny, second, run="experiment__1", flip_labels=1.0)
    passed, refused = judge(tiny, good, causes={}), judge(tiny, bad, causes={})
    equal = judge(tiny, champion.model_copy(update={"training_set": second}), causes={})

    # Then the better one passes, measured against the champion on the same rows.
    assert passed.decision == "pass", passed.summary
    assert passed.champion_digest == release.digest
    holdout = part(read_training_set(second), "holdout")
    labels = np.asarray(holdout["label"].to_pylist())
    theirs = registry.load(release.digest).predict_table(holdout)
    assert passed.champion_metrics["roc_auc"] == pytest.approx(roc_auc_score(labels, theirs), abs=1e-9)
    gain = next(c for c in passed.checks if c.name == "gain over champion")
    assert gain.value == pytest.approx(passed.metrics["roc_auc"] - passed.champion_metrics["roc_auc"])

    # And the others are refused with their numbers, and cannot be registered.
    assert refused.decision == "refuse"
    assert {"roc_auc", "gain over champion", "gain over prior"} <= failed(refused)
    assert (
        f"ROC AUC {refused.metrics['roc_auc']:.3f} against champion {refused.champion_metrics['roc_auc']:.3f}"
        in refused.summary
    )
    assert equal.decision == "refuse"
    assert {"different models", "gain over champion"} <= failed(equal)
    assert "equal, needs at least" in equal.summary
    with pytest.raises(ReleaseError, match="cannot be released"):
        registry.register(tiny, bad, refused)
    assert promotions.champion(tiny.name).digest == release.digest


def test_a_holdout_that_the_champion_was_trained_on_is_no_evidence(tiny: UseCase, training_set: Make) -> None:
    # Given a champion trained on most of January.
    easy, first = lenient(tiny), training_set(days=30, holdout_days=10)
    champion = fit(tiny, first, run="train__1", flip_labels=0.3)
    promote(easy, champion, judge(easy, champion, causes={}))
    # When a candidate is judged on days that the champion has learned from.
    overlapping = training_set(days=24, holdout_days=12, seed=5)
    verdict = judge(tiny, fit(tiny, overlapping, run="train__2"), causes={})
    # Then that alone refuses it.
    assert failed(verdict) == {"champion trained before holdout"}
    assert "the champion learned from rows up to 2024-01-21" in verdict.summary


def test_a_champion_of_unknown_training_rows_is_no_evidence(tiny: UseCase, training_set: Make) -> None:
    easy, first = lenient(tiny), training_set()
    champion = fit(tiny, first, run="train__1", flip_labels=0.3)
    promote(easy, champion, judge(easy, champion, causes={}))
    with transaction() as session:
        session.delete(session.get(TrainingSet, first.digest))
    verdict = judge(tiny, fit(tiny, training_set(**later(first)), run="train__2"), causes={})
    assert failed(verdict) == {"champion trained before holdout"}
    assert "nobody knows which rows the champion learned from" in verdict.summary


def test_a_champion_promoted_while_judging_makes_the_verdict_stale(
    tiny: UseCase, training_set: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    easy, first = lenient(tiny), training_set()
    champion = fit(tiny, first, run="train__1", flip_labels=0.3)
    release = promote(easy, champion, judge(easy, champion, causes={}))
    second = training_set(**later(first))
    rival = fit(tiny, second, run="train__2", flip_labels=0.1)
    rival_verdict = judge(easy, rival, causes={})
    assert rival_verdict.decision == "pass", rival_verdict.summary
    candidate = fit(tiny, second, run="train__3")
    prior = baselines.prior

    def while_a_rival_is_promoted(*args, **kwargs):
        promote(easy, rival, rival_verdict)
        return prior(*args, **kwargs)

    monkeypatch.setattr(baselines, "prior", while_a_rival_is_promoted)
    verdict = judge(tiny, candidate, causes={})
    assert verdict.champion_digest == release.digest
    assert failed(verdict) == {"champion identity"}
    # Judged again, the candidate meets the new champion: another verdict with another id.
    monkeypatch.setattr(baselines, "prior", prior)
    again = judge(tiny, candidate, causes={})
    assert again.id != verdict.id
    assert again.champion_digest == promotions.champion(tiny.name).digest != release.digest


def test_a_champion_of_other_features_refuses_with_the_reason(tiny: UseCase, training_set: Make) -> None:
    easy, first = lenient(tiny), training_set()
    champion = fit(tiny, first, run="train__1", flip_labels=0.3)
    promote(easy, champion, judge(easy, champion, causes={}))
    table = read_training_set(training_set(**later(first))).drop_columns(["order_hour"])
    second = training_set(table=table, days=60)
    assert "order_hour" not in second.columns
    verdict = judge(tiny, fit(tiny, second, run="train__2"), causes={})
    assert verdict.decision == "refuse"
    assert {"champion scores", "gain over champion"} <= failed(verdict)
    assert "the holdout does not have its inputs" in verdict.summary
    assert "order_hour" in verdict.summary


@pytest.mark.parametrize("mode", ["dry_run", "disabled"])
def test_a_gate_that_is_not_enabled_never_passes(tiny: UseCase, training_set: Make, mode: str) -> None:
    candidate = fit(tiny, training_set(), run="train__1")
    verdict = judge(tiny.model_copy(update={"gate": tiny.gate.model_copy(update={"mode": mode})}), candidate, causes={})
    assert (verdict.decision, failed(verdict)) == ("refuse", {"mode"})
    with pytest.raises(ReleaseError):
        registry.register(tiny, candidate, verdict)
    # The same candidate under the enabled gate is another verdict; the first one stays on record.
    enabled = judge(tiny, candidate, causes={})
    assert enabled.decision == "pass"
    assert {r.id for r in promotions.verdicts(tiny.name)} == {verdict.id, enabled.id}


def test_an_empty_holdout_and_one_of_a_single_class_are_no_evidence(tiny: UseCase, training_set: Make) -> None:
    rows = read_training_set(training_set())
    train = part(rows, "train")
    empty = fit(tiny, training_set(table=train), run="train__1")
    verdict = judge(tiny, empty, causes={})
    assert verdict.decision == "refuse"
    assert {"holdout rows", "metrics", "candidate scores", "serving form", "slices channel"} <= failed(verdict)
    assert verdict.metrics == {}
    holdout = part(rows, "holdout")
    never = holdout.set_column(holdout.schema.get_field_index("label"), "label", pa.array([False] * holdout.num_rows))
    one_class = fit(tiny, training_set(table=pa.concat_tables([train, never])), run="train__2")
    verdict = judge(tiny, one_class, causes={})
    assert {"metrics", "roc_auc"} <= failed(verdict)
    assert "missing or not a number: roc_auc, average_precision" in verdict.summary
    json.dumps(verdict.to_json(), allow_nan=False)


def test_altered_files_stop_the_judging_and_leave_no_verdict(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()
    candidate = fit(tiny, ref, run="train__1")
    scorer = Path(candidate.folder) / "scorer.bin"
    original = scorer.read_bytes()
    scorer.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(ReleaseError, match=r"scorer\.bin"):
        judge(tiny, candidate, causes={})
    scorer.write_bytes(original)
    Path(ref.url).write_bytes(b"something else")
    with pytest.raises(ReleaseError, match="training set"):
        judge(tiny, candidate, causes={})
    assert promotions.verdicts(tiny.name) == []


def test_without_mlflow_there_is_no_verdict_and_a_retry_completes_it(
    tiny: UseCase, training_set: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = fit(tiny, training_set(), run="train__1")
    url = get_settings().mlflow_url
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", "http://127.0.0.1:9")
    get_settings.cache_clear()
    with pytest.raises(ServiceUnavailableError):
        judge(tiny, candidate, causes={})
    assert promotions.verdicts(tiny.name) == []
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", url)
    get_settings.cache_clear()
    assert judge(tiny, candidate, causes={}).decision == "pass"
    assert tracking.client().get_run(candidate.run_id).data.tags["verdict"] == "pass"


def test_a_candidate_of_another_use_case_is_refused(tiny: UseCase, training_set: Make) -> None:
    candidate = fit(tiny, training_set(), run="train__1").model_copy(update={"use_case": "flight_delays"})
    with pytest.raises(ConfigurationError, match="is of flight_delays"):
        judge(tiny, candidate, causes={})


def test_bounds_of_the_holdout_come_from_the_training_set(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()
    seen = ref.model_copy(update={"train_end": ref.holdout_start + timedelta(seconds=1)})
    candidate = fit(tiny, seen, run="train__1")
    assert failed(judge(tiny, candidate, causes={})) == {"candidate trained before holdout"}
