"""A delivery promotes only what its verdict allows, staging has seen working, and every live worker has loaded."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.delivery import again, deliver, question, settle, waiting
from airworthy.delivery import promote as promote_stage
from airworthy.delivery import watch as watch_stage
from airworthy.delivery.promoting import AUTOMATIC
from airworthy.errors import ReleaseError, ServiceUnavailableError, StaleVerdictError, SupersededError
from airworthy.ledger import deliveries, promotions, switches
from airworthy.ledger.audit import actions
from airworthy.ledger.clock import data_now
from airworthy.ledger.promotions import report_worker
from airworthy.ledger.tallies import Tally, report_tally
from ports import free_port

from ..serving.world import ORDER, Traffic, delivered, promote, release, service  # noqa: TID252 - one small world for both


def state(digest: str) -> tuple[str, str]:
    """State and reason of a release."""
    (row,) = [r for r in promotions.releases("tiny_orders") if r.digest == digest]
    return row.state, row.reason


@contextmanager
def heartbeat(use_case: UseCase) -> Iterator[None]:
    """A worker that is alive and has loaded nothing."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.is_set():
            report_worker("local", 1, use_case.name, 0, None)
            ended.wait(1)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def with_timeout(use_case: UseCase, seconds: float) -> UseCase:
    return use_case.model_copy(update={"delivery": use_case.delivery.model_copy(update={"switch_timeout_s": seconds})})


def test_a_challenger_is_tried_promoted_and_answers_everywhere(orders: UseCase, tmp_path: Path) -> None:
    # Given a live service without a champion, and an older and a newer challenger.
    older, newer = release(orders, seed=1, version=1), release(orders, seed=2, version=2)
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, 0, 60)
        # When it is delivered.
        outcome = deliver(orders, run="manual__1")
        # Then the newer one was loaded in staging and answers now; the older one is retired.
        assert (outcome.status, outcome.release, outcome.generation) == ("done", newer.digest, 1), outcome.reason
        assert state(newer.digest)[0] == "champion"
        assert state(older.digest) == ("retired", f"superseded by {newer.digest[:12]}")
        assert api.get("/model").json()["release"] == newer.digest
        figures = outcome.figures
        assert figures["requests"] == 60 + 4 * 5
        assert (figures["errors"], figures["workers"]) == (0, 1)
        assert 0 < figures["p50_ms"] <= figures["p99_ms"]
        assert figures["qps"] > 0
        assert 0 < figures["switch_seconds"] < 30
        # MLflow is away: the switch counts, and the note says that the aliases wait.
        assert "aliases" in outcome.reason
        (row,) = promotions.promotion_log(orders.name)
        assert (row.action, row.verdict_id, row.to_digest) == ("promote", newer.verdict_id, newer.digest)

        # When it runs again as another run, there is nothing to do; as the same run, it says what it did.
        again = deliver(orders, run="manual__2")
        assert (again.status, again.release) == ("refused", "")
        assert "no challenger" in again.reason
        same = deliver(orders, run="manual__1")
        assert (same.status, same.generation) == ("done", 1)
        assert len(promotions.promotion_log(orders.name)) == 1

        # When the next one is delivered under load, no request fails; staging leaves nothing in log and workers.
        best = release(orders, seed=3, version=3, against=newer.digest)
        with Traffic(api.url, threads=2).running() as traffic:
            traffic.wait(50)
            outcome = deliver(orders, run="manual__3")
            traffic.wait(50)
        assert outcome.status == "done", outcome.reason
        assert traffic.failures == []
        assert traffic.answers[-1]["version"] == f"v3-{best.digest[:12]}"
        assert {w.instance for w in promotions.live_workers(orders.name)} == {"local"}
        assert {p.name for p in get_settings().spool.glob("*/*") if "staging" in p.name} == set()


def verdictless(orders: UseCase) -> Any:
    made = release(orders, seed=1)
    lost = made.model_copy(update={"digest": uuid.uuid4().hex, "verdict_id": "lost"})
    promotions.set_release_state(made.digest, "retired")
    promotions.record_release(lost)
    return lost


def tampered(orders: UseCase) -> Any:
    made = release(orders, seed=1)
    (Path(registry.release_folder(made.digest)) / "encoder.json").write_text("{}")
    return made


REFUSED = [
    (
        lambda case: release(case, seed=1, decision="refuse", summary="worse"),
        "refused",
        "is refuse in mode enabled: worse",
    ),
    (lambda case: release(case, seed=1, mode="dry_run"), "refused", "in mode dry_run"),
    (lambda case: release(case, seed=1, model_digest="f" * 64), "refused", "not about the model of release"),
    (lambda case: release(case, seed=1, against="e" * 64), "stale", "the champion now is no champion"),
    (verdictless, "refused", "has no verdict 'lost'"),
    (tampered, "refused", "altered"),
]


