"""The kill switch stops what is new and never the way back; what people did is kept and not rewritten."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from airworthy.config import Settings
from airworthy.errors import PausedError, ReleaseError, SupersededError
from airworthy.ledger import audit, promotions, switches
from airworthy.ledger.database import transaction
from airworthy.ledger.promotions import Traffic
from airworthy.records import Release

TIME = datetime(2024, 2, 1, tzinfo=UTC)
CASE = "race"


def release(number: int) -> str:
    digest = f"{number:064x}"
    promotions.record_release(
        Release(
            use_case=CASE, digest=digest, model_digest=f"{number + 1000:064x}", version=number, verdict_id=f"v{number}",
            champion_digest=None, run_id="run",
        )
    )  # fmt: skip
    return digest


def promote(to: str, expected: str | None, action: str = "promote") -> None:
    promotions.promote(
        CASE, to, expected=expected, action=action, verdict_id=None, who="test", why="test", data_time=TIME
    )


def try_out(challenger: str | None, share: float, action: str) -> Traffic:
    present = promotions.traffic(CASE)
    assert present is not None
    return promotions.try_out(
        CASE, challenger, share=share, expected=present, action=action, who="test", why="test", data_time=TIME
    )


@pytest.mark.parametrize("held", [CASE, switches.EVERY])
def test_a_pause_refuses_what_is_new_and_lets_the_way_back_go_on(platform_env: Settings, held: str) -> None:
    # Given two releases that were champions, and a third on trial.
    first, second, third = (release(n) for n in range(3))
    promote(first, None)
    promote(second, first)
    try_out(third, 0.1, "canary")

    # When the kill switch is pulled.
    switches.pause(held, "ada", "the pager rings")
    rows = len(promotions.promotion_log(CASE))

    # Then promotion, shadow and canary are refused and leave no row;
    with pytest.raises(PausedError, match="paused by ada"):
        promote(third, second)
    for share, action in ((0.0, "shadow"), (0.5, "canary")):
        with pytest.raises(PausedError):
            try_out(third, share, action)
    assert len(promotions.promotion_log(CASE)) == rows
    # abort and rollback go on;
    try_out(None, 0.0, "abort")
    promote(first, second, "rollback")
    # and after the pause all of it does.
    assert switches.resume(held, "ada", "mended") is None
    promote(third, first)
    assert [(r.who, r.action, r.outcome) for r in audit.actions()] == [
        ("ada", "pause", "paused"), ("ada", "resume", "resumed")
    ]  # fmt: skip


def test_of_two_pauses_the_use_case_stays_paused_until_both_are_gone(platform_env: Settings) -> None:
    # Given a pause of the use case and one of all.
    switches.pause(CASE, "ada", "its data")
    switches.pause(switches.EVERY, "grace", "the network")

    # When the one of the use case ends, then the other still holds it and any other use case.
    left = switches.resume(CASE, "ada", "mended")
    assert left is not None
    assert left.who == "grace"
    assert switches.paused("another") == left
    with pytest.raises(PausedError, match=r"race is not paused\nNext: pauses there are: \*"):
        switches.resume(CASE, "ada", "again")


def test_when_a_pause_has_returned_no_earlier_promotion_can_come_after_it(platform_env: Settings) -> None:
    # Given a promotion that has looked at the switch and has not committed.
    done = threading.Event()
    puller = threading.Thread(target=lambda: (switches.pause(CASE, "ada", "now"), done.set()))
    with transaction() as session:
        switches.refuse_while_paused(session, CASE, "promote")

        # When the switch is pulled, then it waits for that promotion.
        puller.start()
        assert not done.wait(0.7)
    assert done.wait(10)
    puller.join()
    assert switches.paused(CASE) is not None


def test_what_people_did_is_kept(platform_env: Settings) -> None:
    # Given an action that was killed, one that failed, and one that was done.
    with pytest.raises(ReleaseError), audit.acting("ada", "rollback", CASE, "0a1b", "slow", "shell"):
        raise ReleaseError("its files are gone", next_step="choose another")
    with audit.acting("ada", "tidy", audit.PLATFORM, "everything", "", "shell") as act:
        act.outcome = "3 files removed"
    audit.record_action("grace", "forget", "other", "customer c07", "asked by c07", "airflow", outcome="")

    # Then each is a row with its outcome, by use case with those of the platform, and none can be rewritten;
    assert [(r.action, r.outcome) for r in audit.actions()] == [
        ("rollback", "failed: its files are gone"), ("tidy", "3 files removed"), ("forget", "")
    ]  # fmt: skip
    assert [r.action for r in audit.actions(CASE)] == ["rollback", "tidy"]
    for statement in (
        "UPDATE human_action SET who = 'nobody'", "UPDATE human_action SET outcome = 'fine'",
        "UPDATE human_action SET why = 'a better reason'", "DELETE FROM human_action", "TRUNCATE human_action",
    ):  # fmt: skip
        with pytest.raises(DBAPIError, match="not rewritten"), transaction() as session:
            session.execute(text(statement))
    # only words that are forgotten go.
    with transaction() as session:
        session.execute(text("UPDATE human_action SET subject = 'customer [forgotten]', why = 'asked by [forgotten]' "
                             "WHERE action = 'forget'"))  # fmt: skip


def test_an_action_of_a_run_is_never_repeated_in_somebodys_name(platform_env: Settings) -> None:
    # Given a form that was sent off and done, and one whose task was killed.
    with audit.acting("ada", "rollback", CASE, "0a1b", "slow", "airflow", run="race.rollback/1") as act:
        act.outcome = "0a1b to 2c3d"
    audit.record_action("ada", "rollback", CASE, "4e5f", "slower", "airflow", outcome="", run="race.rollback/2")

    # When their tasks run once more, because they were cleared or are tried again, then nothing is done;
    for run in ("race.rollback/1", "race.rollback/2"):
        with (
            pytest.raises(SupersededError, match="an action is not repeated"),
            audit.acting("ada", "rollback", CASE, "0a1b", "slow", "airflow", run=run),
        ):
            pytest.fail("it was done again")
    # what was written down stays, and two actions of a shell are two.
    for _ in range(2):
        with audit.acting("ada", "tidy", CASE, "everything", "", "shell"):
            pass
    assert [(r.action, r.outcome) for r in audit.actions()] == [
        ("rollback", "0a1b to 2c3d"), ("rollback", ""), ("tidy", "done"), ("tidy", "done")
    ]  # fmt: skip
