"""The plant's outside world, made from a seed: raw rows of each source and day, as in the landed files."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from airworthy.intervals import Interval

SITES = ("north", "south", "east", "west")
SENSORS = 12
FIRST_DAY = "2024-01-01"


def jobs_of(key: str, seed: int = 1, jobs: int = 20) -> list[dict[str, Any]]:
    """The jobs of a day."""
    rng = random.Random(f"{seed} jobs {key}")
    start = Interval.of(key).start
    return [
        {
            "job_id": f"{key}-{n}", "site": rng.choice(SITES), "sensor_id": rng.choice([None, *range(SENSORS)]),
            "load": rng.random(), "starts_at": start + timedelta(seconds=rng.randrange(86_400)),
            "failed": rng.choice([True, False, False, None]),
        }
        for n in range(jobs)
    ]  # fmt: skip


def readings_of(key: str, seed: int = 1) -> list[dict[str, Any]]:
    """Every hour one reading of each site; some hours and some values are lost."""
    rng = random.Random(f"{seed} readings {key}")
    start, rows = Interval.of(key).start, []
    for hour in range(24):
        for site in SITES:
            heat: float | None = rng.uniform(50, 200)
            if rng.random() < 0.1:
                heat = None
            row = {
                "site": site, "read_at": start + timedelta(hours=hour), "heat": heat, "alarm": rng.random() < 0.2,
                "mode": rng.choice(["auto", "manual"]),
            }  # fmt: skip
            if rng.random() > 0.3:
                rows.append(row)
    return rows


def sensors_of(key: str, seed: int = 1) -> list[dict[str, Any]]:
    """The list of sensors: it comes once, on the first day, and lacks the last two."""
    rng = random.Random(f"{seed} sensors")
    makers = [rng.choice([None, "acme", "zeta"]) for _ in range(SENSORS)]
    rows = [{"sensor_id": n, "built": 1990 + n, "maker": makers[n]} for n in range(SENSORS - 2)]
    return rows if key == FIRST_DAY else []


ROWS = {"jobs": jobs_of, "readings": readings_of, "sensors": sensors_of}


def request_of(job: dict[str, Any]) -> dict[str, Any]:
    """A job as a client asks about it."""
    return {name: job[name] for name in ("site", "sensor_id", "load", "starts_at")}


def predicted_at(job: dict[str, Any]) -> datetime:
    """When the prediction of a job is made."""
    moment: datetime = job["starts_at"] - timedelta(hours=1)
    return moment
