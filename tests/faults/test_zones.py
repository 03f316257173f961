"""F17: the same work gives the same tables and online values on a computer in any zone."""

from __future__ import annotations

from typing import Any

from .campaign import FULL_CAMPAIGN, WORK
from .invariant import violations
from .world import World

ZONES = ("America/New_York", "Asia/Kolkata", "UTC") if FULL_CAMPAIGN else ("Asia/Kolkata",)


def test_the_zone_of_the_computer_does_not_matter(world: World, findings: list[dict[str, Any]]) -> None:
    world.run(WORK, env={"TZ": "America/New_York"} if not FULL_CAMPAIGN else {"TZ": "UTC"})
    expected = world.state()
    for zone in ZONES:
        world.reset()
        world.run(WORK, env={"TZ": zone})
        broken = violations(world)
        if world.state() != expected:
            broken.append("the tables or the online values differ")
        findings.append({"fault": "F17 zone", "where": zone, "violations": broken})
        assert broken == [], zone
