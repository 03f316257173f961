"""Boosted trees walked as one array of nodes, against treelite's own interpreter, on the same model and rows.

A histogram-based gradient boosting of 200 trees is fitted on made-up rows of the flagship model's shape: 36 columns, some of them
categories, some values missing. Both then score one row, and sixteen rows, again and again: in a tight loop (``hot``), and with
megabytes of other memory read before each call, as it is between the requests of a service (``cold``). All in one process and
one thread, in turn; medians; the probabilities must be the same bits. ``first_use`` is what the first row costs a process:
numba's import and compiling, in seconds and in memory.

    make bench BENCH=trees
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

AIM = 0.6
COLUMNS, CATEGORICAL, CODES, TREES = 36, 5, 200, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000)
    print(json.dumps(measure(parser.parse_args().calls)))


def measure(calls: int) -> dict[str, Any]:
    import treelite.sklearn
    from treelite import gtil

    from airworthy.training.trees import BoostedTrees

    rows, estimator = fitted()
    with np.errstate(invalid="ignore"):  # treelite casts the missing category
        model = treelite.sklearn.import_model(estimator)
    trees = BoostedTrees.of(model)
    assert trees is not None
    other = np.zeros(1 << 22)  # 32 MB

    def seconds(work: Callable[[np.ndarray], Any], count: int, *, cold: bool) -> float:
        times = []
        for n in range(calls // 10 if cold else calls):
            part = rows[(n * count) % 4096 :][:count]
            if cold:
                other[:] += 1
            started = time.perf_counter()
            work(part)
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    def ours(part: np.ndarray) -> np.ndarray:
        return trees.run(part, margin=False)

    def theirs(part: np.ndarray) -> np.ndarray:
        return gtil.predict(model, part, nthread=1).reshape(len(part))

    process, started = psutil.Process(), time.perf_counter()
    before = process.memory_info().rss
    ours(rows[:1])
    compiling = {
        "seconds": round(time.perf_counter() - started, 2),
        "resident_mb": round((process.memory_info().rss - before) / 1e6),
    }
    if not np.array_equal(ours(rows), theirs(rows)):
        raise SystemExit("they do not answer the same")
    found: dict[str, tuple[float, float]] = {}
    for count in (1, 16):
        for name, cold in (("hot", False), ("cold", True)):
            rounds = [(seconds(ours, count, cold=cold), seconds(theirs, count, cold=cold)) for _ in range(5)]
            one, other_one = (statistics.median(each) for each in zip(*rounds, strict=True))
            found[f"{count}_{name}"] = (one, other_one)
    value, reference = found["16_cold"]
    ratio = value / reference
    return {
        "name": "trees", "metric": "seconds to score 16 rows with 200 trees, caches cold", "value": value, "reference": reference,
        "reference_is": "treelite's interpreter", "ratio": round(ratio, 2), "aim": AIM, "met": ratio <= AIM,
        "microseconds": {name: [round(1e6 * one, 1) for one in pair] for name, pair in found.items()}, "same_bits": True,
        "first_use": compiling,
    }  # fmt: skip


def fitted() -> tuple[np.ndarray, Any]:
    """Rows, and a model that learned from them: float64 [20000, COLUMNS]."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    random = np.random.default_rng(7)
    rows = random.normal(size=(20_000, COLUMNS))
    rows[:, :CATEGORICAL] = random.integers(0, CODES, size=(len(rows), CATEGORICAL))
    late = rows[:, CATEGORICAL] + np.sin(rows[:, 0]) + random.normal(size=len(rows)) > 1
    rows[random.random(rows.shape) < 0.05] = np.nan
    estimator = HistGradientBoostingClassifier(
        max_iter=TREES, early_stopping=False, categorical_features=list(range(CATEGORICAL)), random_state=7
    )
    return rows, estimator.fit(rows, late)


if __name__ == "__main__":
    main()
