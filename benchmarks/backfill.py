"""A year of real flights by Airflow's own backfill, against a plain loop over the same functions.

Protocol: the embedded platform is started in a temporary folder, and a year of files is landed once. The reference is one
process that calls ``ingest_interval`` for each day in order and then ``catch_up``, on databases and tables of its own in the same
PostgreSQL. Then the same days go through ``flight_delays.ingest`` by a native backfill, three runs at a time, started over REST, by
Airflow's own command line, or by clicks in Airflow's UI (Debian's chromium); it ends when every run has ended, features and online
values included. The other DAGs are paused. Both must publish the same: every
interval of every clean and feature table with the same digest. Peak memory is taken of the loop, at a tenth of the days too, and
of the platform: whole, and of its largest process (proportional set size, looked at every ten seconds).

    make bench BENCH=backfill                    # 365 days, well over ten minutes on two cores
    make bench BENCH=backfill ARGS="--days 20"
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

FIRST = date(2013, 1, 1)
PACKAGE = "year_of_flights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365, help="intervals (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=3, help="runs of the backfill at a time (default: %(default)s)")
    parser.add_argument(
        "--start", choices=("rest", "cli", "ui"), default="rest", help="who starts it (default: %(default)s)"
    )
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        print(json.dumps(loop(arguments.days)))
        return
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    try:
        settle(folder, arguments.days)
        print(json.dumps(measure(folder, arguments.days, arguments.at_once, arguments.start)))
    finally:
        from airworthy.platform.services import down

        down()
        shutil.rmtree(folder, ignore_errors=True)


def settle(folder: Path, count: int) -> None:
    """Settings of a platform of its own, and the flights as a use case whose history is all of these days."""
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_")]:
        del os.environ[name]
    package = folder / "packages" / PACKAGE
    package.mkdir(parents=True)
    own = Path(__file__).resolve().parents[1] / "include" / "use_cases" / "flight_delays"
    live = (FIRST + timedelta(days=count)).isoformat()
    lines = (own / "use_case.yaml").read_text().splitlines()
    changed = {"  last": f"  last: {live}", "  live_from": f"  live_from: {live}"}
    (package / "use_case.yaml").write_text("\n".join(changed.get(line.split(":")[0], line) for line in lines))
    (package / "__init__.py").write_text('"""The flights, all of them history."""\n')
    for name in ("source", "features"):
        (package / f"{name}.py").write_text(f"from use_cases.flight_delays.{name} import *\n")
    port = free_ports()
    os.environ |= {
        "AIRWORTHY_VAR": str(folder / "var"),
        "AIRWORTHY_USE_CASES": PACKAGE,
        "AIRWORTHY_AIRFLOW_URL": f"http://127.0.0.1:{port}",
        "AIRWORTHY_MLFLOW_URL": f"http://127.0.0.1:{port + 5}",
        "AIRWORTHY_SERVICE_URL": f"http://127.0.0.1:{port + 6}",
        "AIRWORTHY_REPORTS_URL": f"http://127.0.0.1:{port + 7}",
        "PYTHONPATH": str(folder / "packages"),
    }
    sys.path.insert(0, str(folder / "packages"))


def free_ports() -> int:
    """First of ten neighbouring free ports: Airflow's helpers take the ones after its own."""
    for first in range(29100, 32000, 100):
        try:
            for port in range(first, first + 10):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise SystemExit("no free ports")


