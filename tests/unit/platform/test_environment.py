"""The environment of the services: what must be in it, and what must never get into it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import yaml

from airworthy.config import Settings
from airworthy.platform import environment, programs


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "var", airflow_url="http://127.0.0.1:9080", service_url="http://127.0.0.1:9500")


def known_options() -> set[str]:
    """Every variable that Airflow itself knows, from its own description of its configuration."""
    spec = importlib.util.find_spec("airflow")
    assert spec is not None
    assert spec.origin is not None
    sections = yaml.safe_load((Path(spec.origin).parent / "config_templates" / "config.yml").read_text())
    return {f"AIRFLOW__{s.upper()}__{o.upper()}" for s, content in sections.items() for o in content["options"]}


def test_airflow_knows_every_variable(settings: Settings) -> None:
    ours = {name for name in environment.airflow_env(settings) if name.startswith("AIRFLOW__")}

    assert ours - known_options() == set()
    assert set(environment.TUNABLE) <= known_options()


@pytest.mark.parametrize("cores", [1, 2, 6, 64])
def test_the_pool_has_no_more_slots_than_there_are_workers(
    settings: Settings, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)

    env = environment.airflow_env(settings)

    slots, workers = (int(env[f"AIRFLOW__CORE__{n}"]) for n in ("DEFAULT_POOL_TASK_SLOT_COUNT", "PARALLELISM"))
    assert 0 < slots <= workers <= environment.MAX_PARALLELISM


def test_everything_listens_on_this_machine_only(settings: Settings) -> None:
    assert environment.airflow_env(settings)["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environment.service_env(settings)["AIRWORTHY_SERVICE_HOST"] == "127.0.0.1"
    mlflow = programs.PROGRAMS["mlflow"].command(settings)
    assert mlflow[mlflow.index("--host") + 1] == "127.0.0.1"
    # The log servers of Airflow listen everywhere, whatever [api] host says: they are not started.
    assert "--skip-serve-logs" in programs.PROGRAMS["scheduler"].command(settings)
    assert "--skip-serve-logs" in programs.PROGRAMS["triggerer"].command(settings)


def test_ports_follow_the_addresses(settings: Settings) -> None:
    env = environment.airflow_env(settings)

    assert env["AIRFLOW__API__PORT"] == "9080"
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:9080/execution/"
    assert env["AIRWORTHY_SERVICE_PORT"] == "9500"


def test_secrets_are_not_part_of_the_plain_configuration(settings: Settings) -> None:
    assert not [n for n in environment.airflow_env(settings) if "SECRET" in n or "FERNET" in n]


def test_a_shell_cannot_harm_the_services(settings: Settings) -> None:
    shell = {
        "PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHOME": "/elsewhere", "AIRFLOW_HOME": "/another",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production/airflow", "AIRFLOW_CONN_MAIL": "smtp://x",
        "AIRWORTHY_SERVING_STAGE": "abc", "PYTHONPATH": "/mine",
    }  # fmt: skip

    env = programs.full_env(settings, environment.airflow_env, shell)

    assert not {"PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "AIRWORTHY_SERVING_STAGE"} & set(env)
    assert env["AIRFLOW_HOME"] == str(settings.var / "airflow")
    assert str(settings.socket_dir) in env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert env["AIRFLOW_CONN_MAIL"] == "smtp://x"
    assert env["PYTHONPATH"].endswith(":/mine")
    assert env["PYTHONPATH"].split(":")[0].endswith("airflow")
    assert env["PYTHONSAFEPATH"] == "1"


def test_an_operator_may_tune_the_workers(settings: Settings) -> None:
    shell = {"AIRFLOW__CORE__PARALLELISM": "12", "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"}

    env = programs.full_env(settings, environment.airflow_env, shell)

    assert env["AIRFLOW__CORE__PARALLELISM"] == "12"
    assert env["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert "AIRFLOW__CORE__PARALLELISM" not in programs.full_env(settings, environment.mlflow_env, shell)


def test_one_thread_for_numeric_libraries_and_no_telemetry(settings: Settings) -> None:
    for env in (environment.service_env(settings), environment.airflow_env(settings), environment.mlflow_env(settings)):
        assert env["OMP_NUM_THREADS"] == env["OPENBLAS_NUM_THREADS"] == "1"
        assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"
        assert env["GX_ANALYTICS_ENABLED"] == "False"
        assert env["DO_NOT_TRACK"] == "1"
    assert environment.mlflow_env(settings)["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_what_feast_names_in_a_task_reaches_no_process_that_outlives_it() -> None:
    names = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")
    assert environment.inherited(dict.fromkeys(names, "/tmp/feast_metrics_x") | {"LANG": "C"}) == {"LANG": "C"}
