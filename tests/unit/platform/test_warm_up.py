"""What is imported before tasks fork: in the right processes only, and libraries only."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "airflow"
OURS = {"airworthy", "use_cases"}
# Where the tasks of a training begin; what MLflow's first request and a search's first trial import is asked for by name.
STAGES = ("airworthy.evaluation", "airworthy.training.search", "airworthy.registry", "airworthy.features.online_store")
AT_FIRST_USE = {"IPython", "fairlearn", "mlflow.tracking.request_header.registry", "optuna.storages._rdb.models"}


def imported(*arguments: str, then: tuple[str, ...] = ()) -> list[set[str]]:
    """Modules after Airflow's local settings were imported by a process with these arguments, and those that come ``then``."""
    code = (
        f"import importlib, sys, json\nsys.path.insert(0, {str(FOLDER)!r})\nsys.argv = ['airflow', *{arguments!r}]\n"
        "import airflow_local_settings\nwarm = set(sys.modules)\n"
        f"for name in {then!r}: importlib.import_module(name)\n"
        "print(json.dumps([sorted(warm), sorted(set(sys.modules) - warm)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return [set(names) for names in json.loads(done.stdout.splitlines()[-1])]


def tops(modules: set[str]) -> set[str]:
    """Their top-level packages."""
    return {name.partition(".")[0] for name in modules}


def test_where_tasks_fork_libraries_are_there_and_our_code_is_not() -> None:
    warm, left = imported("scheduler", "--skip-serve-logs", then=STAGES)

    data = {"pandas", "pyarrow", "duckdb", "deltalake", "ibis"}
    assert data | {"sklearn", "mlflow", "great_expectations", "evidently", "feast", "treelite", "skops"} <= tops(warm)
    assert warm >= AT_FIRST_USE
    assert not OURS & tops(warm)
    # Each task imports our own code; of the libraries, of which a training uses some thousand modules, only crumbs.
    assert len([name for name in left if name.partition(".")[0] not in OURS]) < 10, left


def test_a_celery_worker_forks_tasks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    settings = importlib.import_module("airflow_local_settings")

    assert settings._forks_tasks(["airflow", "celery", "worker", "--concurrency", "2"])
    assert not settings._forks_tasks(["airflow", "celery", "flower"])


@pytest.mark.parametrize("arguments", [("api-server",), ("dag-processor",), ("triggerer",), ("db", "migrate"), ()])
def test_other_processes_pay_nothing(arguments: tuple[str, ...]) -> None:
    warm, _ = imported(*arguments)

    assert not {"pandas", "mlflow", "feast", "evidently", "great_expectations"} & tops(warm)
