"""The programs of the embedded platform: what each runs, with which environment, where it answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airworthy.config import Settings
from airworthy.errors import ConfigurationError
from airworthy.platform import credentials, environment
from airworthy.platform.layout import port_of
from airworthy.platform.processes import marks

Environment = Callable[[Settings], dict[str, str]]


@dataclass(frozen=True)
class Program:
    """One supervised program.

    Attributes:
        name: As in ``airworthy logs NAME``.
        title: For people.
        command: Arguments of the program.
        env: Its environment, from the settings.
        url: Where it answers over HTTP; None when it does not.
        variable: The variable that moves it to another port.
        stage: Stopped in descending order of stage, all of one stage at once; PostgreSQL is 0, the last.
        stop_s: Seconds that it gets to stop by itself.
    """

    name: str
    title: str
    command: Callable[[Settings], list[str]]
    env: Environment
    url: Callable[[Settings], str] | None = None
    variable: str = ""
    stage: int = 1
    stop_s: int = 20


def _module(*arguments: str) -> Callable[[Settings], list[str]]:
    return lambda _: [sys.executable, "-m", *arguments]


def _mlflow(settings: Settings) -> list[str]:
    return [
        sys.executable, "-m", "mlflow", "server",
        "--host", "127.0.0.1", "--port", str(port_of(settings.mlflow_url)), "--workers", "1",
    ]  # fmt: skip


def _airflow_env(settings: Settings) -> dict[str, str]:
    return environment.airflow_env(settings) | credentials.airflow_secrets(settings)


PROGRAMS = {
    program.name: program
    for program in (
        Program(
            "postgres", "PostgreSQL", _module("airworthy.platform.postgres"), environment.service_env,
            stage=0, stop_s=60,
        ),
        Program(
            "mlflow", "MLflow", _mlflow, environment.mlflow_env,
            url=lambda s: s.mlflow_url, variable="AIRWORTHY_MLFLOW_URL",
        ),
        Program(
            "service", "Prediction service", _module("airworthy.serving"), environment.service_env,
            url=lambda s: s.service_url, variable="AIRWORTHY_SERVICE_URL",
        ),
        Program(
            "reports", "Reports", _module("airworthy.platform.reports"), environment.service_env,
            url=lambda s: s.reports_url, variable="AIRWORTHY_REPORTS_URL", stop_s=5,
        ),
        Program(
            "api-server", "Airflow API server", _module("airflow", "api-server"), _airflow_env,
            url=lambda s: s.airflow_url, variable="AIRWORTHY_AIRFLOW_URL",
        ),
        # Airflow's other parts go first: their last words need the API server.
        Program(
            "scheduler", "Airflow scheduler", _module("airflow", "scheduler", "--skip-serve-logs"), _airflow_env,
            stage=2, stop_s=25,
        ),
        Program("dag-processor", "Airflow DAG processor", _module("airflow", "dag-processor"), _airflow_env, stage=2),
        Program(
            "triggerer", "Airflow triggerer", _module("airflow", "triggerer", "--skip-serve-logs"), _airflow_env,
            stage=2,
        ),
    )
}  # fmt: skip
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")


def get(name: str) -> Program:
    """A program by name. Raises ConfigurationError, with the names there are."""
    if name not in PROGRAMS:
        raise ConfigurationError(f"there is no service {name!r}", next_step=f"choose one of {', '.join(PROGRAMS)}")
    return PROGRAMS[name]


def full_env(settings: Settings, env: Environment, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a process: the shell's, the service's, the operator's tuning."""
    shell = os.environ if environ is None else environ
    result = environment.inherited(shell) | env(settings)
    if own := shell.get("PYTHONPATH"):
        result["PYTHONPATH"] = os.pathsep.join(filter(None, [env(settings).get("PYTHONPATH"), own]))
    if "AIRFLOW_HOME" in result:
        result |= environment.tuned(shell)
    return result


def process_env(settings: Settings, program: Program, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a supervised program, with the marks by which its processes are found again."""
    return full_env(settings, program.env, environ) | marks(settings, program.name)
