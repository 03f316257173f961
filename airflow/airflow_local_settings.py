"""Airflow reads this at the start of each of its processes. Here: import heavy libraries before tasks are forked.

A task is a fork of the scheduler (LocalExecutor) or of the Celery worker, so what is imported there costs a task
nothing: chains of tasks are several times faster. Only libraries, never ``airworthy`` or ``use_cases``: their code
would stay the old one until the scheduler is restarted. Only imports: Delta, DuckDB or gRPC that is *used* before the
fork breaks the children. Other processes (API server, DAG processor, command line) are not slowed down by it.
"""

from __future__ import annotations

import importlib
import logging
import sys

# Airflow copies the public names of this module into its settings: none.
__all__: list[str] = []

WARM = (
    "airflow.sdk.execution_time.task_runner",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "sklearn.ensemble",
    "mlflow.sklearn",
    "great_expectations",
    "evidently",
    "feast",
    "duckdb",
    "deltalake",
    "ibis",
    "treelite",
    "skops.io",
    "optuna",
    "scipy.stats.qmc",
    "psycopg_pool",
    # What the first ones leave for their first use, as the tasks of a training were seen to import it.
    "alembic.command",
    "fairlearn.metrics",
    "feast.infra.online_stores.postgres_online_store.postgres",
    "feast.infra.passthrough_provider",
    "ibis.backends.duckdb",
    "optuna.storages._rdb.models",
    "pyarrow.acero",
    "pydantic_settings",
    # MLflow's first request asks every plugin for headers, and one of them asks whether this is a notebook.
    "mlflow.tracking.request_header.registry",
    "IPython",
)


def _forks_tasks(arguments: list[str]) -> bool:
    return arguments[1:2] == ["scheduler"] or arguments[1:3] == ["celery", "worker"]


def _warm_up() -> None:
    for name in WARM:
        try:
            importlib.import_module(name)
        except Exception:
            # A library that is missing or broken is the business of the task that needs it, not of the scheduler.
            logging.getLogger(__name__).exception("%s cannot be imported before tasks are forked", name)


if _forks_tasks(sys.argv):
    _warm_up()
