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


def imported(*arguments: str) -> set[str]:
    """Top-level modules after Airflow's local settings were imported by a process with these arguments."""
    code = (
        f"import sys, json\nsys.path.insert(0, {str(FOLDER)!r})\nsys.argv = ['airflow', *{arguments!r}]\n"
        "import airflow_local_settings\nprint(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_where_tasks_fork_libraries_are_there_and_our_code_is_not() -> None:
    modules = imported("scheduler", "--skip-serve-logs")

    data = {"pandas", "pyarrow", "duckdb", "deltalake", "ibis"}
    assert data | {"sklearn", "mlflow", "great_expectations", "evidently", "feast", "treelite", "skops"} <= modules
    assert not {"airworthy", "use_cases"} & modules


def test_a_celery_worker_forks_tasks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    settings = importlib.import_module("airflow_local_settings")

    assert settings._forks_tasks(["airflow", "celery", "worker", "--concurrency", "2"])
    assert not settings._forks_tasks(["airflow", "celery", "flower"])


@pytest.mark.parametrize("arguments", [("api-server",), ("dag-processor",), ("triggerer",), ("db", "migrate"), ()])
def test_other_processes_pay_nothing(arguments: tuple[str, ...]) -> None:
    assert not {"pandas", "mlflow", "feast", "evidently", "great_expectations"} & imported(*arguments)
