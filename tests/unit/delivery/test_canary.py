"""One look at a step: what it decides, and on what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airworthy.config.operations_spec import Delivery
from airworthy.delivery.canary import Arm, Seen, Step
from airworthy.ledger.tallies import BUCKETS_MS, bucket

SPEC = Delivery(min_requests=100)


def times(ms: float, count: int) -> tuple[int, ...]:
    counts = [0] * (len(BUCKETS_MS) + 1)
    counts[bucket(ms)] = count
    return tuple(counts)


def arm(requests: int, *, errors: int = 0, ms: float = 1.0, losses: int = 0) -> Arm:
    return Arm(requests, errors, times(ms, requests), labelled=requests, losses=losses)


def after_looks(spec: Delivery, challenger: Arm, champion: Arm, looks: int = 10, **seen: object) -> list[str]:
    """Decisions of looks at counts that grow evenly up to these."""
    step, kinds = Step(spec, BUCKETS_MS), []
    for look in range(1, looks + 1):
        decision = step.look(
            Seen(_part(challenger, look, looks), _part(champion, look, looks), **seen),  # type: ignore[arg-type]
            waited_s=look,
        )
        kinds.append(decision.kind)
        if decision.kind != "hold":
            return [*kinds, decision.words]
    return kinds


def _part(whole: Arm, look: int, looks: int) -> Arm:
    return replace(
        whole, requests=whole.requests * look // looks, errors=whole.errors * look // looks,
        times=tuple(count * look // looks for count in whole.times), labelled=whole.labelled * look // looks,
        losses=whole.losses * look // looks,
    )  # fmt: skip


def test_equal_ones_go_on_once_enough_was_seen() -> None:
    *kinds, words = after_looks(SPEC, arm(100, errors=1, losses=20), arm(300, errors=3, losses=60))
    assert kinds == ["hold"] * 9 + ["go on"]
    assert "nothing found in 100 requests" in words


@pytest.mark.parametrize(
    ("challenger", "words"),
    [
        (arm(100, errors=30), "errors: "),
        (arm(100, ms=3.0), "model time"),
        (arm(100, losses=80), "costly decisions: "),
    ],
    ids=["errors", "slow", "worse"],
)
def test_a_worse_one_is_aborted_before_enough_was_seen(challenger: Arm, words: str) -> None:
    *kinds, said = after_looks(SPEC, challenger, arm(300, errors=3, losses=60))
    assert kinds[-1] == "abort"
    assert words in said
    assert len(kinds) < 10


def test_an_allowed_slowdown_and_a_tolerated_cost_are_no_reason_and_without_the_allowance_they_are() -> None:
    challenger, champion = arm(1000, ms=1.45, losses=330), arm(3000, losses=600)
    allowed = Delivery(min_requests=1000, tolerated_cost=2.0)
    assert after_looks(allowed, challenger, champion)[-2] == "go on"
    strict = after_looks(allowed.model_copy(update={"tolerated_cost": 1.0}), challenger, champion)
    assert (strict[-2], "costly decisions: " in strict[-1]) == ("abort", True)


def test_one_served_score_that_is_not_the_releases_own_aborts() -> None:
    kinds = after_looks(SPEC, arm(10), arm(10), compared=10, differing=1, worst=0.25)
    assert kinds[0] == "abort"
    assert "1 of 10 served scores" in kinds[1]


def test_a_challenger_that_cannot_be_loaded_aborts() -> None:
    assert after_looks(SPEC, arm(0), arm(10), problem="worker a/1: it crashed")[0] == "abort"


@pytest.mark.parametrize(
    ("champion", "waited_s", "kind"),
    [(arm(0), 3599, "hold"), (arm(0), 3600, "inconclusive"), (arm(50), 3599, "hold"), (arm(50), 3600, "inconclusive")],
)
def test_without_enough_data_it_holds_until_the_wait_is_over(champion: Arm, waited_s: float, kind: str) -> None:
    assert Step(SPEC, BUCKETS_MS).look(Seen(Arm(), champion), waited_s).kind == kind


def test_whoever_knows_that_nobody_asks_may_wait_shorter_for_nobody_only() -> None:
    spec = SPEC.model_copy(update={"idle_wait_s": 10})
    looks = [(arm(0), 9), (arm(0), 10), (arm(1), 10)]
    kinds = [Step(spec, BUCKETS_MS).look(Seen(Arm(), champion), waited_s).kind for champion, waited_s in looks]
    assert kinds == ["hold", "inconclusive", "hold"]


def without_times(counted: Arm) -> Arm:
    return replace(counted, times=times(1.0, 0))


@pytest.mark.parametrize(
    ("challenger", "champion", "lacks"),
    [
        (arm(300, errors=150), arm(0), "100 of the champion"),
        (arm(300), arm(99), "100 of the champion"),
        (without_times(arm(300)), arm(300), "30 timed ones of the challenger"),
        (arm(300), without_times(arm(300)), "30 timed ones of the champion"),
    ],
    ids=["no control", "a small control", "none timed", "no control timed"],
)
def test_nobody_to_compare_with_or_nothing_timed_is_no_pass(challenger: Arm, champion: Arm, lacks: str) -> None:
    step = Step(SPEC, BUCKETS_MS)
    for look in range(1, 11):
        assert step.look(Seen(_part(challenger, look, 10), _part(champion, look, 10)), look).kind == "hold"
    decision = step.look(Seen(challenger, champion), SPEC.longest_wait_s)
    assert (decision.kind, lacks in decision.words) == ("inconclusive", True), decision.words


def test_a_slow_one_whose_requests_come_within_one_look_does_not_pass_before_it_was_compared() -> None:
    step = Step(Delivery(), BUCKETS_MS)
    assert step.look(Seen(arm(400, ms=100.0), arm(400)), 1).kind == "hold"
    decision = step.look(Seen(arm(800, ms=100.0), arm(800)), 2)
    assert (decision.kind, "model time" in decision.words) == ("abort", True)


def test_one_time_for_a_group_of_requests_is_waited_for() -> None:
    # Given groups of 25: each look has 100 requests and 4 times of either arm.
    step, kinds = Step(Delivery(), BUCKETS_MS), []
    for look in range(1, 40):
        grouped = replace(arm(100 * look), times=times(1.0, 4 * look))
        kinds.append(step.look(Seen(grouped, grouped), look).kind)
        if kinds[-1] != "hold":
            break
    # Then it goes on when thirty of each came after the bound was set, by thirty of the champion.
    assert (kinds[-1], len(kinds)) == ("go on", 16)


def test_times_beyond_the_last_bucket_compare_as_not_slower() -> None:
    assert after_looks(SPEC, arm(100, ms=20_000.0), arm(300, ms=20_000.0))[-2] == "go on"


def test_while_a_live_worker_does_not_serve_it_nothing_goes_on() -> None:
    *kinds, words = after_looks(SPEC, arm(200), arm(300), waiting="worker a/1: no error reported")
    assert (kinds, words) == (["hold"] * 9, "hold")
    assert after_looks(SPEC, arm(200), arm(300))[-2] == "go on"
    # Nor does it end for want of requests: there are none that such a worker could have answered.
    assert Step(SPEC, BUCKETS_MS).look(Seen(waiting="worker a/1"), SPEC.longest_wait_s - 1).kind == "hold"


def test_a_release_that_cannot_be_read_is_not_called_bad() -> None:
    assert after_looks(SPEC, arm(0), arm(100), unread="worker a/1: no such bucket")[0] == "unread"


def test_a_step_that_is_taken_up_again_decides_as_if_it_had_never_stopped() -> None:
    def look(step: Step, part: int) -> float:
        seen = Seen(_part(arm(100, errors=6, ms=2.0), part, 10), _part(arm(200, errors=2), part, 10))
        return step.look(seen, part).figures["evidence: errors"]

    whole, pieces = Step(SPEC, BUCKETS_MS), Step(SPEC, BUCKETS_MS)
    for part in range(1, 8):
        pieces = Step(SPEC, BUCKETS_MS, pieces.state)
        assert look(whole, part) == look(pieces, part)
    assert whole.state == pieces.state
