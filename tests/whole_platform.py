"""The embedded platform, really started, in a folder and on ports of its own, for as long as a test module needs it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airworthy.config import get_settings
from airworthy.config.use_case import use_cases
from ports import free_block

CASES = Path(__file__).parent / "use_cases"


@contextmanager
def whole_platform(names: str, *folders: Path, keep: Path | None = None, **environment: str) -> Iterator[Path]:
    """Start the platform, and stop it at the end.

    Args:
        names: Packages of use cases, comma-separated.
        folders: Where packages are found before those of ``tests/use_cases``.
        keep: Where the platform's folder is moved at the end, for whoever looks into a failure; it is deleted otherwise.
        environment: More variables, for this process and the platform.

    Yields:
        The platform's ``var``.
    """
    from airworthy.platform import services

    # Not below pytest's own folder: another session of pytest closes that to others, and PostgreSQL is another user.
    folder, port = Path(tempfile.mkdtemp(prefix="aw", dir="/tmp")), free_block(10)
    before, path = dict(os.environ), list(sys.path)
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_") and n != "AIRWORTHY_TESTS_COMPLETE"]:
        del os.environ[name]
    ports = {"AIRFLOW": port, "MLFLOW": port + 5, "SERVICE": port + 6, "REPORTS": port + 7}
    os.environ |= {
        "AIRWORTHY_VAR": str(folder / "var"), "AIRWORTHY_USE_CASES": names,
        "PYTHONPATH": os.pathsep.join(str(one) for one in (*folders, CASES)),
        **{f"AIRWORTHY_{name}_URL": f"http://127.0.0.1:{number}" for name, number in ports.items()},
        **environment,
    }  # fmt: skip
    sys.path[:0] = [str(one) for one in folders]
    _read_anew()
    try:
        services.up()
        get_settings.cache_clear()
        yield folder / "var"
    finally:
        services.down()
        _close_feast()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            shutil.move(folder, keep)
        os.environ.clear()
        os.environ.update(before)
        sys.path[:] = path
        _read_anew()


def _read_anew() -> None:
    get_settings.cache_clear()
    use_cases.cache_clear()


def _close_feast() -> None:
    if "airworthy.features.feast_repo" in sys.modules:
        from airworthy.features import close

        close()
