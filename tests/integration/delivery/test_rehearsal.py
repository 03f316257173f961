"""The way back is rehearsed: what cannot take over is found before it is needed, and nobody notices the rehearsal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select, text

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.delivery import overdue_rehearsal, rehearsal, rehearse_rollback, rollback
from airworthy.delivery.rehearsal import RehearsalError
from airworthy.errors import PausedError
from airworthy.ledger import promotions, switches
from airworthy.ledger.database import transaction
from airworthy.ledger.models import RollbackDrill
from airworthy.serving import game_day

from ..serving.world import promote, release  # noqa: TID252 - one small world for both


def drills() -> list[RollbackDrill]:
    with transaction() as session:
        return list(session.scalars(select(RollbackDrill).order_by(RollbackDrill.id)))


def test_a_drill_tries_each_release_really_and_names_the_one_that_could_not_take_over(orders: UseCase) -> None:
    # Given nothing to go back to, then nothing is wrong.
    outcome, _ = rehearse_rollback(orders)
    assert "nothing to go back to" in outcome.words
    # Given three champions one after the other.
    first, second, third = (release(orders, seed=n, version=n) for n in (1, 2, 3))
    promote(orders, first)
    promote(orders, second, expected=first.digest)
    promote(orders, third, expected=second.digest)

    # When it is rehearsed, then both earlier ones gave their golden answers over HTTP, and the log is as it was.
    outcome, page = rehearse_rollback(orders)
    assert set(outcome.seconds) == {first.digest, second.digest}
    assert outcome.requests > 0
    assert f"while {outcome.requests} requests were answered and none failed" in outcome.words
    assert page.endswith("rollback_drills/tiny_orders/newest.html")
    assert len(promotions.promotion_log(orders.name)) == 3
    assert promotions.live_workers(orders.name) == []

    # When one was altered meanwhile, then the drill fails, and says which; its row too.
    folder = Path(registry.release_folder(first.digest))
    (folder / "encoder.json").write_text("{}")
    with pytest.raises(RehearsalError, match=f"1 of 2 releases cannot take over: {first.digest[:12]}: .*altered"):
        rehearse_rollback(orders)
    assert [(d.passed, sorted(d.candidates)) for d in drills()] == [
        (True, []), (True, sorted((first.digest, second.digest))), (False, sorted((first.digest, second.digest)))
    ]  # fmt: skip

    # And when none went well for more than a week, then that is said.
    assert overdue_rehearsal(orders) == ""
    with transaction() as session:
        session.execute(text("UPDATE rollback_drill SET at = at - interval '9 days'"))
    assert "not rehearsed for 8 days" in overdue_rehearsal(orders)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("errors", r"\d+ requests failed while it took over: status 500"), ("crash_at_load", "game day: .* crashes")],
)
def test_a_release_that_fails_those_who_ask_during_the_switch_is_found(
    orders: UseCase, fault: game_day.Fault, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One client: requests that are answered together are tried once more by themselves when their group fails.
    monkeypatch.setattr(rehearsal, "CLIENTS", 1)
    first, second, third = (release(orders, seed=n, version=n) for n in (1, 2, 3))
    promote(orders, first)
    promote(orders, second, expected=first.digest)
    promote(orders, third, expected=second.digest)
    game_day.plan(first.digest, fault)

    with pytest.raises(RehearsalError, match=f"1 of 2 releases cannot take over: {first.digest[:12]}: .*{words}"):
        rehearse_rollback(orders)


def test_the_form_offers_what_served_before_and_a_pause_does_not_hold_a_rollback_up(orders: UseCase) -> None:
    # Given two champions, and the kill switch pulled.
    first, second = (release(orders, seed=n, version=n) for n in (1, 2))
    promote(orders, first)
    promote(orders, second, expected=first.digest)
    switches.pause(orders.name, "ada", "it flags everyone")

    # When it is rolled back, then it goes, the form offers the one that it came from, and no other promotion passes.
    rollback(orders, who="ada", why="it flags everyone")
    (offered,) = json.loads((get_settings().forms / "tiny_orders.rollback.json").read_text())
    assert offered.startswith(f"{second.digest[:12]} v2, champion from ")
    assert offered.endswith("rolled back from")
    with pytest.raises(PausedError):
        promote(orders, second, expected=first.digest)
