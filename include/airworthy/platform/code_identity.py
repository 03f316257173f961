"""Which code this process imported, and which code a folder of DAGs was released with: the two must be the same.

A DAG file holds wiring, and its tasks' bodies come from the installed package. Should a worker have another package (an old
image, a release that was switched while it lived), a task would run wiring and body that nobody tested together.
"""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path

import airworthy
from airworthy.errors import AirworthyError

MANIFEST = "manifest.json"
PACKAGES = ("airworthy/", "use_cases/")


class OtherWheelError(AirworthyError):
    """Raised when a task's process imported another package than the one that its DAG was released with."""


def of_record(record: str) -> str:
    """Digest of a wheel's content from its RECORD, the same before and after it was installed; empty of an editable one."""
    lines = sorted(",".join(line.split(",")[:2]) for line in record.splitlines() if line.startswith(PACKAGES))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""


def imported() -> str:
    """What this process imported: ``wheel <digest>``, or ``checkout <folder>`` of an editable installation."""
    found = of_record(metadata.distribution("airworthy").read_text("RECORD") or "")
    return f"wheel {found}" if found else f"checkout {Path(airworthy.__file__).resolve().parents[2]}"


def released_with(root: Path) -> str:
    """What the DAGs under a root folder belong to, in the words of ``imported``.

    An image's manifest names its revision alone: its package is the folder itself.
    """
    try:
        code = json.loads((root / MANIFEST).read_text()).get("code")
    except FileNotFoundError:
        code = None
    return f"wheel {code}" if code else f"checkout {root.resolve()}"


def refuse_another_wheel(dag_file: Path) -> None:
    """Compare the package of this process with the one that a DAG file was released with.

    Raises:
        OtherWheelError: they differ.
    """
    ours, theirs = imported(), released_with(dag_file.resolve().parents[1])
    if ours == theirs:
        return
    raise OtherWheelError(
        f"{dag_file.name} belongs to {theirs[:24]}, and this process imported {ours[:60]}",
        next_step="nothing while a release is being switched: it is tried again; else restart this worker on the release "
        "that `airworthy release status` names",
    )
