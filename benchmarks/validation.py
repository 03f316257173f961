"""Validation of a full year of flights against a plain DuckDB scan that makes the same checks.

Side by side, in one run, on the same 336,688 typed rows: (a) Great Expectations, in one validation of the year; (b) the
compiled form of the same suite, which judges pushed rows and screens the tables of a live day; (c) one hand-written
DuckDB query with the same 23 checks, on one thread. The figure is (a) against (c); (b) is beside it, and so is what
Great Expectations costs day by day, as files are ingested (a month of days, times twelve). Peak memory of each is taken in
a process of its own, for the year and for ten times the year; `rows_only` is what merely holding the rows takes.

    make bench BENCH=validation
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
REPEATS = 5
WAYS = ("compiled", "great_expectations", "duckdb", "rows_only")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory-of", choices=WAYS, help="used by the benchmark itself: run one way once")
    parser.add_argument("--times", type=int, default=1, help="so many years of rows")
    parser.add_argument("--rows", type=Path, help="the rows as an Arrow file")
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(memory(arguments.memory_of, arguments.rows, arguments.times)))
        return
    print(json.dumps(measure()))


def year() -> Any:
    """The raw rows of every flight of 2013, typed."""
    import pyarrow as pa

    from airworthy.config import get_use_case
    from airworthy.ingest.parse import parse_file
    from airworthy.intervals import days
    from use_cases.flight_delays.world import World

    case = get_use_case("flight_delays")
    world, source = World(case), case.sources["flights"]
    parts = [parse_file(source, world.content("flights", day.key)).rows for day in _days(case, days)]
    return pa.concat_tables(parts).combine_chunks()


def _days(case: Any, days: Callable[..., Any]) -> Any:
    return days(case.data.first_interval, case.data.last_interval)


def suite() -> Any:
    """The flights' suite over the whole year; its bound of rows is one of a day, so it grows with the rows."""
    from dataclasses import replace

    from airworthy.config import get_use_case
    from airworthy.validation.suites import load_suite

    case = get_use_case("flight_delays")
    found = load_suite(case, "flights").at(case.data.first_interval, case.data.last_interval)
    counted = [
        replace(e, kwargs={"min_value": 1, "max_value": 3000 * 365 * 10}) if "row_count" in e.type else e
        for e in found.expectations
    ]
    return replace(found, expectations=tuple(counted))


def by_compiled(rows: Any) -> list[bool]:
    from airworthy.validation.screen import holds

    return [bool(holds(e, rows)) for e in suite().expectations]


def by_great_expectations(rows: Any) -> list[bool]:
    from airworthy.validation import gx

    return [bool(found["success"]) for found in gx.run(suite(), rows)]


def by_duckdb(rows: Any) -> list[bool]:
    """The same checks, written by hand as one scan, plus one for the key."""
    from airworthy.lake.duck import session

    outside = {
        "sched_arr_time": (0, 2400), "dep_time": (1, 2400), "dep_delay": (-120, 2880), "arr_time": (1, 2400),
        "arr_delay": (-180, 2880), "air_time": (10, 1000), "flight": (1, 9999), "distance": (10, 6000),
    }  # fmt: skip
    checks = [
        f"count({n}) = count(*)"
        for n in ("sched_dep", "sched_arr_time", "carrier", "flight", "origin", "dest", "distance")
    ]
    checks += [f"count(*) FILTER (WHERE {n} < {low} OR {n} > {high}) = 0" for n, (low, high) in outside.items()]
    checks += [
        "count(*) BETWEEN 1 AND 10950000",
        "count(*) FILTER (WHERE sched_dep < '2013-01-01 00:00:00+00' OR sched_dep >= '2014-01-01 00:00:00+00') = 0",
        "count(*) FILTER (WHERE NOT regexp_full_match(carrier, '[0-9A-Z]{2}')) = 0",
        "count(*) FILTER (WHERE NOT regexp_full_match(tailnum, '[A-Z][0-9A-Z]{2,5}')) = 0",
        "count(*) FILTER (WHERE origin NOT IN ('EWR', 'JFK', 'LGA')) = 0",
        "count(*) FILTER (WHERE NOT regexp_full_match(dest, '[A-Z]{3}')) = 0",
    ]
    key = "SELECT count(*) = (SELECT count(*) FROM flights) FROM (SELECT DISTINCT carrier, flight, origin, sched_dep FROM flights)"
    with session() as connection:
        connection.register("flights", rows)
        answers = connection.execute(f"SELECT {', '.join(checks)} FROM flights").fetchone() or ()
        unique = connection.execute(key).fetchone() or ()
        columns = len(connection.execute("DESCRIBE flights").fetchall()) == 13
    return [*map(bool, answers), bool(unique[0]), columns]


