"""F11: a full disk, from any write on: a clear error, nothing half committed, and no repair when there is space again.

The disk is full for one process by the preloaded library: every write to a file under ``var`` gets ENOSPC.
"""

from __future__ import annotations

from typing import Any

from .campaign import FULL_CAMPAIGN, WORK, chosen
from .invariant import violations
from .world import COUNT, FULL, World


def test_a_full_disk_is_told_and_needs_no_repair(world: World, findings: list[dict[str, Any]]) -> None:
    (ended,) = world.run(WORK, mode=COUNT)
    effects, expected = int(ended["said"]), world.state()
    problems = []
    for point in chosen("full", effects, 40 if FULL_CAMPAIGN else 1):
        world.reset()
        world.run(WORK, at=point, mode=FULL)
        # What is published then is still whole,
        broken = violations(world)
        told = [event for event in world.history() if "error" in event]
        broken += [
            f"{event['error']}: {event['what'][:200]}"
            for event in told
            if event["error"] != "DiskFullError" or "bytes needed" not in event["what"]
        ]
        # and with space again the next run ends as if nothing had been.
        world.run(WORK)
        if world.state() != expected:
            broken.append("the result differs from the undisturbed one")
        findings.append(
            {"fault": "F11 disk full", "point": point, "of": effects, "errors": len(told), "violations": broken}
        )  # fmt: skip
        problems += [f"full from {point} of {effects}: {words}" for words in broken + violations(world)]
    assert problems == []
