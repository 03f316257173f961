"""F17: the same work gives the same tables and online values in any zone, on a leap day, and by a clock that is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_orders import world as shop

from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger.clock import advance, wall_now

from .campaign import CORRECTED, FULL_CAMPAIGN, NEW, WORK
from .invariant import violations
from .world import World

ZONES = ("America/New_York", "Asia/Kolkata", "UTC") if FULL_CAMPAIGN else ("Asia/Kolkata",)
LEAP = ("2024-02-28", "2024-02-29", "2024-03-01")
HOUR = 3600


@pytest.fixture
def leap(world: World) -> World:
    """With the days around 29 February landed too."""
    with world.here() as case:
        for key in LEAP:
            shop.land_day(case, key)
        advance(case, Interval.of(LEAP[-1]).end.replace(hour=12))
    world.keep("leap")
    return world


def test_the_zone_of_the_computer_does_not_matter(leap: World, findings: list[dict[str, Any]]) -> None:
    work = [*WORK[:-1], *(["ingest", key, "scheduled"] for key in LEAP), WORK[-1]]
    leap.run(work, env={"TZ": "America/New_York"} if not FULL_CAMPAIGN else {"TZ": "UTC"})
    expected = leap.state()
    for zone in ZONES:
        leap.reset("leap")
        leap.run(work, env={"TZ": zone})
        broken = violations(leap)
        if leap.state() != expected:
            broken.append("the tables or the online values differ")
        findings.append({"fault": "F17 zone", "where": zone, "violations": broken})
        assert broken == [], zone
    # 29 February is a day like any other: published, and seen by what looks back on it from 1 March.
    with leap.here():
        rows = tables.read("tiny_orders/features/tiny_orders_customer", Interval.of(LEAP[-1]), Interval.of(LEAP[-1]))
    seen = dict(zip(rows["customer"].to_pylist(), rows["orders_7d"].to_pylist(), strict=True))
    orders = [row["customer"] for key in LEAP for row in shop.orders_of(key)]
    assert seen == {customer: orders.count(customer) for customer in set(orders)}


def test_a_clock_that_is_an_hour_wrong_changes_nothing(world: World, findings: list[dict[str, Any]]) -> None:
    # Given what computers with the right time leave,
    world.run(WORK)
    expected = world.state()
    world.reset()
    # when one is an hour ahead and one an hour behind, first at once on one interval, then each on its own,
    fast, slow = ["clock", str(HOUR)], ["clock", str(-HOUR)]
    ended = world.run([fast, ["ingest", NEW, "scheduled"]], [slow, ["ingest", NEW, "manual"]])
    ended += world.run([slow, ["ingest", CORRECTED, "arrivals"]])
    ended += world.run([fast, ["features", "scheduled"]], [slow, ["features", "arrivals"]])
    # then the same is there, and nobody failed but who stood down.
    assert {one["status"] for one in ended} == {0}
    events = world.history()
    off = [event["outcome"]["wall"] - wall_now().timestamp() for event in events if event["step"][0] == "clock"]
    assert sorted(round(seconds / HOUR) for seconds in off) == [-1, -1, -1, 1, 1]
    assert {event.get("error", "SupersededError") for event in events} == {"SupersededError"}
    broken = violations(world)
    if world.state() != expected:
        broken.append("the tables or the online values differ")
    findings.append({"fault": "F17 clocks an hour ahead and an hour behind", "violations": broken})
    assert broken == []
