"""The point-in-time join of the offline store against a hand-written DuckDB ASOF join, and against Feast's own DuckDB store.

A year of made-up flights asks three feature tables in Delta (one row an hour, a day and a week for each key; ttl of 3
hours, 2 days and none; each row known some time after its event). The reference is the ASOF join that one would write by
hand on the same Delta files, with the same conditions on both times. Both give Arrow; both are run in turn, after one
warm-up each, and the best of the runs counts. Their answers must be equal. Feast's own DuckDB store reads Parquet copies of
the same rows (it cannot read Delta without downloading an extension), on fewer entity rows, since it is slow; it does not
look at the time at which a row became known, so its answers are not compared. Peak memory of each way is taken in a process of
its own, for these rows and for ten times the entity rows and keys; `rows_only` is what merely holding the entity rows takes.

    make bench BENCH=asof
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64

from airworthy.features.delta_source import DeltaSource

START, DAYS = datetime(2013, 1, 1, tzinfo=UTC), 365
VIEWS = {
    # name: keys, time between two rows of a key, delay until it is known, ttl, features
    "hourly": (30, timedelta(hours=1), timedelta(minutes=50), timedelta(hours=3), 6),
    "daily": (300, timedelta(days=1), timedelta(hours=8), timedelta(days=2), 6),
    "weekly": (4000, timedelta(days=7), timedelta(days=1), None, 4),
}
REFS = [f"{name}:{name}_{i}" for name, view in VIEWS.items() for i in range(view[4])]
WAYS = ("airworthy", "by_hand", "rows_only")
AIM = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=336_776, help="entity rows (default: %(default)s)")
    parser.add_argument("--feast-rows", type=int, default=20_000, help="of them for Feast's own store")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--memory-of", choices=WAYS, help="used by the benchmark itself: join one way once")
    parser.add_argument("--times", type=int, default=1, help="so many times the entity rows and the keys")
    parser.add_argument("--folder", type=Path, help="made-up rows that are there already")
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(memory(arguments.memory_of, arguments.folder, arguments.rows, arguments.times)))
        return
    with tempfile.TemporaryDirectory(prefix="asof", dir="/tmp") as folder:
        found = measure(Path(folder), arguments.rows, arguments.feast_rows, arguments.repeat)
        print(json.dumps(found | {"peak_memory_mb": peaks(Path(folder), arguments.rows)}))


def memory(way: str, folder: Path, rows: int, times: int) -> dict[str, float]:
    """Peak memory in MB of a process that has the entity rows and joins them once."""
    entities = asked(np.random.default_rng(7), rows * times, times)
    if way == "airworthy":
        ours = offline_store(folder, "airworthy.features.offline_store.DuckDBAsofOfflineStore", delta=True)
        ours.get_historical_features(entities, REFS).to_arrow()
    elif way == "by_hand":
        raw(folder, entities)
    # Not ru_maxrss: that starts with what the parent process held.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return {"mb": int(line.split()[1]) / 1024}


def peaks(folder: Path, rows: int) -> dict[str, dict[str, int]]:
    """Peak memory by way and size, each in a process of its own; ten times the rows are entity rows and keys alike."""
    found: dict[str, dict[str, int]] = {}
    for times in (1, 10):
        place = folder if times == 1 else folder / "ten"
        if times > 1:
            lay_down(np.random.default_rng(7), place, times, parquet=False)
        for way in WAYS:
            command = [sys.executable, __file__, "--memory-of", way, "--rows", str(rows), "--times", str(times)]
            done = subprocess.run([*command, "--folder", str(place)], capture_output=True, text=True, check=True)
            peak = round(json.loads(done.stdout.splitlines()[-1])["mb"])
            found.setdefault(way, {})[f"{times}x"] = peak
            print(f"{way} {times}x: peak {peak} MB", flush=True)
    return found


def lay_down(rng: np.random.Generator, folder: Path, times: int, *, parquet: bool) -> None:
    """Write the feature tables."""
    for name, (keys, step, delay, _, features) in VIEWS.items():
        table = history(rng, keys * times, step, delay, features, name)
        write_deltalake(str(folder / name), table)
        if parquet:
            table.to_pandas().to_parquet(folder / f"{name}.parquet")


def asked(rng: np.random.Generator, rows: int, times: int = 1) -> pd.DataFrame:
    """The entity rows."""
    entities = pd.DataFrame({name: rng.integers(0, VIEWS[name][0] * times, rows) for name in VIEWS})
    entities["event_timestamp"] = pd.to_datetime(
        START.timestamp() + rng.integers(0, DAYS * 86_400, rows), unit="s", utc=True
    )
    return entities


def measure(folder: Path, rows: int, feast_rows: int, repeat: int) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    lay_down(rng, folder, 1, parquet=True)
    entities = asked(rng, rows)
    print(f"{rows:,} entity rows, {', '.join(f'{n}: {size(folder, n):,} rows' for n in VIEWS)}", flush=True)
    ours = offline_store(folder, "airworthy.features.offline_store.DuckDBAsofOfflineStore", delta=True)

    def by_store() -> pa.Table:
        return ours.get_historical_features(entities, REFS).to_arrow()

    def by_hand() -> pa.Table:
        return raw(folder, entities)

    same = by_store().select([r.split(":")[1] for r in REFS]).equals(by_hand().select([r.split(":")[1] for r in REFS]))
    if not same:
        raise SystemExit("the offline store and the join by hand give other values")
    value, reference = in_turn(by_store, by_hand, repeat)
    few, beside = entities[:feast_rows], None
    theirs = offline_store(folder, "duckdb", delta=False)
    try:
        beside = timed(lambda: theirs.get_historical_features(few, REFS).to_arrow())
        on_few = min(timed(lambda: raw(folder, few)) for _ in range(repeat))
    except Exception as error:  # it is only shown beside
        print(f"Feast's own DuckDB store does not run here: {type(error).__name__}: {str(error)[:200]}", flush=True)
    return {
        "name": "asof", "metric": "seconds", "value": round(value, 3), "reference": round(reference, 3),
        "reference_is": "a hand-written DuckDB ASOF join on the same Delta files", "ratio": round(value / reference, 2),
        "aim": AIM, "met": value / reference <= AIM, "entity_rows": rows, "values_equal": same,
        "feast_duckdb_rows": feast_rows, "feast_duckdb_seconds": beside and round(beside, 3),
        "feast_duckdb_ratio": beside and round(beside / on_few, 1),
    }  # fmt: skip


def history(
    rng: np.random.Generator, keys: int, step: timedelta, delay: timedelta, features: int, name: str
) -> pa.Table:
    """Rows of one feature table."""
    events = np.arange(np.datetime64("2013-01-01", "us"), np.datetime64("2014-01-01", "us"), np.timedelta64(step))
    times = np.repeat(events, keys)
    stamp = pa.timestamp("us", "UTC")
    columns = {name: pa.array(np.tile(np.arange(keys), len(events)))}
    columns |= {
        "event_timestamp": pa.array(times, stamp),
        "available_at": pa.array(times + np.timedelta64(delay), stamp),
    }
    columns |= {f"{name}_{i}": pa.array(rng.normal(size=len(times))) for i in range(features)}
    return pa.table(columns)


def size(folder: Path, name: str) -> int:
    return int(DeltaTable(str(folder / name)).to_pyarrow_dataset().count_rows())


def offline_store(folder: Path, kind: str, *, delta: bool) -> FeatureStore:
    """A Feast project with the three views."""
    registry = folder / f"{'delta' if delta else 'parquet'}.db"
    store = FeatureStore(
        config=RepoConfig(
            project="bench", provider="local", registry={"registry_type": "sql", "path": f"sqlite:///{registry}"},
            offline_store={"type": kind}, online_store=None, entity_key_serialization_version=3,
        )
    )  # fmt: skip
    for name, (_, _, _, ttl, features) in VIEWS.items():
        entity = Entity(name=f"{name}_key", join_keys=[name], value_type=ValueType.INT64)
        times = {"timestamp_field": "event_timestamp", "created_timestamp_column": "available_at"}
        source = (
            DeltaSource(f"{name}_rows", folder / name, **times)
            if delta
            else FileSource(name=f"{name}_rows", path=str(folder / f"{name}.parquet"), **times)
        )
        fields = [Field(name=f"{name}_{i}", dtype=Float64) for i in range(features)]
        view = FeatureView(
            name=name, entities=[entity], ttl=ttl, schema=[Field(name=name, dtype=Int64), *fields], source=source
        )
        store.apply([entity, view])
    return store


def raw(folder: Path, entities: pd.DataFrame) -> pa.Table:
    """The join by hand: one ASOF join a view, on the moment at which a row can be seen."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("entity", entities.reset_index(names="i"))
        found = []
        for name, (_, _, _, ttl, features) in VIEWS.items():
            connection.register(name, DeltaTable(str(folder / name)).to_pyarrow_dataset())
            alive = (
                f"e.event_timestamp - s.event_timestamp <= INTERVAL {int(ttl.total_seconds())} SECONDS"
                if ttl
                else "true"
            )
            picked = ", ".join(f"CASE WHEN {alive} THEN s.{name}_{i} END AS {name}_{i}" for i in range(features))
            found.append(
                connection.sql(
                    f"SELECT {picked} FROM entity e ASOF LEFT JOIN (SELECT *, greatest(event_timestamp, available_at) AS seen "
                    f"FROM {name}) s ON e.{name} = s.{name} AND e.event_timestamp >= s.seen ORDER BY e.i"
                ).to_arrow_table()
            )
    return pa.table({name: table[name] for table in found for name in table.schema.names})


def in_turn(first: Callable[[], Any], second: Callable[[], Any], repeat: int) -> tuple[float, float]:
    """Best wall seconds of each; alternating, so that the machine's moods meet both."""
    times = [(timed(first), timed(second)) for _ in range(repeat)]
    return min(t for t, _ in times), min(t for _, t in times)


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
