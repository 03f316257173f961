"""The task list: what ``make`` says, and how it finds a Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ("sh", "make", "mktemp", "tr", "rm", "cat", "awk", "touch", "env")

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None and not os.environ.get("AIRWORTHY_TESTS_COMPLETE"), reason="make is not here"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkout's root with the Makefile, and a ``bin`` without any Python."""
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def make(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(place / "bin"), "HOME": str(place)}
    return subprocess.run(
        ["make", *arguments],
        cwd=place,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        executable=place / "bin" / "make",
    )


def script(path: Path, body: str) -> None:
    path.write_text(f"#!{shutil.which('sh')}\n{body}\n")
    path.chmod(0o755)


def test_help_is_what_make_alone_says(place: Path) -> None:
    said = make(place).stdout

    for target in (
        "setup",
        "up",
        "down",
        "status",
        "demo",
        "test",
        "lint",
        "bench",
        "chaos",
        "doctor",
        "docs",
        "clean",
        "logs",
    ):
        assert f"make {target} " in said


def test_no_python_is_said_clearly(place: Path) -> None:
    done = make(place, "setup")

    assert done.returncode != 0
    assert "No Python from 3.11 to 3.13" in done.stderr
    assert "PYTHON=/path/to/python" in done.stderr


def test_a_name_that_does_not_run_is_no_python(place: Path) -> None:
    script(place / "bin" / "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    script(place / "bin" / "python3", "echo 'Python 3.9.1'; exit 1")

    done = make(place, "setup")

    assert "No Python from 3.11 to 3.13" in done.stderr
    assert "bin/python3.12" in done.stderr


def test_the_first_python_that_runs_is_chosen(place: Path) -> None:
    script(place / "bin" / "python3.12", "exit 127")
    # It passes the check, says its version, and is then asked to make a virtual environment.
    script(
        place / "bin" / "python3.11",
        'case "$*" in *"-m venv"*) echo "venv asked for" >&2; exit 3;; *) echo "Python 3.11.9"; exit 0;; esac',
    )

    done = make(place, "setup")

    assert f"Python: {place}/bin/python3.11 (Python 3.11.9)" in done.stdout
    assert "venv asked for" in done.stderr
    assert not list(place.glob(".uv/.uv-*"))


def test_a_benchmark_that_does_not_exist(place: Path) -> None:
    (place / ".venv").mkdir()
    (place / ".uv").mkdir()
    # As after a setup.
    version = next(
        line.split(":= ")[1] for line in (place / "Makefile").read_text().splitlines() if line.startswith("UV_VERSION")
    )
    (place / ".uv" / f".uv-{version}").touch()
    (place / ".venv" / ".synced").touch()

    done = make(place, "bench", "BENCH=nope")

    assert done.returncode != 0
    assert "benchmarks/nope.py" in done.stderr
