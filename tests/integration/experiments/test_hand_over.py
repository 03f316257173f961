"""An honest experiment that is handed over becomes a challenger, and its event wakes ``.deliver``; otherwise nothing does.

The tasks of the real DAG, run by Airflow's task runner in one process, with Airflow's own database.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from airworthy import registry
from airworthy.config import UseCase
from airworthy.ledger import promotions
from airworthy.training.scorer import CalibratedScorer
from conftest import execute

ROOT = Path(__file__).resolve().parents[3]
CALIBRATED = {
    "algorithm": "sklearn.calibration.CalibratedClassifierCV",
    "parameters": {
        "estimator": {"algorithm": "sklearn.linear_model.LogisticRegression", "parameters": {"max_iter": 500}},
        "method": "sigmoid", "cv": 3,
    },
}  # fmt: skip
SMALL = {"min_holdout_rows": 100, "min_roc_auc": 0.55, "min_slice_rows": 2000, "max_calibration_error": 0.9}


@pytest.fixture
def specified(lab: UseCase, tmp_path: Path) -> Path:
    """A folder with the shop's specification, for two weeks of data; its model is calibrated."""
    folder = tmp_path / "use_cases"
    shutil.copytree(ROOT / "tests" / "use_cases" / lab.name, folder / lab.name)
    path = folder / lab.name / "use_case.yaml"
    content = yaml.safe_load(path.read_text())
    content["training"] |= {"holdout_days": 4, "min_train_days": 5, **CALIBRATED}
    content["gate"] |= {**SMALL, "min_gain_over_prior": 0.0}
    path.write_text(yaml.safe_dump(content))
    return folder


def played(postgres: Path, use_cases: Path, dag: str, *forms: dict[str, Any]) -> list[dict[str, Any]]:
    database = f"airflow_{secrets.token_hex(4)}"
    execute(postgres, f"CREATE DATABASE {database}")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(use_cases.parent / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://postgres@/{database}?host={postgres}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "plugins"), str(use_cases)]),
    }
    script = Path(__file__).with_name("airflow_runs.py")
    command = [sys.executable, str(script), str(ROOT / "dags"), dag, *map(json.dumps, forms)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    assert [run["state"] for run in found] == ["success"] * len(forms), done.stdout[-6000:]
    return found


def test_an_honest_candidate_is_handed_over_when_asked_to_and_only_then(
    lab: UseCase, specified: Path, postgres: Path
) -> None:
    # When the same experiment is run without and with the wish to hand it over.
    kept, handed = played(
        postgres, specified, f"{lab.name}.experiment", {"reason": "only a look"}, {"reason": "take it", "hand_to_gate": True}
    )  # fmt: skip

    # Then the gate passed it, and the first ended with its report: no release, no event.
    (row,) = promotions.verdicts(lab.name)  # the same candidate, so the same verdict
    assert row.decision == "pass", row.record["summary"]
    assert (kept["state"], kept["tasks"]["report"], kept["tasks"]["register"]) == ("success", "success", "skipped")
    assert (kept["events"], kept["woken"]) == ([], [])
    # The second is a challenger, and its event is queued for the delivery.
    assert (handed["state"], handed["tasks"]["register"]) == ("success", "success")
    assert handed["events"] == [f"{lab.name}/challenger"]
    assert handed["woken"] == [f"{lab.name}.deliver"]
    (release,) = promotions.releases(lab.name)
    assert (release.state, release.verdict_id) == ("challenger", row.id)
    # It serves as any other: the compiled form of its folds' models and curves answers as the golden vectors say.
    model = registry.load(release.digest)
    assert isinstance(model.scorer, CalibratedScorer)
    assert len(model.scorer.members) == 3
    steps = " ".join(registry.load_card(release.digest)["model_steps"])
    assert "calibrated" in steps
