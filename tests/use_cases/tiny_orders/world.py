"""The shop's outside world: orders made from a seed, one CSV a day, the same bytes each time.

Customers differ in how often they return things and that changes slowly, so the last seven days tell something;
dear orders and orders from the app come back more often.
"""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from airworthy.config import UseCase
from airworthy.intervals import Interval, days
from airworthy.lake.landing import land

CUSTOMERS = 30
ORDERS_A_DAY = 120
CHANNELS = ("web", "app", "phone")
CHANNEL_EFFECT = {"web": 0.0, "app": 0.5, "phone": -0.5}
COLUMNS = ("order_id", "customer", "channel", "amount", "items", "ordered_at", "returned")


def orders_of(key: str, seed: int = 7, orders: int = ORDERS_A_DAY) -> list[dict[str, Any]]:
    """The orders of one day in order of time; values as in the file (``ordered_at`` is text ending in Z)."""
    rng = random.Random(f"{seed} {key}")
    tendency = _tendencies(date.fromisoformat(key), seed)
    start = Interval.of(key).start
    seconds = sorted(rng.randrange(24 * 3600) for _ in range(orders))
    rows = []
    for number, second in enumerate(seconds):
        customer, channel = rng.randrange(CUSTOMERS), rng.choice(CHANNELS)
        amount, items = round(rng.lognormvariate(4.0, 0.6), 2), rng.randint(1, 5)
        score = -1.6 + tendency[customer] + CHANNEL_EFFECT[channel] + 0.008 * (amount - 60)
        returned: bool | None = rng.random() < 1 / (1 + math.exp(-score))
        if rng.random() < 0.01:
            returned = None
        ordered_at = f"{start + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}"
        values = (f"o-{key}-{number:03d}", f"c{customer:02d}", channel, amount, items, ordered_at, returned)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _tendencies(day: date, seed: int) -> list[float]:
    # A slow wave with its own phase for each customer: history helps, old history helps less.
    rng = random.Random(f"{seed} customers")
    phases = [(rng.gauss(0, 1.1), rng.uniform(0, 2 * math.pi)) for _ in range(CUSTOMERS)]
    return [level + 0.8 * math.sin(2 * math.pi * day.toordinal() / 60 + phase) for level, phase in phases]


def to_csv(rows: list[dict[str, Any]]) -> bytes:
    """Rows as the file that the shop lands: a header, true and false in lower case, empty for null."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row[c]) for c in COLUMNS] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def land_day(use_case: UseCase, key: str, *, seed: int = 7) -> None:
    """Land one day's file, published when the source says that it is known."""
    interval, rows = Interval.of(key), orders_of(key, seed)
    land(use_case, "orders", interval, to_csv(rows), len(rows), interval.end + use_case.sources["orders"].lag)


def land_history(use_case: UseCase, last: str | None = None, *, seed: int = 7) -> list[str]:
    """Land every day from the first to ``last`` (the day before ``live_from`` by default); returns the keys."""
    keys = list(history_keys(use_case, last))
    for key in keys:
        land_day(use_case, key, seed=seed)
    return keys


def history_keys(use_case: UseCase, last: str | None = None) -> Iterator[str]:
    """Keys of the history: from the first day to ``last``, or to the day before the world is live."""
    live = use_case.data.live_from or use_case.data.last + timedelta(days=1)
    end = Interval.of(last) if last else Interval.of(live).shift(-1)
    return (interval.key for interval in days(use_case.data.first_interval, end))


def requests_of(key: str, seed: int = 7) -> list[dict[str, Any]]:
    """The day's orders as a client would ask about them: without the outcome."""
    return [{name: value for name, value in row.items() if name != "returned"} for row in orders_of(key, seed)]
