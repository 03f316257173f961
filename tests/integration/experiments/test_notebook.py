"""The notebook of level 0 is executed, cell by cell, by a real kernel on the shop's data."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from airworthy.config import UseCase, get_settings
from airworthy.ledger import attempts, promotions
from airworthy.training import tracking

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "experiment.ipynb"
SHOP = Path(__file__).parents[2] / "use_cases"


def test_the_notebook_runs_and_does_what_the_form_does(
    lab: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The two weeks of the shop are too few for its own specification.
    package = tmp_path / "small_shop"
    package.mkdir()
    for file in ("__init__.py", "source.py", "features.py", "world.py"):
        (package / file).write_text((SHOP / "tiny_orders" / file).read_text())
    text = (SHOP / "tiny_orders" / "use_case.yaml").read_text()
    for name, days in (("holdout_days", 4), ("min_train_days", 5)):
        text = text.replace(f"{name}: 14", f"{name}: {days}")
    (package / "use_case.yaml").write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(SHOP)]))
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "small_shop")
    monkeypatch.setenv("AIRWORTHY_NOTEBOOK_USE_CASE", "tiny_orders")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    printed = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    (attempt,) = attempts.attempts("tiny_orders")
    (verdict,) = promotions.verdicts("tiny_orders")
    assert attempt.run.startswith("notebook/")
    assert attempt.record["verdict"]["id"] == verdict.id
    assert len(attempt.record["features"]) == 3
    assert "about" in printed
    assert verdict.record["summary"] in printed
    assert f"{get_settings().reports_url}/experiments/tiny_orders/{verdict.id}.html" in printed
    run = attempt.record["artefacts"]["mlflow_run"]
    assert {"plots", "run.json"} <= {f.path for f in tracking.client().list_artifacts(run)}
    assert all(not cell.get("outputs") for cell in nbformat.read(NOTEBOOK, as_version=4).cells), "kept without outputs"
