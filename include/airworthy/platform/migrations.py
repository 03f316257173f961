"""Every schema of the platform, brought to this version: databases, ledger, MLflow, Airflow, tables, feature store.

A bucket that the lake, the landing zone, releases or reports are to be kept in is made here too, when it is missing.

``airworthy migrate`` runs all of it. In production it is a one-shot job, whole or in parts: MLflow's and Airflow's
databases are then those of their own variables (``MLFLOW_BACKEND_STORE_URI``, ``AIRFLOW__DATABASE__SQL_ALCHEMY_CONN``).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from airworthy.config import Settings, get_settings
from airworthy.errors import ConfigurationError, ServiceUnavailableError
from airworthy.platform import credentials, environment, forgotten_journal, postgres
from airworthy.platform.layout import Layout
from airworthy.platform.programs import full_env

Say = Callable[[str], None]
DATABASES = ["airflow", "mlflow", "feast", "ledger", "online"]
# The order in which parts need each other; those of one line run at the same time.
STAGES = (("databases",), ("mlflow", "airflow", "tables"))
PARTS = ("databases", "mlflow", "airflow", "tables")


def run(parts: Iterable[str] = (), say: Say = lambda _: None) -> dict[str, float]:
    """Run migrations: all, or the named parts. Safe to run again, and by several at once.

    Args:
        parts: Of ``databases``, ``mlflow``, ``airflow`` and ``tables`` (the ledger, the lake, Feast's registry).
        say: Told what happens.

    Returns:
        Seconds of each part that ran.

    Raises:
        ConfigurationError: there is no such part.
        ServiceUnavailableError: a migration failed; its last words are in the message.
    """
    chosen = set(parts) or set(PARTS)
    if unknown := chosen - set(PARTS):
        raise ConfigurationError(
            f"there is no migration {sorted(unknown)[0]!r}", next_step=f"choose from {', '.join(PARTS)}"
        )
    seconds: dict[str, float] = {}

    def timed(part: str) -> None:
        start = time.monotonic()
        _RUN[part]()
        seconds[part] = round(time.monotonic() - start, 1)
        say(f"migrated {part} ({seconds[part]} s)")

    for stage in STAGES:
        with ThreadPoolExecutor(max_workers=len(stage)) as pool:
            list(pool.map(timed, [p for p in stage if p in chosen]))
    return seconds


def run_apart(part: str) -> dict[str, float]:
    """One migration in a process of its own: what it imports does not stay in this one.

    Raises:
        ServiceUnavailableError: it failed; its last words are in the message.
    """
    start = time.monotonic()
    if part in ("mlflow", "airflow"):  # these start a process themselves
        return run([part])
    env = full_env(get_settings(), environment.service_env)
    _command(part, [sys.executable, "-m", "airworthy.platform.migrations", part], env, get_settings())
    return {part: round(time.monotonic() - start, 1)}


def databases() -> None:
    """Create the databases of the embedded server; on anybody else's server that is its owner's business."""
    settings = get_settings()
    if postgres.is_embedded(settings):
        for name in postgres.create_databases(settings.socket_dir, DATABASES):
            _note(settings, name).unlink(missing_ok=True)


def tables() -> None:
    """The ledger, buckets, the tables of every use case (empty), and the feature definitions in Feast's registry.

    A forgetting that was interrupted, or that a restore undid, is done again.
    """
    from airworthy import features
    from airworthy.config import use_cases
    from airworthy.lake.tables import create
    from airworthy.ledger.database import migrate
    from airworthy.platform.every_table import table_schemas
    from airworthy.training import studies

    migrate()
    studies.migrate()
    buckets(get_settings())
    for use_case in use_cases().values():
        for table, schema in table_schemas(use_case).items():
            create(table, schema)
        features.apply(use_case)
        forgotten_journal.finish(use_case)


def buckets(settings: Settings) -> list[str]:
    """Make the buckets of an object store that are missing; returns their URLs. Local folders make themselves.

    Raises:
        ServiceUnavailableError: the store does not answer, or these credentials may not look or make one.
    """
    import fsspec

    made = []
    urls = (settings.lake_url, settings.landing_url, settings.release_url, settings.docs_url)
    for root in sorted({"/".join(url.split("/")[:3]) for url in urls if "://" in url and not url.startswith("file:")}):
        try:
            store, bucket = fsspec.core.url_to_fs(root)
            if not store.exists(bucket):
                store.mkdir(bucket)
                made.append(root)
        except FileExistsError:  # somebody else was quicker
            continue
        except Exception as error:  # each kind of store has errors of its own
            raise ServiceUnavailableError(
                f"{root} cannot be made or looked at: {type(error).__name__}: {error}",
                next_step="see that the store answers and the credentials are right, or have its owner make the bucket",
            ) from error
    return made


def mlflow() -> None:
    """MLflow's database, by MLflow's own command in a process of its own."""
    settings = get_settings()
    env = full_env(settings, environment.mlflow_env)
    if not postgres.is_embedded(settings):
        env["MLFLOW_BACKEND_STORE_URI"] = _given("MLFLOW_BACKEND_STORE_URI")
    _once("mlflow", settings, [sys.executable, "-m", "mlflow", "db", "upgrade", env["MLFLOW_BACKEND_STORE_URI"]], env)


def airflow() -> None:
    """Airflow's database, by Airflow's own command in a process of its own."""
    settings = get_settings()
    if postgres.is_embedded(settings):
        credentials.ensure(settings)
        env = full_env(settings, environment.airflow_env) | credentials.airflow_secrets(settings)
    else:
        _given("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
        env = {**os.environ}
    _once("airflow", settings, [sys.executable, "-m", "airflow", "db", "migrate"], env)


def _given(name: str) -> str:
    if not os.environ.get(name):
        raise ConfigurationError(
            f"{name} is not set", next_step="give the database's SQLAlchemy URL, as the service itself gets it"
        )
    return os.environ[name]


def _note(settings: Settings, part: str) -> Path:
    return Layout(settings).run / f"migrated-{part}"


def _once(part: str, settings: Settings, command: list[str], env: dict[str, str]) -> None:
    """Run a migration unless it was done for this version on this database cluster (starting Python costs seconds)."""
    note = _note(settings, part)
    done = ""
    if postgres.is_embedded(settings):
        package = {"airflow": "apache-airflow", "mlflow": "mlflow"}[part]
        identity = [postgres.system_identifier(settings.socket_dir), version(package), settings.ledger_dsn]
        done = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        if note.exists() and note.read_text() == done:
            return
    _command(part, command, env, settings)
    if done:
        note.write_text(done)


def _command(part: str, command: list[str], env: dict[str, str], settings: Settings) -> None:
    folder = Layout(settings).run
    folder.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        words = (result.stderr.strip() or result.stdout.strip())[-1500:]
        raise ServiceUnavailableError(
            f"the migration of {part} failed:\n{words}", next_step="correct what it says and run `airworthy migrate`"
        )


_RUN: dict[str, Callable[[], None]] = {"databases": databases, "mlflow": mlflow, "airflow": airflow, "tables": tables}

if __name__ == "__main__":
    run(sys.argv[1:])
