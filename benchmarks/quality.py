"""The honest figure: how well the flights' model does on the months after its training.

Protocol: the whole year is landed and ingested through the platform's own functions (Great Expectations, Delta); every
feature comes from the feature store's point-in-time join at the prediction time, two hours before scheduled departure,
bounded by event time and ``available_at``. Train: January to June, with labels known by 1 July. Test: every labelled
flight predicted from July to December, pooled (with a bootstrap interval), and by month. One fit with the use case's own
parameters and seed; beside it, in the same run, a logistic regression on the same columns, and a fit with the parameters that
the use case's search chooses, as `.train` does: on the newest days of the training months, without a look at the test. Runs
on a PostgreSQL of its own in a temporary folder; about nine minutes on two cores.

    make bench BENCH=quality
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _year import Year, auc_interval, load, months

if TYPE_CHECKING:
    from airworthy.config.training_spec import Training

PROTOCOL = (
    "train January-June, test July-December pooled, features known two hours before departure, from the feature store"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--train-until", default="2013-07-01", help="first day of the test months (default: %(default)s)"
    )
    parser.add_argument("--last", default="2013-12-31", help="last day that is landed (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aq", dir="/tmp") as name:
        print(json.dumps(measure(Path(name), arguments.train_until, arguments.last)))


def measure(folder: Path, train_until: str, last: str) -> dict[str, object]:
    """Ingest, join, fit, score; returns the figures."""
    from airworthy.config import get_use_case
    from airworthy.evaluation.metrics import gain_interval, roc_auc

    start = time.monotonic()
    year = load(folder, last)
    training = get_use_case("flight_delays").training
    train, test = year.before(train_until), year.between(train_until, "2014-01-02")
    print(f"{time.monotonic() - start:5.0f} s  {train.sum():,} rows to train on, {test.sum():,} to test on", flush=True)
    recipes = {
        "model": (training.algorithm, training.parameters),
        "linear": ("sklearn.linear_model.LogisticRegression", {"max_iter": 500}),
    }
    recipes["searched"] = (training.algorithm, searched(year, training, train, train_until))
    print(f"{time.monotonic() - start:5.0f} s  searched: {recipes['searched'][1]}", flush=True)
    scores = {}
    for kind, (algorithm, parameters) in recipes.items():
        scores[kind] = year.fit_and_score(train, test, algorithm, parameters, training.seed)
        print(f"{time.monotonic() - start:5.0f} s  {algorithm} fitted and scored", flush=True)
    truth = year.labels[test]
    by_month = {}
    for name, first, end in months(int(train_until[5:7]), int(last[5:7])):
        inside = year.between(first, end)[test]
        by_month[name] = round(roc_auc(truth[inside], scores["model"][inside]) or 0.0, 4)
    gain = gain_interval(truth, scores["model"], scores["linear"], resamples=200, confidence=0.95, seed=training.seed)
    value, reference = roc_auc(truth, scores["model"]), roc_auc(truth, scores["linear"])
    if value is None or reference is None:
        raise SystemExit("no ROC AUC could be measured")
    return {
        "name": "quality", "metric": "ROC AUC", "protocol": PROTOCOL, "value": round(value, 4),
        "interval_95": auc_interval(truth, scores["model"], seed=training.seed), "reference": round(reference, 4),
        "reference_is": "logistic regression on the same columns",
        "searched": round(roc_auc(truth, scores["searched"]) or 0.0, 4),
        "searched_interval_95": auc_interval(truth, scores["searched"], seed=training.seed),
        "ratio": round(value / reference, 4), "aim": 0.75, "met": value >= 0.75,
        "gain_interval_95": [round(gain.low, 4), round(gain.high, 4)], "by_month": by_month,
        "train_rows": int(train.sum()), "test_rows": int(test.sum()), "late_rate": round(float(truth.mean()), 4),
        "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


def searched(year: Year, training: Training, train: Any, train_until: str) -> dict[str, Any]:
    """The parameters that the use case's search chooses on the training months alone."""
    import numpy as np

    from airworthy.intervals import Interval
    from airworthy.training.search_plan import draw
    from airworthy.training.tuning_rows import METRICS

    if training.search is None:
        return training.parameters
    start = Interval.of(train_until).shift(-training.search.tune_days).key
    rng, parts = np.random.default_rng(training.seed), []
    for rows in (year.before(start), year.between(start, train_until) & train):
        picks = np.flatnonzero(rows)
        mask = np.zeros(len(rows), dtype=bool)
        mask[rng.permutation(picks)[: training.search.rows]] = True
        parts.append(mask)
    metric, labels = METRICS[training.search.metric], year.labels[parts[1]]
    tried = [
        (metric.function(labels, year.fit_and_score(*parts, training.algorithm, parameters, training.seed)), parameters)
        for parameters in draw(training)
    ]
    return (max if metric.maximise else min)(tried, key=lambda pair: pair[0])[1]


if __name__ == "__main__":
    main()
