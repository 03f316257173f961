"""``airworthy train`` in a shell: the same stages as ``.train``, and the same traces of it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import __version__ as sklearn_version
from typer.testing import CliRunner

from airworthy import registry
from airworthy.cli import app
from airworthy.commands import stages
from airworthy.config import UseCase
from airworthy.evaluation.run_record import run_record
from airworthy.evaluation.tried_page import tried
from airworthy.ledger import attempts, promotions
from airworthy.records import TrainingSetRef
from airworthy.training import model_files, read_training_set
from airworthy.training.training_set import part

MEMBERS = {
    "forest": {
        "algorithm": "sklearn.ensemble.RandomForestClassifier", "weight": 1.0,
        "parameters": {"n_estimators": 20, "min_samples_leaf": 20},
    },
    "linear": {"algorithm": "sklearn.linear_model.LogisticRegression", "weight": 3.0, "parameters": {"max_iter": 500}},
}  # fmt: skip


@pytest.fixture
def voting(lab: UseCase, monkeypatch: pytest.MonkeyPatch) -> UseCase:
    """The shop with a soft-voting ensemble, and a gate that two weeks of orders can pass."""
    gate = lab.gate.model_copy(update={"max_calibration_error": 0.9, "min_gain_over_prior": 0.0})
    recipe = {"algorithm": "sklearn.ensemble.VotingClassifier", "parameters": {"members": MEMBERS}}
    case = lab.model_copy(update={"gate": gate, "training": lab.training.model_copy(update=recipe)})
    monkeypatch.setattr(stages, "use_case", lambda _: case)
    return case


def test_an_ensemble_goes_from_the_shell_through_the_gate_into_a_release_that_names_its_members(
    voting: UseCase,
) -> None:
    # When it is trained in a shell, twice.
    for _ in range(2):
        done = CliRunner().invoke(app, ["train", voting.name, "--why", "do two heads do better?"])
        assert done.exit_code == 0, done.output

    # Then there is one attempt, as a DAG's run would leave it, with the verdict and what it used.
    (attempt,) = attempts.attempts(voting.name)
    record = run_record(attempt.run)
    assert (attempt.kind, record["verdict"]["decision"], record["parameters"]["algorithm"][-16:]) == (
        "train", "pass", "VotingClassifier",
    )  # fmt: skip
    assert [step["task"] for step in record["steps"]] == ["train", "train"]
    (line,) = tried(voting)
    assert "do two heads do better?" in line.why

    # And one release, whose card names members, weights and versions, and which answers as the ensemble does.
    (release,) = promotions.releases(voting.name)
    about = registry.load_card(release.digest)
    assert f"scikit-learn=={sklearn_version}" in about["lineage"]["requirements"]
    steps = " ".join(about["model_steps"])
    for words in ("forest", "linear", "RandomForestClassifier", "LogisticRegression", "weight 3"):
        assert words in steps, steps
    verdict = promotions.get_verdict(release.verdict_id)
    assert verdict is not None
    assert verdict.model_digest == release.model_digest
    folder = record["artefacts"]["model"]
    estimator = model_files.load_estimator(folder, release.model_digest)
    model = registry.load(release.digest)
    holdout = part(read_training_set(TrainingSetRef.model_validate(record["training_set"])), "holdout")
    expected = estimator.predict_proba(model.encoder.transform(holdout))[:, 1]
    np.testing.assert_allclose(model.predict_table(holdout), expected, rtol=0, atol=1e-6)
