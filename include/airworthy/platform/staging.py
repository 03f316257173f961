"""Staging of a revision of the pipeline: its environment, its folders, its databases, and nothing of it left afterwards."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from airworthy.config import Settings, get_settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.errors import AirworthyError
from airworthy.platform import pg_tools, postgres, processes
from airworthy.platform.environment import common_env, inherited, paths
from airworthy.platform.staging_run import Staged

Say = Callable[[str], None]
DATABASES = ("ledger", "feast", "online")
PREFIX = "staging_"
TIMEOUT_S = 3600.0
LAST_WORDS = 1500
# Of the code that tries, not of the revision that is tried. It imports Airflow, which nothing in this package does.
PARSE = PROJECT_ROOT / "airflow" / "parse_dags.py"


class StagingFailedError(AirworthyError):
    """Raised when a revision of the pipeline does not get its sample from landed files to an answered prediction."""


def stage(python: Path, root: Path, *, say: Say = lambda _: None) -> Staged:
    """Play the use cases' samples with a revision's code, apart from everything that is in production.

    Args:
        python: The interpreter that has the revision's package and its locked libraries.
        root: The revision's folder: DAGs, suites, lock.
        say: Told what happens.

    Raises:
        StagingFailedError: a step failed; the end of its log is in the message.
        ServiceUnavailableError: PostgreSQL does not answer.
    """
    with _place() as (folder, environment):
        found = os.pathsep.join(filter(None, [str(root / "airflow"), paths(os.environ, root)]))
        environment |= {"AIRWORTHY_PROJECT_ROOT": str(root), "PYTHONPATH": found}
        say(f"staging in {folder}")
        _run([str(python), str(PARSE), str(root)], environment | _airflow(folder, root), folder)
        say("every DAG file can be imported")
        result = folder / "staged.json"
        _run([str(python), "-m", "airworthy.platform.staging_run", str(result)], environment, folder)
        return Staged.model_validate_json(result.read_bytes())


def _run(command: list[str], environment: dict[str, str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(f"it was not done after {TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise _failed(f"it ended with status {done.returncode}:\n{done.stderr.strip()[-LAST_WORDS:]}")


def _airflow(folder: Path, root: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(folder / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"), "AIRFLOW__CORE__PLUGINS_FOLDER": str(root / "plugins"),
    }  # fmt: skip


def _failed(words: str) -> StagingFailedError:
    return StagingFailedError(
        f"the staging run failed: {words}", next_step="mend the revision; `make metrics` in its checkout does the same"
    )


@contextmanager
def _place() -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder, three databases on the server of the ledger, and the variables that point there; gone afterwards."""
    settings = get_settings()
    name = f"{PREFIX}{secrets.token_hex(5)}"
    folder = settings.var / "pipeline" / "staging" / name
    dsns = {part: pg_tools.sibling(settings.ledger_dsn, f"{name}_{part}") for part in DATABASES}
    try:
        folder.mkdir(parents=True)
        for dsn in dsns.values():
            pg_tools.create_database(dsn)
        yield folder, variables(settings, folder, dsns)
    finally:
        for dsn in dsns.values():
            pg_tools.drop_database(dsn)
        shutil.rmtree(folder, ignore_errors=True)


def variables(settings: Settings, folder: Path, dsns: dict[str, str]) -> dict[str, str]:
    """The environment of a staging run: nothing in it names a folder, a database or a service of production."""
    place = pg_tools.parameters(dsns["online"])
    kept = {
        name: value
        for name, value in inherited(os.environ).items()
        if not name.startswith(("AIRWORTHY_", "MLFLOW_", "FEAST_"))
    }
    own = common_env() | {
        "AIRWORTHY_ENV": "staging", "AIRWORTHY_VAR": str(folder), "AIRWORTHY_CLOCK": settings.clock,
        "AIRWORTHY_USE_CASES": settings.use_cases, "AIRWORTHY_LEDGER_DSN": dsns["ledger"],
        "AIRWORTHY_FEAST_REGISTRY_DSN": dsns["feast"], "AIRWORTHY_ONLINE_HOST": place["host"],
        "AIRWORTHY_ONLINE_PORT": place.get("port", "5432"), "AIRWORTHY_ONLINE_DATABASE": place["dbname"],
        "AIRWORTHY_ONLINE_USER": place["user"], "AIRWORTHY_ONLINE_PASSWORD": place.get("password", ""),
        # MLflow's own store in a file: a server for a training of minutes would take as long to start.
        "AIRWORTHY_MLFLOW_URL": f"sqlite:///{folder}/mlflow.db", "AIRWORTHY_WHO": "staging",
        "AIRWORTHY_DELIVERY_LOAD_REQUESTS": str(settings.delivery_load_requests),
    }  # fmt: skip
    # Found again by the platform when this process was killed in the middle of it.
    return kept | own | processes.marks(settings)


def measure(file: Path, *, say: Say = lambda _: None) -> Staged:
    """``make metrics``: the staging run of this checkout on a PostgreSQL of its own; its result as JSON in a file."""
    with tempfile.TemporaryDirectory(prefix="airworthy-metrics-") as scratch:
        os.environ["AIRWORTHY_VAR"] = scratch
        for name in [n for n in os.environ if n.startswith("AIRWORTHY_") and n.endswith("_DSN")]:
            del os.environ[name]
        get_settings.cache_clear()
        postgres.start(get_settings())
        try:
            get_settings.cache_clear()
            found = stage(Path(sys.executable), PROJECT_ROOT, say=say)
        finally:
            postgres.stop(get_settings())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(found.model_dump_json(indent=1))
    return found