def measure(folder: Path, count: int, at_once: int, by: str) -> dict[str, object]:
    """Start, land, loop, backfill, compare."""
    from airworthy.config import get_settings, get_use_case
    from airworthy.ledger.clock import advance
    from airworthy.platform.airflow_api import ENDED, AirflowApi
    from airworthy.platform.services import up
    from use_cases.flight_delays.world import World

    up(lambda words: print(f"        {words}", flush=True))
    case, start = get_use_case("flight_delays"), time.monotonic()
    last = FIRST + timedelta(days=count - 1)
    world = World(case)
    advance(case, world.landing_time(last.isoformat()))
    world.land_history(last.isoformat())
    print(f"{time.monotonic() - start:5.0f} s  {count} days landed", flush=True)

    api, dag = AirflowApi(), "flight_delays.ingest"
    for other in api.dags():
        api._send("PATCH", f"/api/v2/dags/{other['dag_id']}", {"is_paused": other["dag_id"] != dag})
    small, reference = (looped(folder, n, get_settings().socket_dir) for n in (max(1, count // 10), count))
    print(f"{time.monotonic() - start:5.0f} s  loop: {reference['seconds']:.1f} s", flush=True)

    begun = time.monotonic()
    if by == "cli":
        start_by_command(dag, FIRST, last, at_once)
    elif by == "ui":
        start_by_clicks(dag, FIRST, last, at_once)
    else:
        api.backfill(dag, midnight(FIRST), midnight(last), max_active_runs=at_once)
    states: list[str] = []
    held: list[tuple[int, int]] = []
    while len(states) < count or any(state not in ENDED for state in states):
        time.sleep(2)  # asking for a year of runs is work, too
        if (time.monotonic() - begun) // 10 >= len(held):
            held.append(memory())
        states = [run["state"] for run in api.runs(dag) if run["run_type"] == "backfill"]
        if time.monotonic() - begun > 60 * count:
            raise SystemExit(f"the backfill does not end: {states}")
    seconds = time.monotonic() - begun
    if digest() != reference["digest"] or set(states) != {"success"}:
        raise SystemExit(f"the backfill published something else than the loop ({states.count('failed')} runs failed)")
    ratio = seconds / reference["seconds"]
    return {
        "name": "backfill", "metric": "seconds", "days": count, "runs_at_a_time": at_once, "started_by": by, "value": round(seconds, 1),
        "reference": round(reference["seconds"], 1), "reference_is": "one process, ingest_interval for each day, then catch_up",
        "ratio": round(ratio, 2), "aim": 2.0, "met": ratio <= 2.0, "same_digests": True, "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[2], 1), "loop_peak_mb": round(reference["peak_mb"]),
        "loop_peak_mb_at_a_tenth": round(small["peak_mb"]),
        "platform_peak_mb": max(whole for whole, _ in held), "largest_process_peak_mb": max(one for _, one in held),
    }  # fmt: skip


def start_by_command(dag: str, first: date, last: date, at_once: int) -> None:
    """``airflow backfill create``, as an operator types it on the scheduler's machine."""
    from airworthy.config import get_settings
    from airworthy.platform import credentials, environment
    from airworthy.platform.programs import full_env

    settings = get_settings()
    env = full_env(settings, environment.airflow_env) | credentials.airflow_secrets(settings)
    command = [sys.executable, "-m", "airflow", "backfill", "create", "--dag-id", dag, "--from-date", first.isoformat()]
    command += ["--to-date", last.isoformat(), "--max-active-runs", str(at_once)]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)


def start_by_clicks(dag: str, first: date, last: date, at_once: int) -> None:
    """The form "Backfill" behind the button "Trigger" of the DAG's page, as an operator fills it in."""
    from playwright.sync_api import sync_playwright

    from airworthy.config import get_settings
    from airworthy.platform.services import airflow_login

    url, (user, passwords) = get_settings().airflow_url, airflow_login()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(url)
        page.fill("input[name=username]", user)
        page.fill("input[name=password]", json.loads(passwords.read_text())[user])
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Dags").first.wait_for()
        page.goto(f"{url}/dags/{dag}")
        page.get_by_role("button", name="Trigger").first.click()
        page.get_by_text("Backfill", exact=True).first.click()
        for day in (first, last):
            page.get_by_text("Select date and time").first.click()  # the other field shows its date by then
            page.get_by_placeholder("YYYY/MM/DD").fill(f"{day:%Y/%m/%d}")
            page.get_by_placeholder("HH:mm").fill("00:00")
            page.get_by_placeholder("HH:mm").press("Enter")
            page.keyboard.press("Escape")
            page.get_by_placeholder("YYYY/MM/DD").wait_for(state="hidden")
        page.get_by_text(f"{(last - first).days + 1} runs will be triggered").wait_for()
        page.fill("input[name=max_active_runs]", str(at_once))
        page.get_by_role("button", name="Run Backfill").click()
        page.get_by_role("button", name="Run Backfill").wait_for(state="hidden")
        browser.close()


def memory() -> tuple[int, int]:
    """MB that all processes of the platform hold now, and the largest of them."""
    import psutil

    from airworthy.config import get_settings
    from airworthy.platform import processes

    sizes = [0]
    for process in processes.belonging(get_settings()):
        with suppress(psutil.NoSuchProcess):
            sizes.append(process.memory_full_info().pss >> 20)
    return sum(sizes), max(sizes)


def midnight(day: date):
    from airworthy.intervals import Interval

    return Interval.of(day).start


def looped(folder: Path, count: int, host: Path) -> dict:
    """The plain loop in a process of its own, on databases and tables of its own and the same landed files."""
    import psycopg

    name = f"loop{count}"
    with psycopg.connect(f"host={host} user=postgres dbname=postgres", autocommit=True) as connection:
        for kind in ("ledger", "feast", "online"):
            connection.execute(f"CREATE DATABASE {kind}_{name}")
    url = f"postgresql+psycopg://postgres@/{{}}_{name}?host={host}"
    env = os.environ | {
        "AIRWORTHY_VAR": str(folder / name), "AIRWORTHY_LANDING_URL": str(folder / "var" / "landing"),
        "AIRWORTHY_LEDGER_DSN": url.format("ledger"), "AIRWORTHY_FEAST_REGISTRY_DSN": url.format("feast"),
        "AIRWORTHY_ONLINE_HOST": str(host), "AIRWORTHY_ONLINE_DATABASE": f"online_{name}",
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, __file__, "--loop", "--days", str(count)]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def loop(count: int) -> dict[str, object]:
    """What a script would do: every day in order, then the features."""
    from airworthy import features
    from airworthy.config import get_use_case
    from airworthy.ingest import ingest_interval
    from airworthy.intervals import Interval, days
    from airworthy.ledger.clock import advance
    from airworthy.platform.migrations import tables
    from use_cases.flight_delays.world import World

    tables()
    case = get_use_case("flight_delays")
    first = Interval.of(FIRST)
    last = first.shift(count - 1)
    advance(case, World(case).landing_time(last.key))
    start = time.monotonic()
    for interval in days(first, last):
        ingest_interval(case, interval, run="benchmarks/backfill")
    features.catch_up(case, run="benchmarks/backfill")
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak, "digest": digest()}


def digest() -> str:
    """Over every interval of every clean and feature table."""
    from airworthy.config import get_use_case
    from airworthy.features import table_schemas
    from airworthy.ledger.commits import newest_commits

    case = get_use_case("flight_delays")
    names = [*(case.table("clean", source) for source in case.sources), *table_schemas(case)]
    found = [[name, key, row.digest] for name in sorted(names) for key, row in sorted(newest_commits(name).items())]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


if __name__ == "__main__":
    main()
