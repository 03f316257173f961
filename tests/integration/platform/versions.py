"""A version that was really trained on the tables of two weeks, by code that is committed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from airworthy.config import UseCase, get_settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.evaluation.metrics import measure
from airworthy.ledger import promotions
from airworthy.records import Release
from airworthy.registry import register
from airworthy.registry.registration import registered_model
from airworthy.training import build_training_set, fit, model_files, tracking
from airworthy.training.training_set import LABEL, part, read_training_set

from ..registry.test_registration import passing  # noqa: TID252 - one way to make a verdict
from ..training.conftest import shop as two_weeks  # noqa: TID252 - the same two weeks

__all__ = ["git", "repository", "two_weeks", "version"]


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present code, committed: a developer's tree may hold changes, and a release has no history at all."""
    root = tmp_path / "repository"
    shutil.copytree(PROJECT_ROOT / "include", root / "include", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(PROJECT_ROOT / name, root / name)
    # The use case of the fixture, whose two weeks need another holdout, as the revision has it.
    own = root / "include" / "tiny_orders"
    shutil.copytree(PROJECT_ROOT / "tests" / "use_cases" / "tiny_orders", own)
    text_ = (own / "use_case.yaml").read_text()
    for name, days in (("holdout_days", 4), ("min_train_days", 5)):
        text_ = re.sub(rf"{name}: \d+", f"{name}: {days}", text_)
    (own / "use_case.yaml").write_text(text_)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "the code of the training")
    monkeypatch.setattr(tracking, "REPOSITORY", root)
    return root


@pytest.fixture
def version(
    two_weeks: UseCase, repository: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[UseCase, Release]:
    """The first version, trained on the tables of two weeks and judged by its real figures."""
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", mlflow_server)
    get_settings.cache_clear()
    case = two_weeks
    # The server is the session's: other tests may have registered versions under this name.
    mlflow = MlflowClient(mlflow_server)
    mlflow.delete_registered_model(registered_model(mlflow, case))
    candidate = fit(case, build_training_set(case, run="train__1"), run="train__1")
    holdout = part(read_training_set(candidate.training_set), "holdout")
    answers = model_files.load(candidate.folder, candidate.model_digest).predict_table(holdout)
    labels = np.asarray(holdout[LABEL].to_numpy(zero_copy_only=False), dtype=bool)
    problem = case.problem
    figures = measure(labels, answers, cost_false_alarm=problem.cost_false_alarm, cost_miss=problem.cost_miss)
    verdict = passing(case, candidate, metrics={n: v for n, v in figures.items() if v is not None})
    promotions.record_verdict(verdict, {"7": {"cause": "drift", "evidence": {"share": 0.6}, "requested_by": "monitor"}})
    return case, register(case, candidate, verdict)
