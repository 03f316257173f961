"""Fitting on a real ledger and a real MLflow: one candidate for a run, whatever happens to the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError, ReleaseError, ServiceUnavailableError
from airworthy.ledger import promotions, requests
from airworthy.records import CandidateRef, TrainingSetRef
from airworthy.registry import register
from airworthy.training import fit, fitting, model_files, tracking
from airworthy.training.training_set import part, read_training_set

from ..registry.test_registration import passing  # noqa: TID252 - a verdict as the gate writes it

Make = Callable[..., TrainingSetRef]


def runs_of(use_case: UseCase) -> list[Any]:
    mlflow = tracking.client()
    return list(mlflow.search_runs([tracking.experiment_id(mlflow, use_case)]))


def test_a_candidate_is_staged_and_its_run_tells_where_it_comes_from(tiny: UseCase, training_set: Make) -> None:
    # Given a training set and a request that this run claimed.
    ref = training_set()
    requests.request_retraining(tiny.name, "drift", {"share": 0.6}, by="test", data_time=ref.data_time)
    requests.claim_requests(tiny.name, "train__1")

    # When a candidate is fitted.
    candidate = fit(tiny, ref, run="train__1")

    # Then its files load and answer for the holdout.
    model = model_files.load(candidate.folder, candidate.model_digest)
    probabilities = model.predict_table(part(read_training_set(ref), "holdout"))
    assert probabilities.shape == (400,)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert model.card["training_set"]["digest"] == ref.digest
    assert candidate.label_note == ""
    # And the run has parameters, tags, metrics, the data and the files.
    mlflow = tracking.client()
    run = mlflow.get_run(candidate.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["algorithm"] == tiny.training.algorithm
    assert run.data.params["parameters.max_iter"] == "500"
    assert run.data.tags["airworthy.causes"] == "drift"
    assert run.data.tags["airworthy.run"] == "train__1"
    assert run.data.tags["airworthy.training_set"] == ref.digest
    assert run.data.tags["airworthy.model_digest"] == candidate.model_digest
    assert tiny.table("clean", "orders") in run.data.tags["airworthy.data_versions"]
    assert 0.7 < run.data.metrics["train_roc_auc"] <= 1
    assert run.data.metrics["fit_seconds"] > 0
    assert run.inputs.dataset_inputs[0].dataset.digest == ref.digest[:32]
    listed = {Path(a.path).name for a in mlflow.list_artifacts(candidate.run_id, "model")}
    assert listed == set(model_files.MODEL_FILES)


def test_a_retry_returns_the_same_candidate_and_makes_no_second_run(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()

    first = fit(tiny, ref, run="train__1")
    again = fit(tiny, ref, run="train__1")
    another = fit(tiny, ref, run="train__2")

    assert again == first
    assert another.run_id != first.run_id
    assert another.model_digest == first.model_digest
    assert len(runs_of(tiny)) == 2


def test_two_tries_at_once_are_one_candidate(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()

    with ThreadPoolExecutor(2) as pool:
        candidates = list(pool.map(lambda _: fit(tiny, ref, run="train__1"), range(2)))

    assert candidates[0] == candidates[1]
    assert len(runs_of(tiny)) == 1


def test_a_retry_after_a_crash_goes_on_in_the_same_run(
    tiny: UseCase, training_set: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a first try that died between its files and its end.
    ref = training_set()

    def died(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_upload", died)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny, ref, run="train__1")

    # When it is tried again.
    candidate = fit(tiny, ref, run="train__1")

    # Then there is one run, and it is finished.
    assert [(r.info.run_id, r.info.status) for r in runs_of(tiny)] == [(candidate.run_id, "FINISHED")]


def test_a_retry_stages_files_again_that_are_gone(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()
    first = fit(tiny, ref, run="train__1")
    shutil.rmtree(first.folder)

    again = fit(tiny, ref, run="train__1")

    assert again == first
    assert model_files.load(again.folder, again.model_digest)


def test_a_failure_ends_the_run_as_failed(tiny: UseCase, training_set: Make) -> None:
    with pytest.raises(ConfigurationError, match="cannot be fitted"):
        fit(tiny, training_set(), run="train__1", parameters={"C": -1.0})

    assert [r.info.status for r in runs_of(tiny)] == ["FAILED"]


def test_flipped_labels_are_on_record_and_hurt(tiny: UseCase, training_set: Make) -> None:
    from sklearn.metrics import roc_auc_score

    ref = training_set()
    honest, flipped = fit(tiny, ref, run="train__1"), fit(tiny, ref, run="train__1", flip_labels=0.7)
    holdout = part(read_training_set(ref), "holdout")
    labels = holdout["label"].to_numpy(zero_copy_only=False)

    def auc(candidate: CandidateRef) -> float:
        return float(
            roc_auc_score(labels, model_files.load(candidate.folder, candidate.model_digest).predict_table(holdout))
        )

    assert flipped.label_note == "70% of the training labels were flipped on purpose"
    assert tracking.client().get_run(flipped.run_id).data.tags["airworthy.label_note"] == flipped.label_note
    assert honest.run_id != flipped.run_id
    assert auc(flipped) < 0.5 < auc(honest)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(tiny: UseCase, training_set: Make, share: float) -> None:
    with pytest.raises(ConfigurationError, match="flip_labels"):
        fit(tiny, training_set(), run="train__1", flip_labels=share)


def test_another_algorithm_of_an_experiment(tiny: UseCase, training_set: Make) -> None:
    candidate = fit(
        tiny,
        training_set(),
        run="experiment",
        algorithm="sklearn.ensemble.HistGradientBoostingClassifier",
        parameters={"max_iter": 5},
    )

    assert candidate.algorithm == "sklearn.ensemble.HistGradientBoostingClassifier"
    assert model_files.load(candidate.folder, candidate.model_digest).encoder.style == "codes"


def test_an_ensembles_members_weights_and_versions_are_in_the_model(tiny: UseCase, training_set: Make) -> None:
    # Given an ensemble of members that read their inputs in different ways.
    linear = "sklearn.linear_model.LogisticRegression"
    members = {
        "trees": {"algorithm": "sklearn.ensemble.HistGradientBoostingClassifier", "parameters": {"max_iter": 9}, "weight": 3},
        "linear": {"algorithm": linear},
    }  # fmt: skip
    vote = "sklearn.ensemble.VotingClassifier"
    ref = training_set()

    # When it is fitted.
    candidate = fit(tiny, ref, run="train__1", algorithm=vote, parameters={"members": members})

    # Then what serves has both, and answers as the record and as the two by hand.
    model = model_files.load(candidate.folder, candidate.model_digest)
    about = json.loads((Path(candidate.folder) / "scorer.json").read_text())
    assert about["form"] == "soft_voting"
    assert [(m["name"], m["weight"], m["scikit-learn"]) for m in about["members"]] == [
        ("linear", 1.0, version("scikit-learn")), ("trees", 3.0, version("scikit-learn")),
    ]  # fmt: skip
    assert about["members"][0]["algorithm"].endswith("LogisticRegression")
    assert model.card["recipe"]["parameters"] == {"members": members}
    holdout = part(read_training_set(ref), "holdout")
    estimator = model_files.load_estimator(candidate.folder, candidate.model_digest)
    matrix = model.encoder.transform(holdout)
    alone, trees = (m.predict_proba(matrix)[:, 1] for m in estimator.estimators_)
    np.testing.assert_allclose(model.predict_table(holdout), (3 * trees + alone) / 4, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.predict_table(holdout), estimator.predict_proba(matrix)[:, 1], rtol=0, atol=1e-9)


def as_jsonb(value: Any) -> Any:
    """As PostgreSQL's jsonb gives it back: keys by length, then by bytes. The ledger and XCom keep records so."""
    if isinstance(value, dict):
        return {key: as_jsonb(value[key]) for key in sorted(value, key=lambda k: (len(k), k))}
    return [as_jsonb(v) for v in value] if isinstance(value, list) else value


