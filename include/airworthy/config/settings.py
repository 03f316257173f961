"""Where things are and how to reach them: the environment, read once, frozen.

Every setting is an environment variable ``AIRWORTHY_<NAME>``. The defaults are the embedded platform under
``var/``; production gives URLs instead. No stage branches on which of the two it is.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from airworthy.errors import ConfigurationError

PROJECT_ROOT = Path(os.environ.get("AIRWORTHY_PROJECT_ROOT", Path(__file__).resolve().parents[3]))


class Settings(BaseSettings):
    """The platform's settings.

    Attributes:
        env: ``dev``, ``staging`` or ``prod``; prefix of MLflow experiments and registered models.
        var: Folder of everything that running makes.
        use_cases: Import paths of the use-case packages, comma-separated.
        overlay: Name of a YAML file beside each ``use_case.yaml`` whose keys replace those of it, where there is one:
            ``make demo`` plays with ``demo``.
        lake_url, landing_url, release_url, docs_url, backup_url: Folders or object-store URLs.
        ledger_dsn: SQLAlchemy URL of the platform's own database.
        feast_registry_dsn: SQLAlchemy URL of Feast's registry.
        online_host, online_port, online_database, online_user, online_password: Feast's online store.
        mlflow_url: Tracking server. ``mlflow_timeout``: seconds that a stage waits for it.
        service_url: Prediction service. ``service_instance``: name of this replica.
        mlflow_public_url, service_public_url: The same two as people's browsers reach them, for links; by default no
            other addresses.
        service_host, service_port: Where the service binds. ``service_workers``: processes that answer there.
        service_api_key: Needed in the header ``X-API-Key`` of each request when set.
        airflow_url: Airflow's UI and REST API.
        clock: ``wall``, or ``replay``: data time then comes from the ledger.
        spool: Folder of the prediction service's append-only log (local disk).
        forms: Folder of what Airflow's forms offer; workers write it and the DAG processor reads it.
        spool_sync_ms: How the log is synced to the disk, against the loss of power: 0, before the answers leave, once for all
            requests in flight; a longer time, in the background that often; -1, when the system likes.
        online_timeout: Seconds that the prediction service waits for the online store before what the views declare counts, and
            for the replay clock before the newest moment that it saw does.
        forget_key: Secret of the digests of forgotten keys; by default one that is made in ``var/secrets``.
        lease_seconds: After this long without a sign of life the ledger takes locks and transactions from a process.
        keep_days: Days after which replaced data (old table versions, Data Docs of earlier runs) may be removed.
        keep_releases: So many releases that served keep their files for a rollback, however old they are.
        keep_pipeline_releases: So many of the newest releases of the pipeline itself keep their files, beside those in use.
        pipeline_repository: Path or URL of the git repository that releases of the pipeline are built from; by default the
            checkout that runs. ``uv``: the program that builds them; by default the checkout's, or that of the PATH.
        drain_seconds: So long a switch of the pipeline's release waits for running tasks before it gives up.
        ready_seconds: So long a program of the embedded platform may take until it does its work; a busy machine needs more.
        who: Name written into the promotion log for actions of this process.
        cost_currency, cost_per_cpu_hour, cost_per_gb_hour, cost_per_gb_written: What a CPU-hour, a gigabyte (1e9 bytes)
            of memory for an hour and a gigabyte written cost. The defaults have the size of a cloud's list prices and
            are nobody's: give your own.
    """

    model_config = SettingsConfigDict(env_prefix="AIRWORTHY_", frozen=True, extra="ignore")

    env: Literal["dev", "staging", "prod"] = "dev"
    var: Path = PROJECT_ROOT / "var"
    use_cases: str = "use_cases.flight_delays"
    overlay: str = Field(default="", pattern="^[a-z_]*$")
    lake_url: str = ""
    landing_url: str = ""
    release_url: str = ""
    docs_url: str = ""
    backup_url: str = ""
    ledger_dsn: str = ""
    feast_registry_dsn: str = ""
    online_host: str = ""
    online_port: int = 5432
    online_database: str = "online"
    online_user: str = "postgres"
    online_password: SecretStr = SecretStr("")
    mlflow_url: str = "http://127.0.0.1:5500"
    mlflow_timeout: float = 30.0
    service_url: str = "http://127.0.0.1:8500"
    service_host: str = "127.0.0.1"
    service_port: int = 8500
    service_workers: int = Field(default=1, ge=1, le=64)
    service_instance: str = "local"
    service_api_key: SecretStr | None = None
    mlflow_public_url: str = ""
    service_public_url: str = ""
    airflow_url: str = "http://127.0.0.1:8580"
    reports_url: str = "http://127.0.0.1:8501"
    clock: Literal["wall", "replay"] = "replay"
    spool: Path = Path()
    forms: Path = Path()
    spool_sync_ms: int = Field(default=0, ge=-1, le=60_000)
    online_timeout: float = Field(default=2.0, gt=0, le=60)
    forget_key: SecretStr | None = None
    lease_seconds: int = Field(default=60, ge=1)
    keep_days: int = Field(default=30, ge=1)
    keep_releases: int = Field(default=10, ge=1)
    keep_pipeline_releases: int = Field(default=5, ge=1)
    pipeline_repository: str = ""
    uv: str = ""
    drain_seconds: int = Field(default=900, ge=1)
    ready_seconds: int = Field(default=240, ge=1)
    who: str = "airworthy"
    expectations: Path = PROJECT_ROOT / "great_expectations" / "suites"
    lock_file: Path = PROJECT_ROOT / "uv.lock"
    delivery_load_requests: int = Field(default=200, ge=1)
    cost_currency: str = Field(default="EUR", pattern=r"^[A-Za-z]{1,8}$")
    cost_per_cpu_hour: float = Field(default=0.04, ge=0, allow_inf_nan=False)
    cost_per_gb_hour: float = Field(default=0.005, ge=0, allow_inf_nan=False)
    cost_per_gb_written: float = Field(default=0.001, ge=0, allow_inf_nan=False)

    @field_validator("var", "spool", "forms", "expectations", "lock_file", mode="after")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path if path == Path() else path.absolute()

    def __init__(self, **values: object) -> None:
        super().__init__(**values)  # type: ignore[arg-type]
        # Defaults that hang on ``var``: the embedded platform keeps everything in that one folder.
        socket = f"host={self.socket_dir}"
        for name, value in {
            "lake_url": str(self.var / "lake"),
            "landing_url": str(self.var / "landing"),
            "release_url": str(self.var / "releases"),
            "docs_url": str(self.var / "reports"),
            "backup_url": str(self.var / "backups"),
            "ledger_dsn": f"postgresql+psycopg://postgres@/ledger?{socket}",
            "feast_registry_dsn": f"postgresql+psycopg://postgres@/feast?{socket}",
            "online_host": str(self.socket_dir),
            "mlflow_public_url": self.mlflow_url,
            "service_public_url": self.service_url,
        }.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)
        if self.spool == Path():
            object.__setattr__(self, "spool", self.var / "spool")
        if self.forms == Path():
            object.__setattr__(self, "forms", self.var / "forms")

    @property
    def socket_dir(self) -> Path:
        """Folder of the embedded PostgreSQL's Unix socket; its path is limited to 107 bytes by the system."""
        pointer = self.var / "postgres.socket"
        return Path(pointer.read_text().strip()) if pointer.exists() else self.var / "pg"

    def model_name(self, use_case: str) -> str:
        """Name of the registered model and of the experiment in MLflow: ``<env>.<use_case>``."""
        return f"{self.env}.{use_case}"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read from the environment once.

    Raises:
        ConfigurationError: a variable has a value that cannot be used; the message names it.
    """
    try:
        return Settings()
    except ValueError as error:
        raise ConfigurationError(
            f"the environment's AIRWORTHY_* variables cannot be used: {error}",
            next_step="correct the variable named above",
        ) from error
