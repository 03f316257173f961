"""F1: killed at any effect that others can see, and run again: the result is that of a run that nobody disturbed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tiny_orders import world as shop

from .campaign import CORRECTED, FULL_CAMPAIGN, POINTS, SEED, WORK, chosen, deliver
from .invariant import violations
from .world import BEFORE, COUNT, MODES, STRATA, World


def kill_everywhere(world: World, points: int, findings: list[dict[str, Any]]) -> None:
    """Kill a run at seeded points, each kind of effect having its share, and let another one follow.

    A run has a hundred times more statements to the ledger than renames: drawn from all effects alike, the rare kinds
    would hardly ever be met.
    """
    # Given what an undisturbed run leaves,
    world.run(WORK)
    expected = world.state()
    assert [e.get("status") for e in world.history()] == ["published", "published", "done"]
    assert violations(world) == []
    problems, places = [], set()
    rng = random.Random(f"{SEED} {world.use_case}")
    strata = sorted(rng.sample(sorted(STRATA), min(points, len(STRATA))))
    for stratum in strata:
        world.reset()
        # and how many effects of a kind it has,
        (ended,) = world.run(WORK, mode=COUNT, only=stratum)
        effects = int(ended["said"])
        assert effects > 1, STRATA[stratum]
        # when it is killed at one of them and run once more,
        for point in chosen(f"kill {world.use_case} {stratum}", effects, max(1, points // len(strata))):
            mode = rng.choice(list(MODES))
            world.reset()
            (killed,) = world.run(WORK, at=point, mode=mode, only=stratum)
            (again,) = world.run(WORK)
            broken = violations(world)
            # (the number of effects may differ a little from run to run: threads, and the names of temporary files)
            if killed["status"] != -9 and point < effects - 5:
                broken.append(f"it was not killed: {killed}")
            if again["status"] != 0 or world.state() != expected:
                broken.append("the result differs from the undisturbed one")
            place = f"{MODES[mode]} {killed['said'].replace(str(world.var), '')}"
            places.add(place)
            findings.append(
                {
                    "fault": "F1 kill -9", "use_case": world.use_case, "kind": STRATA[stratum], "point": point,
                    "of": effects, "where": place, "violations": broken,
                }
            )  # fmt: skip
            problems += [f"killed at {point} of {effects}, {place}: {words}" for words in broken]
    # then nothing is lost or doubled, and nobody can tell.
    assert problems == []
    assert len(places) > 1


def test_a_run_that_is_killed_anywhere_is_made_good_by_the_next(world: World, findings: list[dict[str, Any]]) -> None:
    kill_everywhere(world, POINTS, findings)


@pytest.mark.skipif(not FULL_CAMPAIGN, reason="a part of make chaos")
def test_so_is_one_of_another_use_case(plant: World, findings: list[dict[str, Any]]) -> None:
    kill_everywhere(plant, max(4, POINTS // 3), findings)


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
