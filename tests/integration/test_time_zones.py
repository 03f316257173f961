"""From the landed file to the training set: the same bits wherever the process runs, both changes of clocks included."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

from conftest import execute

ZONES = ("UTC", "America/New_York", "Asia/Kolkata")

SCRIPT = '''
"""The tiny shop in New York in 2013: local times without a zone, on the days around both changes of clocks."""
import json
import os
import sys
from datetime import date, datetime
from zoneinfo import ZoneInfo

from tiny_orders import world

from airworthy import features, ingest
from airworthy.config import get_use_case
from airworthy.intervals import Interval
from airworthy.lake import landing, quarantine, tables
from airworthy.ledger import clock, commits
from airworthy.training import build_training_set

case, zone = get_use_case("tiny_orders"), ZoneInfo("America/New_York")
case = case.model_copy(update={
    "sources": {"orders": case.sources["orders"].model_copy(update={"timezone": zone.key})},
    "data": case.data.model_copy(update={"first": date(2013, 1, 1), "last": date(2013, 12, 31), "live_from": None}),
    "training": case.training.model_copy(update={"holdout_days": 2, "min_train_days": 2}),
})
for name, schema in (ingest.table_schemas(case) | features.table_schemas(case)).items():
    tables.create(name, schema)
features.apply(case)
days = [Interval.of(f"2013-{day}") for day in ("03-09", "03-10", "03-11", "11-02", "11-03", "11-04")]
clock.advance(case, days[-1].shift(2).end)
seen = []
for day in days:
    rows = world.orders_of(day.key, orders=60)
    for row in rows:
        row["ordered_at"] = f"{datetime.fromisoformat(row['ordered_at']).astimezone(zone):%Y-%m-%d %H:%M:%S}"
    if day.key == "2013-03-10":
        rows[0]["ordered_at"] = "2013-03-10 02:30:00"
    landing.land(case, "orders", day, world.to_csv(rows), len(rows), day.end)
    outcome = ingest.ingest_interval(case, day, run="test")
    seen.append([outcome.landed_digest, outcome.rows_rejected])
features.catch_up(case, run="test")
training_set = build_training_set(case, run="test")
names = ["tiny_orders/raw/orders", "tiny_orders/clean/orders", "tiny_orders/quarantine/orders", *features.table_schemas(case)]
digests = {name: {key: row.digest for key, row in commits.newest_commits(name).items()} for name in names}
clean = tables.read("tiny_orders/clean/orders", days[4], days[4])
hours = sorted({f"{moment:%H}" for moment in clean["ordered_at"].to_pylist()})
print(json.dumps([seen, digests, training_set.digest, str(training_set.train_start), training_set.train_rows, hours]))
sys.stdout.flush()
os._exit(0)  # native threads of the libraries abort a rare exit of the interpreter, which is not what is asked here
'''


def test_the_same_results_in_every_time_zone(postgres: Path, ledger_template: str, tmp_path: Path) -> None:
    started = []
    for zone in ZONES:
        suffix = secrets.token_hex(4)
        execute(postgres, f"CREATE DATABASE ledger_{suffix} TEMPLATE {ledger_template}")
        execute(postgres, f"CREATE DATABASE feast_{suffix}")
        execute(postgres, f"CREATE DATABASE online_{suffix}")
        environment = os.environ | {
            "TZ": zone,
            "AIRWORTHY_VAR": str(tmp_path / suffix),
            "AIRWORTHY_USE_CASES": "tiny_orders",
            "AIRWORTHY_LEDGER_DSN": f"postgresql+psycopg://postgres@/ledger_{suffix}?host={postgres}",
            "AIRWORTHY_FEAST_REGISTRY_DSN": f"postgresql+psycopg://postgres@/feast_{suffix}?host={postgres}",
            "AIRWORTHY_ONLINE_HOST": str(postgres),
            "AIRWORTHY_ONLINE_DATABASE": f"online_{suffix}",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        command = [sys.executable, "-c", SCRIPT]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe))
    results = []
    for process in started:
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()[-3000:]
        results.append(json.loads(out.splitlines()[-1]))
    first = results[0]
    assert all(result == first for result in results)
    seen, digests, _, train_start, train_rows, hours = first
    assert [rejected["orders"] for _, rejected in seen] == [0, 1, 0, 0, 0, 0]  # the hour that never was
    assert all(len(of_table) == 6 for of_table in digests.values())
    assert train_start == "2013-03-09 00:00:00+00:00"
    assert train_rows > 150
    assert "05" in hours  # the hour that was twice is the first of the two: 05, and nothing is left of 06
    assert "06" not in hours