def test_a_record_that_was_stored_makes_the_same_model(tiny: UseCase, training_set: Make) -> None:
    """Between two tasks a training set goes through XCom, which does not keep the order of its columns."""
    ref = training_set().model_copy(update={"view_digests": {"orders_long_name": "a", "b": "c"}})
    stored = TrainingSetRef.model_validate(as_jsonb(TrainingSetRef.model_validate(ref.to_json()).to_json()))
    parameters = {"max_iter": 300, "C": 0.5}
    assert list(as_jsonb(ref.to_json())["columns"]) != list(ref.columns)

    here = fit(tiny, ref, run="train__1", parameters=parameters)
    there = fit(tiny, stored, run="train__2", parameters=as_jsonb(parameters))

    assert list(stored.columns) == list(ref.columns)
    assert there.model_digest == here.model_digest


def test_an_algorithm_without_a_compiled_form_is_fitted_and_can_never_serve(tiny: UseCase, training_set: Make) -> None:
    # Given a classifier that nothing compiles: it is fitted and recorded as any other.
    candidate = fit(tiny, training_set(), run="experiment", algorithm="sklearn.naive_bayes.GaussianNB")
    assert [r.info.status for r in runs_of(tiny)] == ["FINISHED"]
    measured = model_files.load(candidate.folder, candidate.model_digest, recorded=True)
    assert all(0 <= float(g["probability"]) <= 1 for g in measured.golden)

    # When somebody takes it for a model that serves: loading it, or registering it with a verdict that says pass.
    with pytest.raises(ReleaseError, match="GaussianNB has no compiled form, so it cannot serve\nNext: train one of"):
        model_files.load(candidate.folder, candidate.model_digest)
    with pytest.raises(ReleaseError, match="GaussianNB has no compiled form"):
        register(tiny, candidate, passing(tiny, candidate))

    # Then there is no release.
    assert promotions.releases(tiny.name) == []


