"""What retraining is worth: a model of January to March, left alone, against one that is trained anew each month.

The rows are those of ``quality``: the whole year through ingest and feature store, each feature as it was known two hours
before departure. The frozen model learns from what was known on 1 April. The retrained one learns, for each month from May
on, from everything known on that month's first day (an expanding window, as `.train` does by default), with the same
parameters and seed. Each is judged on the flights of the month; in April they are the same model. About ten minutes on two
cores.

    make bench BENCH=retraining
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from _year import load, months


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--last", default="2013-12-31", help="last day that is landed (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ar", dir="/tmp") as name:
        print(json.dumps(measure(Path(name), arguments.last)))


def measure(folder: Path, last: str) -> dict[str, object]:
    """Both models, month by month."""
    import numpy as np

    from airworthy.config import get_use_case
    from airworthy.evaluation.metrics import gain_interval, roc_auc

    start = time.monotonic()
    year = load(folder, last)
    training = get_use_case("flight_delays").training
    recipe = (training.algorithm, training.parameters, training.seed)
    frozen_rows = year.before("2013-04-01")
    table, pooled = {}, {"labels": [], "frozen": [], "retrained": []}
    for name, first, end in months(5, int(last[5:7])):
        test = year.between(first, end)
        truth = year.labels[test]
        frozen = year.fit_and_score(frozen_rows, test, *recipe)
        retrained = year.fit_and_score(year.before(first), test, *recipe)
        gain = gain_interval(truth, retrained, frozen, resamples=200, confidence=0.95, seed=training.seed)
        table[name] = {
            "frozen": round(roc_auc(truth, frozen) or 0.0, 4), "retrained": round(roc_auc(truth, retrained) or 0.0, 4),
            "gain_interval_95": [round(gain.low, 4), round(gain.high, 4)], "rows": int(test.sum()),
        }  # fmt: skip
        for key, values in (("labels", truth), ("frozen", frozen), ("retrained", retrained)):
            pooled[key].append(values)
        print(f"{time.monotonic() - start:5.0f} s  {name} {table[name]}", flush=True)
    truth, frozen, retrained = (np.concatenate(pooled[k]) for k in ("labels", "frozen", "retrained"))
    gain = gain_interval(truth, retrained, frozen, resamples=200, confidence=0.95, seed=training.seed)
    value, reference = roc_auc(truth, retrained) or 0.0, roc_auc(truth, frozen) or 0.0
    return {
        "name": "retraining", "metric": "ROC AUC", "protocol": "each month's flights; features known two hours before departure",
        "value": round(value, 4), "reference": round(reference, 4),
        "reference_is": "the model of January to March, never retrained", "ratio": round(value / reference, 4),
        "gain_interval_95": [round(gain.low, 4), round(gain.high, 4)],
        "months_better": sum(m["retrained"] > m["frozen"] for m in table.values()), "months": len(table),
        "by_month": table, "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
