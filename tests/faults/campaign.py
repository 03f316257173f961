"""The campaign's size, its seeded choices, and the deliveries of the shop and of the plant that it plays with."""

from __future__ import annotations

import csv
import io
import os
import random
from collections.abc import Callable
from typing import Any

from tiny_orders import world as shop
from tiny_sensors import world as sensors

from airworthy.config import UseCase
from airworthy.intervals import Interval
from airworthy.lake import landing

SEED = int(os.environ.get("AIRWORTHY_CHAOS_SEED", "20130101"))
POINTS = int(os.environ.get("AIRWORTHY_CHAOS_POINTS", "2"))
FULL_CAMPAIGN = "AIRWORTHY_CHAOS_POINTS" in os.environ

OLD, CORRECTED, NEW = ("2024-01-01", "2024-01-02"), "2024-01-02", "2024-01-03"
NOW = "2024-01-20"
WORK = [["ingest", NEW, "scheduled"], ["ingest", CORRECTED, "arrivals"], ["features", "scheduled"]]


def deliver(case: UseCase, key: str, rows: list[dict[str, Any]]) -> landing.Manifest:
    """Land a day's rows."""
    interval = Interval.of(key)
    return landing.land(case, "orders", interval, shop.to_csv(rows), len(rows), interval.end)


def planted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some rows outside the domain: they go to quarantine."""
    return [{**row, "items": -1} if number in (3, 50) else row for number, row in enumerate(rows)]


def corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A correction: a value changed, a row gone, a row new."""
    changed = [{**row, "amount": 1.25} if number == 7 else row for number, row in enumerate(rows)]
    return [*changed[:11], *changed[12:], {**rows[0], "order_id": f"{rows[0]['order_id']}-new"}]


def chosen(name: str, effects: int, count: int) -> list[int]:
    """Seeded points among the effects of a run: all of them when there are no more than ``count``."""
    points = range(1, effects + 1)
    return list(points) if effects <= count else sorted(random.Random(f"{SEED} {name}").sample(points, count))


def land_plant(case: UseCase, key: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list) -> None:
    """Land a plant's day, as CSV; ``change`` alters its jobs."""
    interval = Interval.of(key)
    for source, rows_of in sensors.ROWS.items():
        rows = change(rows_of(key)) if source == "jobs" else rows_of(key)
        if rows:
            landing.land(case, source, interval, _csv(rows), len(rows), interval.end)


def fewer_jobs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A correction of the jobs: one is gone, one failed after all."""
    return [{**row, "failed": True} if number == 3 else row for number, row in enumerate(rows) if number != 5]


def _csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(
            [
                v.isoformat() if hasattr(v, "isoformat") else str(v).lower() if isinstance(v, bool) else v
                for v in row.values()
            ]
        )
    return text.getvalue().encode()
