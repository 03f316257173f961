"""The command line: quick help, clear errors, no traces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "pandas",
    "sklearn",
    "mlflow",
    "feast",
    "great_expectations",
    "evidently",
    "duckdb",
    "deltalake",
    "ibis",
    "sqlalchemy",
    "pyarrow",
    "airflow",
)


def airworthy(var: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {n: v for n, v in os.environ.items() if not n.startswith(("AIRWORTHY_", "AIRFLOW"))}
    env |= {"AIRWORTHY_VAR": str(var), "COLUMNS": "200", **environment}
    return subprocess.run(
        [sys.executable, "-m", "airworthy.cli", *arguments],
        env=env,
        cwd=var.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_the_commands_without_heavy_imports(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom airworthy.cli import app\n"
        f"print(CliRunner().invoke(app, ['--help']).output)\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
    )

    assert done.stdout.splitlines()[-1] == "[]"
    for command in (
        "up",
        "down",
        "status",
        "doctor",
        "logs",
        "migrate",
        "demo",
        "schema",
        "champion",
        "promotions",
        "rollback",
        "quarantine",
        "profile",
        "train",
        "features",
        "skew",
    ):
        assert f" {command} " in done.stdout


def test_an_error_says_what_and_what_next_without_a_trace(tmp_path: Path) -> None:
    done = airworthy(tmp_path / "var", "champion", "nope")

    assert done.returncode == 1
    assert done.stderr.startswith("Error: there is no use case 'nope'\nNext: choose one of ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_trace(tmp_path: Path) -> None:
    done = airworthy(tmp_path / "var", "--debug", "champion", "nope")

    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    done = airworthy(tmp_path / "var", "check-config", AIRWORTHY_CLOCK="sundial")

    assert done.returncode == 1
    assert "clock" in done.stderr
    assert "Next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_platform_that_is_down_is_said_so(tmp_path: Path) -> None:
    done = airworthy(tmp_path / "var", "champion", "flight_delays")

    assert done.returncode == 1
    assert done.stderr.startswith("Error: the database does not answer")
    assert "airworthy up" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_of_a_platform_that_is_down(tmp_path: Path) -> None:
    done = airworthy(tmp_path / "var", "status", "--json")

    assert done.returncode == 1
    programs = {p["name"]: p for p in json.loads(done.stdout)}
    assert set(programs) == {
        "postgres",
        "mlflow",
        "service",
        "reports",
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
    }
    assert {p["state"] for p in programs.values()} == {"STOPPED"}
    assert not (tmp_path / "var").exists()


def test_down_when_nothing_runs(tmp_path: Path) -> None:
    done = airworthy(tmp_path / "var", "down")

    assert (done.returncode, done.stdout) == (0, "down\n")


def test_the_schema_of_use_case_yaml(tmp_path: Path) -> None:
    done = airworthy(tmp_path / "var", "schema")

    schema = json.loads(done.stdout)
    assert {"name", "problem", "data", "sources", "prediction", "training"} <= set(schema["required"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("arguments", [("logs", "nope"), ("migrate", "--only", "nope")])
def test_unknown_names_are_refused_with_the_choices(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = airworthy(tmp_path / "var", *arguments)

    assert done.returncode == 1
    assert "'nope'" in done.stderr
    assert "choose" in done.stderr


def test_the_embedded_platform_wants_its_own_database(tmp_path: Path) -> None:
    done = airworthy(tmp_path / "var", "up", AIRWORTHY_LEDGER_DSN="postgresql+psycopg://u@db.example.com/ledger")

    assert done.returncode == 1
    assert "AIRWORTHY_LEDGER_DSN" in done.stderr
    assert not (tmp_path / "var" / "pg").exists()
