"""What the clean process runs: load a model from its folder, try it, print what was found as one line of JSON.

``python -I -m airworthy.training.probe`` reads ``{"folder", "digest", "rows", "expected"}`` from standard input.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from airworthy.errors import AirworthyError
from airworthy.training import model_files
from airworthy.training.folders import read_folder
from airworthy.training.model_files import LoadedModel

SINGLE_ROWS = 50
BATCHES = 3


def main() -> None:
    """Read the order, print the findings."""
    order = json.load(sys.stdin)
    try:
        found = probe(order["folder"], order["digest"], order["rows"], np.asarray(order["expected"], dtype=np.float64))
    except AirworthyError as error:
        found = {"note": str(error)[:500]}
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def probe(folder: str, digest: str, rows: list[dict[str, Any]], expected: np.ndarray) -> dict[str, Any]:
    """Load the model and try it.

    Args:
        folder, digest: The model.
        rows: Features by name.
        expected: Probabilities that the recorded estimator gave for them, float64 [rows].

    Raises:
        AirworthyError: it cannot be loaded, or cannot answer.
    """
    _, files = read_folder(folder, digest)
    model = model_files.from_files(files, digest, folder)
    difference = np.abs(model.predict(rows) - expected)
    row_ms, batch_row_ms = _latency(model, rows)
    found = {
        "form": type(model.scorer).__name__,
        "mismatches": mismatches(model.requirements),
        "requirements": len(model.requirements),
        "difference": float(difference.max()) if difference.size and np.isfinite(difference).all() else None,
        "rows": len(rows),
        "model_bytes": sum(len(content) for content in files.values()),
        "row_ms": row_ms,
        "batch_row_ms": batch_row_ms,
        "refused": refusals(model, files, rows[0]),
    }
    return {**found, "memory_mb": peak_memory_mb()}


def mismatches(requirements: tuple[str, ...]) -> list[str]:
    """Requirements that this process does not meet, such as ``numpy 2.1 is 2.4``."""
    found = []
    for line in requirements:
        name, _, wanted = line.partition("==")
        try:
            installed = version(name)
        except PackageNotFoundError:
            found.append(f"{name} is not installed")
            continue
        if installed != wanted:
            found.append(f"{name} {wanted or '(no version)'} is {installed}")
    return found


def refusals(model: LoadedModel, files: dict[str, bytes], row: dict[str, Any]) -> dict[str, bool]:
    """Whether the model refuses a column that is missing, one of another name, and columns in another order."""
    first, *others = model.columns
    rest = {name: row[name] for name in others}
    schema = json.loads(files["schema.json"])
    turned = {**schema, "columns": dict(reversed(schema["columns"].items()))}
    permuted = {**files, "schema.json": json.dumps(turned).encode()}
    return {
        "missing": _refused(lambda: model.predict([rest])),
        "renamed": _refused(lambda: model.predict([{**rest, f"{first}_": row[first]}])),
        "permuted": not others or _refused(lambda: model_files.from_files(permuted, model.model_digest, "permuted")),
    }


def _refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except AirworthyError:
        return True
    return False


def _latency(model: LoadedModel, rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Median milliseconds of one row, and milliseconds a row in the quickest batch."""
    singles = [_milliseconds(lambda row=row: model.predict([row])) for row in rows[:SINGLE_ROWS]]  # type: ignore[misc]
    batches = [_milliseconds(lambda: model.predict(rows)) for _ in range(BATCHES)]
    return statistics.median(singles), min(batches) / len(rows)


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def peak_memory_mb() -> float:
    """Peak resident memory of this process, MiB.

    ``ru_maxrss`` would do on no Linux: it is inherited from the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import psutil  # type: ignore[import-untyped,unused-ignore]

    return float(psutil.Process().memory_info().rss) / 2**20


if __name__ == "__main__":
    main()
