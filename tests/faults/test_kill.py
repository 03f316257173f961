"""F1: killed at any effect that others can see, and run again: the result is that of a run that nobody disturbed."""

from __future__ import annotations

import random
from typing import Any

from tiny_orders import world as shop

from .campaign import CORRECTED, POINTS, SEED, WORK, chosen, deliver
from .invariant import violations
from .world import BEFORE, COUNT, MODES, World


def test_a_run_that_is_killed_anywhere_is_made_good_by_the_next(world: World, findings: list[dict[str, Any]]) -> None:
    # Given what an undisturbed run leaves, and how many effects it has,
    (ended,) = world.run(WORK, mode=COUNT)
    effects, expected = int(ended["said"]), world.state()
    assert [e.get("status") for e in world.history()] == ["published", "published", "done"]
    assert violations(world) == []
    # when it is killed at one of them and run once more,
    problems, places = [], set()
    for point in chosen("kill", effects, POINTS):
        mode = random.Random(f"{SEED} {point}").choice(list(MODES))
        world.reset()
        (killed,) = world.run(WORK, at=point, mode=mode)
        (again,) = world.run(WORK)
        broken = violations(world)
        if killed["status"] != -9:
            broken.append(f"it was not killed: {killed}")
        if again["status"] != 0 or world.state() != expected:
            broken.append("the result differs from the undisturbed one")
        place = f"{MODES[mode]} {killed['said'].replace(str(world.var), '')}"
        places.add(place)
        findings.append(
            {"fault": "F1 kill -9", "point": point, "of": effects, "where": place, "violations": broken}
        )  # fmt: skip
        problems += [f"killed at {point} of {effects}, {place}: {words}" for words in broken]
    # then nothing is lost or doubled, and nobody can tell.
    assert problems == []
    assert len(places) > 1


def test_a_correction_that_died_and_was_taken_back_leaves_the_first_delivery(
    world: World, findings: list[dict[str, Any]]
) -> None:
    # Given a correction whose run was killed,
    work = [["ingest", CORRECTED, "arrivals"]]
    (ended,) = world.run(work, mode=COUNT)
    effects, problems = int(ended["said"]), []
    for point in chosen("taken back", effects, max(1, POINTS // 5)):
        world.reset()
        (killed,) = world.run(work, at=point, mode=BEFORE)
        # when upstream lands the first file again, which was published long ago,
        with world.here() as case:
            deliver(case, CORRECTED, shop.orders_of(CORRECTED))
        world.run([*work, ["features", "scheduled"]])
        # then nothing of the correction is left.
        broken = violations(world)
        findings.append({"fault": "F1 killed, taken back", "where": killed["said"], "violations": broken})
        problems += [f"killed at {point} of {effects}, {killed['said']}: {words}" for words in broken]
    assert problems == []
