"""F7 and F19: many runs on one interval, a run that was given up and comes back, reads while values are published."""

from __future__ import annotations

from typing import Any

from .campaign import CORRECTED, FULL_CAMPAIGN, NEW, chosen
from .invariant import violations
from .world import COUNT, PAUSE, World

RUNS = 20 if FULL_CAMPAIGN else 4
KINDS = ("scheduled", "backfill", "arrivals", "manual")


def test_many_runs_on_one_interval_publish_it_once(world: World, findings: list[dict[str, Any]]) -> None:
    # Given what one run leaves,
    world.run([["ingest", NEW, "alone"]])
    expected = world.state()
    world.reset()
    # when many processes of every kind take the interval at the same time,
    ended = world.run(*([["ingest", NEW, f"{KINDS[n % 4]}/{n}"]] for n in range(RUNS)))
    # then none fails: one publishes, the others find it done or stand down,
    assert {one["status"] for one in ended} == {0}
    outcomes = [event.get("status", event.get("error")) for event in world.history()]
    assert len(outcomes) == RUNS
    assert set(outcomes) <= {"published", "already", "SupersededError"}
    assert "published" in outcomes
    # and what is there is what one run leaves.
    broken = violations(world)
    assert broken == []
    assert world.state() == expected
    findings.append({"fault": f"F7 {RUNS} at once", "outcomes": sorted(map(str, outcomes)), "violations": broken})


def test_a_run_that_comes_back_after_a_newer_one_changes_nothing(world: World, findings: list[dict[str, Any]]) -> None:
    # Given a run that stops before one of its effects,
    (ended,) = world.run([["ingest", NEW, "scheduled"]], mode=COUNT)
    problems = []
    for point in chosen("zombie", int(ended["said"]), 30 if FULL_CAMPAIGN else 2):
        world.reset()
        newer = [["correct", NEW], ["ingest", NEW, "arrivals"]]
        # when a correction comes, another run takes it, and then the first one goes on,
        zombie, other = world.run([["ingest", NEW, "scheduled"]], at=point, mode=PAUSE, then=[newer])
        broken = violations(world)
        # then the correction counts (a run once more finds that, or takes it when the first was stopped too early).
        world.run([["ingest", NEW, "again"]])
        with world.here():
            before = world.state()
        world.run([["ingest", NEW, "again"]])
        broken += violations(world)
        if {zombie["status"], other["status"]} != {0} or world.state() != before:
            broken.append(f"{zombie}, {other}")
        if world.history()[-1].get("status") != "already":
            broken.append(f"it is not done: {world.history()[-1]}")
        findings.append({"fault": "F7 zombie", "point": point, "where": zombie["said"], "violations": broken})
        problems += [f"stopped at {point}: {words}" for words in broken]
    assert problems == []


def test_a_stopped_builder_holds_nobody_up_and_stands_down_when_it_wakes(
    world: World, findings: list[dict[str, Any]]
) -> None:
    # Given a catch-up, and what it leaves,
    world.run([["ingest", NEW, "scheduled"], ["ingest", CORRECTED, "arrivals"]])
    world.keep("stopped")
    (ended,) = world.run([["features", "alone"]], mode=COUNT)
    effects, expected, problems = int(ended["said"]), world.state(), []
    for point in chosen("stopped", effects, 30 if FULL_CAMPAIGN else 2):
        world.reset("stopped")
        # when its process is stopped before one of its effects, whatever it holds then,
        stopped, other = world.run(
            [["features", "stopped"]], at=point, mode=PAUSE, then=[[["features", "other"]]], patience=60,
            env={"AIRWORTHY_LEASE_SECONDS": "1"},
        )  # fmt: skip
        # then another one does the work long before it wakes, and it finds that out.
        broken = violations(world)
        events = {event["step"][1]: event for event in world.history()}
        if [event["step"][1] for event in world.history()] != ["other", "stopped"] or "error" in events["other"]:
            broken.append(f"the other one did not go on: {world.history()}")
        if events["stopped"].get("error", "SupersededError") not in ("SupersededError", "ServiceUnavailableError"):
            broken.append(f"woken, it says {events['stopped']}")
        world.run([["features", "again"]])
        if {stopped["status"], other["status"]} != {0} or world.state() != expected:
            broken.append(f"the result differs: {stopped}, {other}")
        outcome = events["stopped"].get("error", "done")
        findings.append({"fault": "stopped holder", "where": stopped["said"], "woken": outcome, "violations": broken})
        problems += [f"stopped at {point} of {effects}, {stopped['said']}: {words}" for words in broken]
    assert problems == []


def test_reads_while_values_are_published_are_old_or_new_and_never_fail(
    world: World, findings: list[dict[str, Any]]
) -> None:
    # Given what is online before a catch-up, and after it,
    world.run([["read", "1"]])
    world.run([["ingest", NEW, "scheduled"], ["ingest", CORRECTED, "arrivals"]])
    kept = world.history()[0]["outcome"]["answers"]
    # when readers ask all the time while it is published, and others publish what is old over and over,
    readers, rounds = (3, "1000") if FULL_CAMPAIGN else (2, "60")
    writers = [[["republish", "20" if FULL_CAMPAIGN else "2"]]] * 2
    ended = world.run(*([["read", rounds]] for _ in range(readers)), [["features", "scheduled"]], *writers)
    assert {one["status"] for one in ended} == {0}
    world.run([["read", "1"]])
    events = world.history()
    now = events[-1]["outcome"]["answers"]
    assert kept != now
    # then every answer is one of the two, whole, and never the old one after the new one.
    allowed = {str(one) for one in [*kept, *now]}
    reading = [event["outcome"] for event in events if event.get("status") == "read"]
    wrong = [answer for one in reading for answer in one["answers"] if str(answer) not in allowed]
    wrong += [answer for one in reading for answer in one["backwards"]]
    failed = [event for event in events if "error" in event]
    rate = sum(one["reads"] / one["seconds"] for one in reading[1:-1])
    broken = violations(world)
    findings.append(
        {"fault": "F19 reads during materialisation", "reads_a_second": round(rate), "violations": [*broken, *wrong, *failed]}
    )  # fmt: skip
    assert (wrong, failed, broken) == ([], [], [])
    if FULL_CAMPAIGN:
        assert rate >= 1000, f"{rate:.0f} reads a second are no load"
