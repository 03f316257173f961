"""The campaign's size, its seeded choices, and the deliveries of the shop that it plays with."""

from __future__ import annotations

import os
import random
from typing import Any

from tiny_orders import world as shop

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