def test_what_nobody_may_load_again_is_refused_at_the_fit(tiny: UseCase, training_set: Make) -> None:
    with pytest.raises(ReleaseError, match=r"types outside the trusted list: .*KDTree"):
        fit(tiny, training_set(), run="experiment", algorithm="sklearn.neighbors.KNeighborsClassifier")

    assert [r.info.status for r in runs_of(tiny)] == ["FAILED"]


@pytest.mark.parametrize(
    ("path", "words"),
    [("sklearn.nothing.Here", "cannot be imported"), ("sklearn.linear_model.Ridge", "no scikit-learn classifier")],
)
def test_what_is_no_classifier_leaves_no_run(tiny: UseCase, training_set: Make, path: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        fit(tiny, training_set(), run="experiment", algorithm=path)

    assert runs_of(tiny) == []


def test_an_altered_training_set_is_refused(tiny: UseCase, training_set: Make) -> None:
    ref = training_set()
    shutil.copy(training_set(seed=2).url, ref.url)

    with pytest.raises(ReleaseError, match="was altered"):
        fit(tiny, ref, run="train__1")


def test_no_tracking_server_is_said_in_time(tiny: UseCase, training_set: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = training_set()
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", "http://127.0.0.1:9")
    get_settings.cache_clear()

    with pytest.raises(ServiceUnavailableError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer"):
        fit(tiny, ref, run="train__1")


def test_the_ledger_keeps_what_a_rebuild_needs(tiny: UseCase, training_set: Make) -> None:
    from airworthy.training.candidates import find_candidate, fingerprint

    ref = training_set()
    candidate = fit(tiny, ref, run="train__1", parameters={"C": 0.5})
    kept = find_candidate(candidate.model_digest, candidate.run_id)

    assert kept is not None
    assert (kept.run, kept.training_set, kept.use_case) == ("train__1", ref.digest, tiny.name)
    assert kept.recipe["parameters"] == {"C": 0.5}
    assert kept.revision == tracking.revision()
    run = tracking.client().get_run(candidate.run_id)
    assert kept.lock == run.data.tags["airworthy.lock"]
    assert kept.metrics == {name: run.data.metrics[name] for name in kept.metrics}
    # Its predictions are those of the estimator in its files.
    rows = part(read_training_set(ref), "train")
    model = model_files.load(candidate.folder, candidate.model_digest)
    estimator = model_files.load_estimator(candidate.folder, candidate.model_digest)
    again = estimator.predict_proba(model.encoder.transform(rows))[:, 1]
    assert kept.predictions == fingerprint(again)
    assert (kept.predictions["rows"], len(kept.predictions["sample"])) == (800, 200)