DOING: dict[str, Callable[[Any], list[bool]]] = {
    "compiled": by_compiled, "great_expectations": by_great_expectations, "duckdb": by_duckdb, "rows_only": lambda _: [True],
}  # fmt: skip


def memory(way: str, path: Path, times: int) -> dict[str, float]:
    """Peak memory in MB of a process that reads the rows and validates them once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.ipc.open_file(path).read_all()
    if times > 1:
        # Other years, so that the key stays one: the interval's bound then fails, which costs the same.
        moment, year = rows.schema.get_field_index("sched_dep"), 366 * 86_400_000_000
        parts = [
            rows.set_column(
                moment, "sched_dep", pc.add(rows["sched_dep"], pa.scalar(n * year, pa.duration("us")))
            )
            for n in range(times)
        ]  # fmt: skip
        rows = pa.concat_tables(parts).combine_chunks()
        del parts
    DOING[way](rows)
    # Not ru_maxrss: that starts with what the parent process held.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return {"mb": int(line.split()[1]) / 1024}


def measure() -> dict[str, object]:
    """Time the ways in turns, then their memory in processes of their own."""
    import tempfile

    import pyarrow as pa

    rows = year()
    print(f"{rows.num_rows:,} rows, {len(suite().expectations)} expectations", flush=True)
    seconds: dict[str, list[float]] = {"compiled": [], "duckdb": [], "great_expectations": []}
    for repeat in range(REPEATS + 1):
        for way, taken in seconds.items():
            if way == "great_expectations" and repeat > 2:
                continue
            start = time.process_time()
            answers = DOING[way](rows)
            if not all(answers) or len(answers) != len(suite().expectations):
                raise SystemExit(f"{way} found something in the good year, or counts otherwise: {answers}")
            if repeat:  # the first turn imports
                taken.append(time.process_time() - start)
    best = {way: min(taken) for way, taken in seconds.items()}
    print("  ".join(f"{way} {value:.3f} s CPU" for way, value in best.items()), flush=True)
    daily = 12 * _month()
    print(f"great_expectations day by day {daily:.1f} s CPU", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "year.arrow"
        with pa.ipc.new_file(path, rows.schema) as sink:
            sink.write_table(rows)
        peaks = {f"{times}x": {way: _peak(way, path, times) for way in WAYS} for times in (1, 10)}
    value, reference = best["great_expectations"], best["duckdb"]
    return {
        "name": "validation", "metric": "seconds of CPU for the year's flights", "value": round(value, 4), "reference": round(reference, 4),
        "reference_is": "one hand-written DuckDB scan with the same checks, one thread", "ratio": round(value / reference, 2), "aim": None,
        "met": None, "compiled": round(best["compiled"], 4), "compiled_ratio": round(best["compiled"] / reference, 2),
        "great_expectations_by_day": round(daily, 1), "rows": rows.num_rows,
        "expectations": len(suite().expectations), "peak_mb": peaks,
    }  # fmt: skip


def _month() -> float:
    """Seconds of CPU for 30 days of flights, each validated as it is ingested."""
    from airworthy.config import get_use_case
    from airworthy.ingest.parse import parse_file
    from airworthy.intervals import Interval, days
    from airworthy.validation import validate
    from use_cases.flight_delays.world import World

    case = get_use_case("flight_delays")
    world, taken = World(case), 0.0
    for day in days(Interval.of("2013-06-01"), Interval.of("2013-06-30")):
        rows = parse_file(case.sources["flights"], world.content("flights", day.key)).rows
        start = time.process_time()
        validate(case, "flights", rows, day)
        taken += time.process_time() - start
    return taken


def _peak(way: str, path: Path, times: int) -> int:
    command = [sys.executable, __file__, "--memory-of", way, "--rows", str(path), "--times", str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = round(json.loads(done.stdout.splitlines()[-1])["mb"])
    print(f"{way} {times}x: peak {peak} MB", flush=True)
    return peak


if __name__ == "__main__":
    main()
