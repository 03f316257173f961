"""The doctor finds what is wrong, and says what to do."""

from __future__ import annotations

import socket
from collections import namedtuple
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from airworthy.config import Settings
from airworthy.platform import doctor
from airworthy.platform.doctor import Finding


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("PYTHONDONTWRITEBYTECODE", "AIRFLOW_HOME", "AIRFLOW__CORE__PARALLELISM"):
        monkeypatch.delenv(name, raising=False)
    return Settings(var=tmp_path / "var")


def one(findings: Any, subject: str) -> Finding:
    (found,) = [f for f in findings if f.subject == subject]
    return found


def test_bytecode(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(doctor.bytecode(settings), "bytecode").level == "ok"
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    assert one(doctor.bytecode(settings), "bytecode").level == "warning"


@pytest.mark.parametrize(
    ("workers", "slots", "level"),
    [("4", "4", "ok"), ("4", "5", "error"), ("65", "10", "error"), ("x", "4", "error"), ("4", "0", "error")],
)
def test_pools_against_workers(
    settings: Settings, workers: str, slots: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", workers)
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT", slots)

    found = one(doctor.parallelism(settings), "pools")

    assert found.level == level
    assert bool(found.advice) == (level != "ok")


def lock(path: Path, **versions: str) -> Path:
    path.write_text(
        "".join(
            f'[[package]]\nname = "{n}"\nversion = "{v}"\nsource = {{ registry = "x" }}\n' for n, v in versions.items()
        )
    )
    return path


def test_installed_packages_against_the_lock(settings: Settings, tmp_path: Path) -> None:
    good = Settings(var=settings.var, lock_file=lock(tmp_path / "good.lock", pydantic=version("pydantic")))
    other = Settings(var=settings.var, lock_file=lock(tmp_path / "other.lock", pydantic="0.1", numpy=version("numpy")))
    none = Settings(var=settings.var, lock_file=tmp_path / "no.lock")

    assert one(doctor.packages(good), "packages").level == "ok"
    assert one(doctor.packages(none), "packages").level == "warning"
    found = one(doctor.packages(other), "packages")
    assert found.level == "error"
    assert f"pydantic {version('pydantic')} (locked: 0.1)" in found.words
    assert "numpy" not in found.words
    assert "make setup" in found.advice


def test_a_package_that_is_not_there(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_direct", lambda: {"surely-not-installed"})
    checked = Settings(var=settings.var, lock_file=lock(tmp_path / "a.lock", pydantic=version("pydantic")))

    assert "not installed: surely-not-installed" in one(doctor.packages(checked), "packages").words


def test_direct_dependencies_are_known() -> None:
    assert {"apache-airflow", "mlflow", "feast", "psycopg", "great-expectations"} <= doctor._direct()


@pytest.mark.parametrize(("gigabytes", "disk", "memory"), [(100, "ok", "ok"), (4, "error", "error")])
def test_disk_and_memory(
    settings: Settings, gigabytes: int, disk: str, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = gigabytes * doctor.GB
    usage, ram = namedtuple("usage", "total used free"), namedtuple("ram", "total available")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(size, 0, size))
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: ram(size, size))

    findings = list(doctor.machine(settings))

    assert (one(findings, "disk").level, one(findings, "memory").level) == (disk, memory)


def test_a_taken_port(settings: Settings) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = Settings(var=settings.var, service_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        found = one(doctor.ports(taken), "ports")

    assert found.level == "error"
    assert "AIRWORTHY_SERVICE_URL" in found.words


def test_paths(tmp_path: Path) -> None:
    assert one(doctor.paths(Settings(var=Path("/tmp/v"))), "sockets").level == "ok"
    assert one(doctor.paths(Settings(var=Path("/tmp") / ("x" * 100))), "sockets").level == "warning"
    assert one(doctor.paths(Settings(var=tmp_path / "a&b")), "paths").level == "error"


def test_variables_of_another_airflow(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "8")

    words = one(doctor.foreign_airflow(settings), "environment").words

    assert "AIRFLOW__CORE__EXECUTOR" in words
    assert "PARALLELISM" not in words


def test_stale_pid_files(settings: Settings) -> None:
    assert one(doctor.leftovers(settings), "leftovers").level == "ok"
    (settings.var / "pg").mkdir(parents=True)
    (settings.var / "pg" / "postmaster.pid").write_text("1\n/elsewhere\n")
    (settings.var / "run").mkdir()
    (settings.var / "run" / "supervisord.pid").write_text("99999999\n")

    words = one(doctor.leftovers(settings), "pid files").words

    assert "postmaster.pid" in words
    assert "supervisord.pid" in words


def test_services_on_another_host(settings: Settings) -> None:
    assert list(doctor.addresses(settings)) == []
    away = Settings(var=settings.var, airflow_url="http://airflow.example.com:8580")

    assert "AIRWORTHY_AIRFLOW_URL" in one(doctor.addresses(away), "addresses").words
