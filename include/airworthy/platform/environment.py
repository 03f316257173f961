"""The environment of each service, as pure functions of the settings: docker-compose.yaml mirrors them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from airworthy.config import Settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.platform.credentials import USERS
from airworthy.platform.layout import Layout, port_of

# An operator may tune these; every other AIRFLOW__* variable of the shell is left out, since one that was meant for
# another Airflow would send migrations to its database.
TUNABLE = (
    "AIRFLOW__CORE__PARALLELISM",
    "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT",
    "AIRFLOW__LOGGING__LOGGING_LEVEL",
)
# Says to the platform's own commands that they are steps of a switch (``airworthy.platform.switching``).
SWITCH = "AIRWORTHY_SWITCH"
# Airflow's LocalExecutor can stall on unread results beyond this.
MAX_PARALLELISM = 64


def common_env() -> dict[str, str]:
    """What every process of the platform gets: one thread for each numeric library, no telemetry."""
    return {
        # Many small computations in several processes are slower with a pool of threads each.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        # A stray file in the working folder must never be imported in place of a library.
        "PYTHONSAFEPATH": "1",
        # Process titles would overwrite the memory that tells which platform a process belongs to.
        "SPT_NOENV": "1",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "False",
        "FEAST_USAGE": "False",
        "SCARF_ANALYTICS": "false",
        # MLflow looks for git at import; a machine without it would log a page of warnings.
        "GIT_PYTHON_REFRESH": "quiet",
    }


def database_url(settings: Settings, database: str, driver: str) -> str:
    """SQLAlchemy URL of a database on the embedded PostgreSQL."""
    return f"postgresql+{driver}://postgres@/{database}?host={settings.socket_dir}"


def service_env(settings: Settings) -> dict[str, str]:
    """What our own code needs, in the prediction service and in Airflow's tasks."""
    return common_env() | {
        "AIRWORTHY_PROJECT_ROOT": str(PROJECT_ROOT),
        "AIRWORTHY_ENV": settings.env,
        "AIRWORTHY_VAR": str(settings.var),
        "AIRWORTHY_USE_CASES": settings.use_cases,
        "AIRWORTHY_CLOCK": settings.clock,
        "AIRWORTHY_AIRFLOW_URL": settings.airflow_url,
        "AIRWORTHY_MLFLOW_URL": settings.mlflow_url,
        "AIRWORTHY_REPORTS_URL": settings.reports_url,
        "AIRWORTHY_SERVICE_URL": settings.service_url,
        "AIRWORTHY_SERVICE_HOST": settings.service_host,
        "AIRWORTHY_SERVICE_PORT": str(port_of(settings.service_url)),
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
    }


def mlflow_env(settings: Settings) -> dict[str, str]:
    """What the MLflow server needs."""
    return common_env() | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": database_url(settings, "mlflow", "psycopg2"),
        "MLFLOW_ARTIFACTS_DESTINATION": str(settings.var / "mlartifacts"),
    }


def default_parallelism() -> int:
    """Tasks at a time: one for each core, at least 4 and at most 8."""
    return min(8, max(4, os.cpu_count() or 4))


def airflow_env(settings: Settings) -> dict[str, str]:
    """Airflow's configuration, without its secrets (``credentials.airflow_secrets``)."""
    layout, url, parallelism = Layout(settings), settings.airflow_url.rstrip("/"), str(default_parallelism())
    port = port_of(url)
    return service_env(settings) | {
        "AIRFLOW_HOME": str(layout.airflow_home),
        # airflow_local_settings.py, which imports heavy libraries before tasks fork, is found here.
        "PYTHONPATH": str(PROJECT_ROOT / "airflow"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        # The pool never offers more slots than there are workers: neither of the executor's pipes can fill.
        "AIRFLOW__CORE__PARALLELISM": parallelism,
        "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": parallelism,
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "60",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__AUTH_MANAGER": "airworthy_auth.AirworthyAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(layout.passwords),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url(settings, "airflow", "psycopg2"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(layout.logs / "airflow"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(layout.logs / "airflow" / "dag_processor"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        # A line for every heartbeat of every task would hide what matters.
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "http.access=WARNING",
        # Nobody serves logs here (the API server reads the files itself); two platforms must not meet in them.
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port + 1),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port + 2),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(port + 3),
        # Most of the time between two tasks is this sleep (1 s by default).
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        # After a scheduler died: its tasks are taken up again half a minute later, not after five minutes.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
        # A finished task holds its worker for up to this long (5 s by default).
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # With that interval the default of 3 would end tasks while the API server is being restarted.
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "15",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    }


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """A shell's environment without what would harm a service.

    Left out: ``PYTHONDONTWRITEBYTECODE`` (every start would compile everything again), variables of another Airflow,
    variables of Python's start-up; and the folder of figures that Feast names when it is imported, as in every task: it goes
    with the process that made it.
    """
    harmful = {
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "AIRFLOW_HOME",
        "AIRFLOW_CONFIG",
        "AIRWORTHY_SERVING_STAGE",
        "PROMETHEUS_MULTIPROC_DIR",
        "PROMETHEUS_MULTIPROCESS_DIR",
        SWITCH,
    }
    return {n: v for n, v in environ.items() if n not in harmful and not n.startswith("AIRFLOW__")}


def paths(environ: Mapping[str, str], root: Path) -> str:
    """A shell's PYTHONPATH for the code of a root folder: of another one, without what leads into this code's own.

    It would be found before the other's, so that not the other one would run.
    """
    given = [p for p in environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    return os.pathsep.join(p for p in given if root == PROJECT_ROOT or not Path(p).is_relative_to(PROJECT_ROOT))


def tuned(environ: Mapping[str, str]) -> dict[str, str]:
    """The operator's own values of the ``TUNABLE`` variables."""
    return {name: environ[name] for name in TUNABLE if environ.get(name)}
