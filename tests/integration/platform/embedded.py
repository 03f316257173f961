"""The embedded platform of a test, driven by the command line, with a use case that has an interval every day."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airworthy.config import Settings, get_use_case
from airworthy.intervals import Interval
from airworthy.platform import health, postgres
from airworthy.platform.airflow_api import AirflowApi
from airworthy.platform.layout import Layout
from airworthy.platform.supervisor import Supervisor
from ports import free_ports

NAME = "tiny_orders"
USE_CASES = Path(__file__).parents[2] / "use_cases"


def shop_of_today(folder: Path) -> str:
    """The tiny shop as a package whose days never end, so that the schedule has one for yesterday; returns its name."""
    package = folder / "shop_of_today"
    shutil.copytree(USE_CASES / "tiny_orders", package, ignore=shutil.ignore_patterns("__pycache__"))
    path = package / "use_case.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("  live_from:")]
    path.write_text("\n".join(lines).replace("last: 2024-06-30", "last: 2099-12-31"))
    return package.name


class Platform:
    """A platform of this test, driven by the real command line."""

    def __init__(self, folder: Path) -> None:
        names = ("AIRFLOW", "MLFLOW", "SERVICE", "REPORTS")
        urls = {f"AIRWORTHY_{n}_URL": f"http://127.0.0.1:{p}" for n, p in zip(names, free_ports(4), strict=True)}
        self.environment = {
            "AIRWORTHY_VAR": str(folder / "var"), "AIRWORTHY_USE_CASES": shop_of_today(folder),
            "PYTHONPATH": f"{folder}:{USE_CASES}", **urls,
        }  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {n: v for n, v in os.environ.items() if not n.startswith(("AIRWORTHY_", "AIRFLOW"))} | self.environment
        command = [sys.executable, "-P", "-m", "airworthy.cli", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600)

    @property
    def settings(self) -> Settings:
        return Settings()

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.settings)

    def pid(self, program: str) -> int:
        return self.supervisor.states()[program].pid

    def problem(self, program: str) -> str:
        return health.problem(self.settings, self.supervisor.states()[program])

    def postmaster(self) -> int | None:
        return postgres.postmaster(Layout(self.settings).postgres)


def eventually(check: Callable[[], Any], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s"
        time.sleep(0.3)


class Days:
    """The shop's days as Airflow sees them."""

    def __init__(self) -> None:
        self.case, self.api = get_use_case(NAME), AirflowApi()

    def scheduled(self, family: str) -> tuple[str, str]:
        """DAG and id of the first run that the schedule made, once it has."""
        dag = f"{NAME}.{family}"
        eventually(lambda: any(run["run_type"] == "scheduled" for run in self.api.runs(dag)))
        return dag, [run for run in self.api.runs(dag) if run["run_type"] == "scheduled"][-1]["dag_run_id"]

    @property
    def yesterday(self) -> Interval:
        """The day of that run."""
        return Interval.of(self.api.run(*self.scheduled("ingest"))["partition_key"][:10])

    def task(self, run: tuple[str, str]) -> dict[str, Any]:
        """A run's first task."""
        return next(task for task in self.api.tasks(*run) if task["task_id"] in ("clean", "score"))

    def runs(self, day: Interval) -> list[str]:
        """Ids of the ingest's runs of a day."""
        return [r["dag_run_id"] for r in self.api.runs(f"{NAME}.ingest") if str(r["partition_key"])[:10] == day.key]