@pytest.mark.parametrize(("make", "status", "words"), REFUSED, ids=[r[2] for r in REFUSED])
def test_what_may_not_serve_is_turned_down_before_staging(orders: UseCase, make: Any, status: str, words: str) -> None:
    made = make(orders)
    outcome = deliver(orders, run="r")
    assert (outcome.status, outcome.release) == (status, made.digest)
    assert words in outcome.reason
    assert state(made.digest) == ("refused", outcome.reason)
    assert promotions.champion(orders.name) is None


def test_a_champion_that_changed_during_staging_makes_the_verdict_stale(
    orders: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a challenger judged without a champion, and another that is promoted while the first is in staging.
    other = release(orders, seed=2)
    promotions.set_release_state(other.digest, "retired")
    made = release(orders, seed=1)
    real = registry.verify

    def verify_slowly(digest: str) -> Any:
        promote(orders, other)
        return real(digest)

    monkeypatch.setattr(registry, "verify", verify_slowly)
    with heartbeat(orders):
        outcome = deliver(orders, run="r")
    # Then compare-and-set refuses it.
    assert (outcome.status, outcome.release) == ("stale", made.digest), outcome.reason
    assert promotions.champion(orders.name) == promotions.Champion(other.digest, 1)


def test_too_slow_is_refused_with_its_figure(orders: UseCase) -> None:
    made = release(orders, seed=1)
    strict = orders.model_copy(update={"delivery": orders.delivery.model_copy(update={"max_p99_ms": 0.01})})
    outcome = deliver(strict, run="r")
    assert (outcome.status, outcome.generation) == ("refused", None)
    assert "p99 is" in outcome.reason
    assert state(made.digest)[0] == "refused"


def test_a_service_that_is_down_keeps_the_challenger_for_the_next_delivery(orders: UseCase) -> None:
    made = release(orders, seed=1)
    outcome = deliver(with_timeout(orders, 1), run="r")
    assert outcome.status == "inconclusive"
    assert "no live worker" in outcome.reason
    assert state(made.digest)[0] == "challenger"
    assert promotions.champion(orders.name) is None


def untried(use_case: UseCase, seconds: float) -> UseCase:
    """Without a trial, which would find out that workers cannot load it."""
    spec = use_case.delivery.model_copy(update={"shadow": False, "steps": [], "switch_timeout_s": seconds})
    return use_case.model_copy(update={"delivery": spec})


@pytest.mark.parametrize(
    ("damage", "status", "kept"), [("altered", "refused", "refused"), ("missing", "inconclusive", "challenger")]
)
def test_workers_that_cannot_load_it_are_switched_back(
    orders: UseCase, tmp_path: Path, damage: str, status: str, kept: str
) -> None:
    # Given a champion, and a service whose copy of the release store has a damaged challenger, or does not give it.
    first = release(orders, seed=1, version=1)
    promote(orders, first)
    shutil.copytree(get_settings().release_url, tmp_path / "copy")
    with service(free_port(), tmp_path, AIRWORTHY_RELEASE_URL=str(tmp_path / "copy")) as api:
        api.wait_generation(orders, 1, 60)
        second = release(orders, seed=2, version=2, against=first.digest)
        copied = tmp_path / "copy" / "releases" / second.digest
        if damage == "altered":
            shutil.copytree(registry.release_folder(second.digest), copied)
            (copied / "scorer.json").write_text("{}")
        # When it is delivered under load.
        with Traffic(api.url, threads=2).running() as traffic:
            outcome = deliver(untried(orders, 10), run="r")
            traffic.wait(20)
        # Then the log is back at the first one, the reason is on file, and nobody noticed.
        assert outcome.status == status, outcome.reason
        assert outcome.generation == 3
        assert "did not load it in time" in outcome.reason
        assert damage in outcome.reason
        assert [(r.action, r.to_digest) for r in promotions.promotion_log(orders.name)] == [
            ("promote", first.digest), ("promote", second.digest), ("rollback", first.digest),
        ]  # fmt: skip
        assert state(second.digest)[0] == kept
        assert state(first.digest)[0] == "champion"
        assert traffic.failures == []
        api.wait_generation(orders, 3)
        (prediction,) = api.post("/predict", ORDER).json()["predictions"]
        assert (prediction["version"], prediction["generation"]) == (f"v1-{first.digest[:12]}", 3)
        # What only could not be read is delivered once it can be.
        assert waiting(orders) == (second.digest if kept == "challenger" else "")
        if kept == "challenger":
            shutil.copytree(registry.release_folder(second.digest), copied)
            assert deliver(untried(orders, 60), run="next").status == "done"


def test_a_first_release_that_workers_cannot_read_waits_for_the_store(orders: UseCase, tmp_path: Path) -> None:
    # Given no champion to go back to, and a service whose store does not give the release.
    made = release(orders, seed=1)
    copied = tmp_path / "copy" / "releases" / made.digest
    with service(free_port(), tmp_path, AIRWORTHY_RELEASE_URL=str(tmp_path / "copy")):
        with pytest.raises(ServiceUnavailableError, match="no earlier champion to go back to"):
            deliver(with_timeout(orders, 10), run="r")
        (row,) = deliveries.deliveries(orders.name)
        assert (row.state, state(made.digest)[0]) == ("promote", "champion")
        # When the store gives it, then the next try goes on from there.
        shutil.copytree(registry.release_folder(made.digest), copied)
        outcome = deliver(with_timeout(orders, 60), run="again")
    assert (outcome.status, outcome.delivery, outcome.generation) == ("done", row.id, 1), outcome.reason


@pytest.mark.parametrize(
    ("unread", "end", "kept"), [(True, "inconclusive", "challenger"), (False, "refused", "refused")]
)
def test_one_that_was_killed_after_it_went_back_comes_to_the_same_end(
    orders: UseCase, unread: bool, end: str, kept: str
) -> None:
    first = release(orders, seed=1)
    promote(orders, first)
    made = release(orders, seed=2, against=first.digest)
    row = delivered(orders, made, "approval", "promote")
    promote(orders, made, expected=first.digest)
    deliveries.note(row, evidence={"unread": unread})
    promotions.promote(
        orders.name, first.digest, expected=made.digest, action="rollback", verdict_id=None, who="t",
        why=f"{AUTOMATIC}1 workers did not load it in time", data_time=data_now(orders),
    )  # fmt: skip

    outcome = promote_stage(orders, row.id, run="again")

    assert (outcome.status, "did not load it in time" in outcome.reason) == (end, True), outcome.reason
    assert state(made.digest)[0] == kept
    assert promotions.champion(orders.name).digest == first.digest


def test_a_staged_answer_that_is_not_the_models_own_is_refused(
    orders: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an offline model whose answers differ by a thousandth from what the staged service says.
    made = release(orders, seed=1)
    real = registry.load

    class Other:
        def __init__(self, digest: str) -> None:
            self.model = real(digest)
            self.schema, self.golden = self.model.schema, self.model.golden

        def predict(self, values: list[dict[str, Any]]) -> Any:
            return self.model.predict(values) + 1e-3

    monkeypatch.setattr(registry, "load", Other)
    outcome = deliver(orders, run="r")
    assert outcome.status == "refused"
    assert "differ from the model's own by up to 0.001" in outcome.reason
    assert state(made.digest)[0] == "refused"


def test_a_newer_challenger_takes_over_what_was_begun_and_who_held_it_stands_down(orders: UseCase) -> None:
    # Given a delivery that stands in approval, in the hands of a process that may wake again.
    champion = release(orders, seed=1)
    promote(orders, champion)
    older = release(orders, seed=2, against=champion.digest)
    held = deliveries.begin(orders.name, older.digest, champion.digest, "first")
    held = deliveries.move(held, "approval", "staged")
    newer = release(orders, seed=3, against=champion.digest)
    # When the next delivery begins, with nobody to deliver to.
    outcome = deliver(with_timeout(orders, 0.1), run="second")
    # Then the older one is superseded, and the newer one waits for a service.
    assert (outcome.release, outcome.status) == (newer.digest, "inconclusive"), outcome.reason
    assert deliveries.get(held.id).state == "stale"
    assert state(older.digest) == ("retired", f"superseded by the newer challenger {newer.digest[:12]}")
    with pytest.raises(SupersededError, match="stands down"):
        deliveries.move(held, "shadow", "late")


def test_of_two_who_hold_the_same_delivery_the_newer_goes_on(orders: UseCase) -> None:
    made = release(orders, seed=1)
    first = deliveries.begin(orders.name, made.digest, None, "first")
    second = deliveries.claim(first.id, "second")
    for late in (
        lambda: deliveries.move(first, "approval", "late"),
        lambda: deliveries.note(first, evidence={"late": 1}),
    ):
        with pytest.raises(SupersededError):
            late()
    assert deliveries.move(second, "approval", "in time").state == "approval"
    with pytest.raises(ValueError, match="does not move from approval to watch"):
        deliveries.move(deliveries.get(first.id), "watch", "over the fence")


@pytest.mark.parametrize(("errors", "end"), [(30, "aborted"), (1, "done")])
def test_the_watch_goes_back_when_too_many_requests_fail_and_ends_in_time(
    orders: UseCase, errors: int, end: str
) -> None:
    # Given a delivery in its watch, whose release has failed so many of its 40 requests since it is champion.
    first = release(orders, seed=1)
    promote(orders, first)
    made = release(orders, seed=2, against=first.digest)
    row = deliveries.begin(orders.name, made.digest, first.digest, "r")
    row = deliveries.move(deliveries.move(row, "approval", "staged"), "promote", "tried")
    row = deliveries.move(row, "watch", "promoted")
    generation = promote(orders, made, expected=first.digest).generation
    deliveries.note(row, generation=generation)
    report_tally("local", 1, orders.name, generation, "champion", Tally(40, errors))
    case = with_timeout(orders, 0.1)
    case = case.model_copy(update={"delivery": case.delivery.model_copy(update={"watch_s": 1.0, "look_s": 0.1})})

    # When it is watched, then what is surely above the bound goes back, and what is not stays when the time is over.
    started = time.monotonic()
    outcome = watch_stage(case, row.id, run="r")
    assert (outcome.status, f"{errors} of 40 requests failed" in outcome.reason) == (end, True), outcome.reason
    champion = promotions.champion(orders.name)
    if end == "aborted":
        assert "more than delivery.max_error_share (5%)" in outcome.reason
        assert (champion.digest, state(made.digest)[0]) == (first.digest, "refused")
    else:
        assert time.monotonic() - started > 0.8
        assert champion.digest == made.digest


def test_a_person_approves_or_rejects_and_nobody_is_a_no(orders: UseCase) -> None:
    manual = orders.model_copy(update={"delivery": orders.delivery.model_copy(update={"approval": "manual"})})
    made = release(orders, seed=1)
    number = deliveries.move(deliveries.begin(orders.name, made.digest, None, "r"), "approval", "staged").id
    # Without an answer it waits; the question has the verdict and its checks.
    subject, body = question(manual, number)
    assert "ROC AUC 0.800, at least 0.600" in body
    assert "Deliver version 1" in subject
    outcome = settle(manual, number, run="r", who="ada", approved=True, why="looked at it")
    assert (outcome.status, deliveries.get(number).approver) == ("promote", "ada")
    for who, approved, words in (("bob", False, "rejected by bob: not today"), ("", None, "nobody approved it")):
        promotions.set_release_state(made.digest, "retired")
        made = release(orders, seed=len(words))
        row = deliveries.move(deliveries.begin(orders.name, made.digest, None, "r"), "approval", "staged")
        ended = settle(manual, row.id, run="r", who=who, approved=approved, why="not today" if who else "")
        assert (ended.status, words in ended.reason) == ("refused", True), ended.reason
    done = [(a.who, a.action, a.why) for a in actions(orders.name)]
    assert done == [("ada", "approve delivery", "looked at it"), ("bob", "reject delivery", "not today")]


def test_while_promotions_are_paused_a_challenger_waits(orders: UseCase) -> None:
    made = release(orders, seed=1)
    assert waiting(orders) == made.digest
    number = deliveries.move(deliveries.begin(orders.name, made.digest, None, "r"), "approval", "staged").id
    assert waiting(orders) == ""  # somebody has begun
    switches.pause(orders.name, "op", "an incident")
    settle(orders, number, run="r")
    outcome = promote_stage(orders, number, run="r")
    assert (outcome.status, "an incident" in outcome.reason) == ("inconclusive", True), outcome.reason
    assert state(made.digest)[0] == "challenger"
    assert promotions.champion(orders.name) is None
    # It is not woken before the pause is over, and then it is.
    assert waiting(orders) == ""
    switches.resume(orders.name, "op", "it is over")
    assert waiting(orders) == made.digest


def test_what_was_turned_down_can_be_delivered_again_while_its_verdict_holds(orders: UseCase) -> None:
    champion = release(orders, seed=1)
    promote(orders, champion)
    made = release(orders, seed=2, against=champion.digest)
    promotions.set_release_state(made.digest, "refused", "a bad day")
    again(orders, made.digest[:10], why="once more")
    assert state(made.digest) == ("challenger", "once more")
    with pytest.raises(ReleaseError, match="turned down or rolled back"):
        again(orders, champion.digest, why="it serves")
    stale = release(orders, seed=3, against="e" * 64)
    promotions.set_release_state(stale.digest, "refused")
    with pytest.raises(StaleVerdictError):
        again(orders, stale.digest, why="another champion")
