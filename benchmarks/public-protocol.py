"""The public tutorial's protocol on the same flights, so that our figure can be read beside the published one.

The tidymodels "recipes" tutorial predicts an arrival 30 minutes late or more from the actual departure time, the time in
the air, distance, carrier, airports, weekday, month and public holidays, with a random split of three to one; its logistic
regression is published with ROC AUC about 0.764. Here: the same rows (flights with weather, without gaps), the same columns,
the same kind of split (the seed is ours), a logistic regression, and beside it the flights use case's own algorithm and
parameters.

This is not an honest figure for operations. The actual departure time and the time in the air are not known two hours
before departure, and a random split puts flights of the same hour on both sides. ``quality`` is the honest one; the two
figures must not be compared.

    make bench BENCH=public-protocol
"""

from __future__ import annotations

import json
import time
from typing import Any

PUBLISHED = 0.764
# Federal holidays of 2013, and Easter and Good Friday, which the tutorial's list (timeDate's "US") also has.
HOLIDAYS = (
    "2013-01-01", "2013-01-21", "2013-02-18", "2013-03-29", "2013-03-31", "2013-05-27", "2013-07-04", "2013-09-02",
    "2013-10-14", "2013-11-11", "2013-11-28", "2013-12-25",
)  # fmt: skip
QUERY = """
SELECT f.dep_time::DOUBLE AS dep_time, f.air_time::DOUBLE AS air_time, f.distance::DOUBLE AS distance,
  f.origin, f.dest, f.carrier,
  dayname(make_date(f.year, f.month, f.day)) AS weekday, f.month::VARCHAR AS month,
  (strftime(make_date(f.year, f.month, f.day), '%Y-%m-%d') IN ({holidays}))::INT::DOUBLE AS holiday,
  f.arr_delay >= 30 AS late
FROM flights f JOIN weather w USING (origin, time_hour)
WHERE f.arr_delay IS NOT NULL AND f.dep_time IS NOT NULL AND f.air_time IS NOT NULL AND f.tailnum IS NOT NULL
ORDER BY f.time_hour, f.carrier, f.flight, f.origin
"""


def main() -> None:
    print(json.dumps(measure()))


def measure(seed: int = 7) -> dict[str, Any]:
    """Read, split, fit twice, score."""
    import zipfile

    import duckdb
    import numpy as np
    import pyarrow as pa

    from airworthy.config import get_use_case
    from airworthy.evaluation.metrics import gain_interval, roc_auc
    from airworthy.training.building import fit_estimator
    from use_cases.flight_delays.history import _data_folder, _read

    start = time.monotonic()
    folder = _data_folder()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open(archive.namelist()[0]) as file:
        flights = _read(file.read())
    with duckdb.connect() as connection:
        connection.register("flights", flights)
        connection.register("weather", _read((folder / "weather.csv").read_bytes()))
        holidays = ", ".join(f"'{day}'" for day in HOLIDAYS)
        rows = connection.sql(QUERY.format(holidays=holidays)).to_arrow_table()
    labels = rows["late"].to_numpy(zero_copy_only=False).astype(bool)
    columns = {n: "string" if pa.types.is_string(rows[n].type) else "float64" for n in rows.column_names if n != "late"}
    train = np.random.default_rng(seed).random(len(labels)) < 0.75
    training = get_use_case("flight_delays").training
    scores = {}
    for kind, algorithm, parameters in (
        ("linear", "sklearn.linear_model.LogisticRegression", {"max_iter": 1000}),
        ("ours", training.algorithm, training.parameters),
    ):
        estimator, encoder, _ = fit_estimator(
            rows.filter(pa.array(train)), labels[train], columns, algorithm, parameters, seed
        )
        scores[kind] = estimator.predict_proba(encoder.transform(rows.filter(pa.array(~train))))[:, 1]
        print(f"{time.monotonic() - start:5.0f} s  {algorithm} fitted and scored", flush=True)
    truth = labels[~train]
    ours, linear = roc_auc(truth, scores["ours"]) or 0.0, roc_auc(truth, scores["linear"]) or 0.0
    gain = gain_interval(truth, scores["ours"], scores["linear"], resamples=200, confidence=0.95, seed=seed)
    return {
        "name": "public-protocol", "metric": "ROC AUC",
        "protocol": "the public tutorial's: arrival 30 minutes late or more, random 3/4 split, actual departure time known",
        "value": round(ours, 4), "reference": round(linear, 4), "reference_is": "logistic regression on the same columns",
        "published": PUBLISHED, "ratio": round(ours / linear, 4), "gain_interval_95": [round(gain.low, 4), round(gain.high, 4)],
        "note": "not honest for operations: the actual departure time is not known two hours before departure",
        "train_rows": int(train.sum()), "test_rows": int((~train).sum()), "late_rate": round(float(truth.mean()), 4),
        "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
