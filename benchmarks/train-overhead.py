"""What Airflow adds to a training: a warm run of ``.train`` against the same functions in one process.

Protocol: the embedded platform is started in a temporary folder, and the flights' first days are landed and ingested by the
platform's own functions; every DAG but ``.train`` is paused. One process imports everything, trains once to warm up, and then
trains when it is told to: claim, training set with its checks, search, fit, judge, register. The same functions run as the
tasks of ``flight_delays.train``, started by hand over REST, after one run to warm up. The two take turns; each
turn has a study, a candidate and an MLflow run of its own, and the verdict and the release of the turn before are removed
from the ledger, so that nothing is found done. Wall time of a turn: of a run from the request that starts it to the end that
Airflow recorded; medians.

    make bench BENCH=train-overhead                   # some minutes on two cores
    make bench BENCH=train-overhead ARGS="--days 60 --turns 2"
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backfill import FIRST, free_ports

NAME = "flight_delays"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=75, help="days of flights (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="measured trainings of each kind (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        plain()
        return
    folder = Path(tempfile.mkdtemp(prefix="at", dir="/tmp"))
    try:
        settle(folder)
        print(json.dumps(measure(arguments.days, arguments.turns)))
    finally:
        from airworthy.platform.services import down

        down()
        shutil.rmtree(folder, ignore_errors=True)


def settle(folder: Path) -> None:
    """Settings of a platform of its own."""
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_")]:
        del os.environ[name]
    port = free_ports()
    os.environ |= {
        "AIRWORTHY_VAR": str(folder / "var"),
        "AIRWORTHY_AIRFLOW_URL": f"http://127.0.0.1:{port}",
        "AIRWORTHY_MLFLOW_URL": f"http://127.0.0.1:{port + 5}",
        "AIRWORTHY_SERVICE_URL": f"http://127.0.0.1:{port + 6}",
        "AIRWORTHY_REPORTS_URL": f"http://127.0.0.1:{port + 7}",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def measure(days_: int, turns: int) -> dict[str, object]:
    """Start, ingest, take turns."""
    from airworthy.platform.airflow_api import AirflowApi
    from airworthy.platform.services import up

    up(lambda words: print(f"        {words}", flush=True))
    api, dag, start = AirflowApi(), f"{NAME}.train", time.monotonic()
    for other in api.dags():
        api._send("PATCH", f"/api/v2/dags/{other['dag_id']}", {"is_paused": other["dag_id"] != dag})
    ingest(days_)
    print(f"{time.monotonic() - start:5.0f} s  {days_} days ingested", flush=True)

    process = subprocess.Popen(
        [sys.executable, __file__, "--plain"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    seconds: dict[str, list[float]] = {"airflow": [], "plain": []}
    steps, load = 0, os.getloadavg()[0]
    for turn in range(turns + 1):  # the first warms up
        forget()
        alone = by_process(process)
        forget()
        wall, steps, digest = by_airflow(api, dag)
        if digest != alone["digest"]:
            raise SystemExit(f"Airflow trained {digest}, the process {alone['digest']}")
        words = f"process {alone['seconds']:.1f} s, Airflow {wall:.1f} s ({steps} tasks)"
        print(f"{time.monotonic() - start:5.0f} s  {'warm-up' if turn == 0 else f'turn {turn}'}: {words}", flush=True)
        if turn:
            seconds["plain"].append(float(alone["seconds"]))
            seconds["airflow"].append(wall)
    process.stdin.close()  # type: ignore[union-attr]
    process.wait(30)
    value, reference = (statistics.median(seconds[kind]) for kind in ("airflow", "plain"))
    ratio, added = value / reference, (value - reference) / steps
    return {
        "name": "train-overhead", "metric": "seconds", "value": round(value, 1), "reference": round(reference, 1),
        "reference_is": "the same functions in one warm process", "ratio": round(ratio, 3), "aim": 1.15,
        "added_a_step": round(added, 2), "aim_a_step": 0.3, "met": ratio <= 1.15 and added <= 0.3, "steps": steps,
        "each": {kind: [round(s, 1) for s in all_] for kind, all_ in seconds.items()}, "same_model": True,
        "days": days_, "cores": os.cpu_count(), "load_before": round(load, 1),
    }  # fmt: skip


def ingest(days_: int) -> None:
    """Land and ingest the first days, and build their features."""
    from airworthy import features
    from airworthy.config import get_use_case
    from airworthy.ingest import ingest_interval
    from airworthy.intervals import Interval, days
    from airworthy.ledger.clock import advance
    from use_cases.flight_delays.world import World

    case, last = get_use_case(NAME), (FIRST + timedelta(days=days_ - 1)).isoformat()
    world = World(case)
    advance(case, world.landing_time(last))
    world.land_history(last)
    for interval in days(Interval.of(FIRST), Interval.of(last)):
        ingest_interval(case, interval, run="benchmarks/train-overhead")
    features.catch_up(case, run="benchmarks/train-overhead")


def forget() -> None:
    """Remove verdicts and releases from the ledger: the next turn judges and registers for itself."""
    from sqlalchemy import text

    from airworthy.ledger.database import transaction

    with transaction() as session:
        for table in ("release", "verdict"):
            session.execute(text(f"DELETE FROM {table}"))


def by_airflow(api, dag: str) -> tuple[float, int, str]:
    """One run; its wall seconds, its tasks, the digest of its model."""
    begun = datetime.now(UTC)  # noqa: TID251 - wall time, of Airflow
    run = api.trigger(dag, {"reason": "benchmark"})
    ended = api.wait(dag, run)
    tasks = api.tasks(dag, run)
    if ended["state"] != "success" or any(t["state"] not in ("success", "skipped") for t in tasks):
        raise SystemExit(f"the run failed: {[(t['task_id'], t['state']) for t in tasks]}")
    wall = (datetime.fromisoformat(ended["end_date"]) - begun).total_seconds()
    return wall, len(tasks), api.xcom(dag, run, "fit")["model_digest"]


def by_process(process: subprocess.Popen) -> dict:
    """One training of the warm process."""
    process.stdin.write("go\n")  # type: ignore[union-attr]
    process.stdin.flush()  # type: ignore[union-attr]
    for line in process.stdout:  # type: ignore[union-attr]
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit("the process that trains by itself is gone")


def plain() -> None:
    """Train once for each line of the standard input."""
    from airworthy.config import get_use_case
    from airworthy.evaluation import judge
    from airworthy.ledger.requests import close_requests
    from airworthy.registry import register
    from airworthy.training import build_training_set, fit
    from airworthy.training.orders import claim_order
    from airworthy.training.search import search

    case = get_use_case(NAME)
    for turn, _ in enumerate(sys.stdin):
        run, begun = f"benchmark/{turn}", time.monotonic()
        order = claim_order(case, run=run, on_demand="benchmark")
        ref = build_training_set(case, run=run)
        candidate = fit(case, ref, run=run, search=search(case, ref, run=run))
        verdict = judge(case, candidate, causes=order.causes)
        close_requests(case.name, run, verdict.summary[:500])
        if verdict.decision == "pass":
            register(case, candidate, verdict)
        print(json.dumps({"seconds": time.monotonic() - begun, "digest": candidate.model_digest}), flush=True)


if __name__ == "__main__":
    main()
