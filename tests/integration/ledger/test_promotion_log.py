"""The promotion log: one winner of each generation, a linear history that nobody can rewrite."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from airworthy.config import Settings, UseCase, load_use_case
from airworthy.errors import StaleVerdictError
from airworthy.ledger import promotions
from airworthy.ledger.database import migrate, transaction
from airworthy.records import Release
from airworthy.registry.aliases import reconcile

TIME = datetime(2024, 2, 1, tzinfo=UTC)
CASE = "race"
PROMOTERS, ROUNDS = 6, 56  # with three use cases: 1008 decisions


def release(number: int, case: str = CASE, digest: str = "") -> Release:
    made = Release(
        use_case=case, digest=digest or f"{number:064x}", model_digest=f"{number + 1000:064x}", version=number,
        verdict_id=f"v{number}", champion_digest=None, run_id="run",
    )  # fmt: skip
    promotions.record_release(made)
    return made


def promote(digest: str, expected: str | None, action: str = "promote") -> promotions.Champion:
    return promotions.promote(
        CASE, digest, expected=expected, action=action, verdict_id=None, who="test", why="test", data_time=TIME
    )


@pytest.fixture
def promoters(platform_env: Settings) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that promote when they are told to; each with a seed of its own."""
    started = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("promoter.py")), str(seed), *"abcdefgh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(PROMOTERS)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    yield started
    for process in started:
        process.communicate(timeout=180)


def test_of_racing_promoters_and_rollbacks_one_wins_each_generation(
    promoters: list[subprocess.Popen[str]], mlflow_server: str
) -> None:
    mlflow = MlflowClient(mlflow_server)
    for case in ("first", "second", "third"):
        # Given eight releases and processes, each of which decides on the champion that it saw and then dawdles.
        model = f"{case}-{secrets.token_hex(4)}"
        mlflow.create_registered_model(model)
        for number, name in enumerate("abcdefgh", start=1):
            mlflow.create_model_version(model, source=f"s3://nowhere/{name}")
            release(number, case, f"{case}-{name}")
        use_case = load_use_case("tiny_orders").model_copy(update={"name": case})
        # And a reconciler that sets MLflow's aliases all the while.
        stop = threading.Event()
        reconciler = threading.Thread(target=reconciling, args=(stop, mlflow, model, use_case))
        reconciler.start()

        # When all of them decide at once, again and again.
        told = []
        for _ in range(ROUNDS):
            for process in promoters:
                assert process.stdin is not None
                process.stdin.write(f"{case}\n")
                process.stdin.flush()
            told += [json.loads(process.stdout.readline()) for process in promoters if process.stdout is not None]
        stop.set()
        reconciler.join()

        # Then the log is exactly what the winners were told, without a gap or a fork, and the rest were told to judge again.
        log, wins = promotions.promotion_log(case), [tuple(one["won"]) for one in told if "won" in one]
        assert [row.generation for row in log] == list(range(1, len(log) + 1))
        assert log[0].from_digest is None
        assert all(after.from_digest == before.to_digest for before, after in pairwise(log))
        assert sorted(wins) == [(row.generation, row.from_digest, row.to_digest) for row in log]
        assert ROUNDS <= len(log) < ROUNDS * PROMOTERS, "nobody ever lost: they did not race"
        assert [r.digest for r in promotions.releases(case, "champion")] == [log[-1].to_digest]
        assert len(told) == ROUNDS * PROMOTERS

        # And once it has looked again, the aliases say what the log says.
        reconcile(mlflow, model, use_case)
        aliases = {
            name: f"{case}-{'abcdefgh'[int(v) - 1]}" for name, v in mlflow.get_registered_model(model).aliases.items()
        }
        assert (aliases["champion"], aliases["previous"]) == (log[-1].to_digest, log[-1].from_digest)


def reconciling(stop: threading.Event, mlflow: MlflowClient, model: str, use_case: UseCase) -> None:
    while not stop.wait(0.05):
        reconcile(mlflow, model, use_case)


def test_a_verdict_about_an_earlier_champion_is_stale(platform_env: Settings) -> None:
    first, second, third = (release(n).digest for n in range(3))
    promote(first, None)
    promote(second, first)
    for expected in (None, first, third):
        with pytest.raises(StaleVerdictError, match="the champion of race is"):
            promote(third, expected)
    assert promotions.champion(CASE) == promotions.Champion(second, 2)


FORBIDDEN = {
    "changed": "UPDATE promotion SET who = 'nobody'",
    "deleted": "DELETE FROM promotion WHERE generation = 2",
    "emptied": "TRUNCATE promotion",
}
INSERT = (
    "INSERT INTO promotion (use_case, generation, action, from_digest, to_digest, who, why, data_time) "
    "VALUES ('race', {generation}, 'promote', {origin}, 'x', 'somebody', 'by hand', now())"
)


@pytest.mark.parametrize("statement", FORBIDDEN.values(), ids=FORBIDDEN)
def test_nobody_rewrites_history(platform_env: Settings, statement: str) -> None:
    first, second = (release(n).digest for n in range(2))
    promote(first, None)
    promote(second, first)
    before = [(r.generation, r.who, r.to_digest) for r in promotions.promotion_log(CASE)]

    with pytest.raises(DBAPIError, match="append-only"), transaction() as session:
        session.execute(text(statement))

    assert [(r.generation, r.who, r.to_digest) for r in promotions.promotion_log(CASE)] == before


def test_a_row_written_by_hand_must_follow_the_log(platform_env: Settings) -> None:
    first = release(0).digest
    promote(first, None)
    for generation, origin in ((3, f"'{first}'"), (2, "NULL"), (2, "'another'")):
        with pytest.raises(DBAPIError, match="does not follow"), transaction() as session:
            session.execute(text(INSERT.format(generation=generation, origin=origin)))
    with transaction() as session:
        session.execute(text(INSERT.format(generation=2, origin=f"'{first}'")))
    assert len(promotions.promotion_log(CASE)) == 2


def try_out(digest: str | None, share: float, expected: promotions.Traffic | None) -> promotions.Traffic:
    assert expected is not None
    action = ("canary" if share else "shadow") if digest else "abort"
    return promotions.try_out(
        CASE, digest, share=share, expected=expected, action=action, who="test", why="test", data_time=TIME
    )


def test_a_trial_leaves_the_champion_and_ends_with_the_next_promotion(platform_env: Settings) -> None:
    first, second = (release(n).digest for n in range(2))
    promote(first, None)

    shadow = try_out(second, 0.0, promotions.traffic(CASE))
    canary = try_out(second, 0.25, shadow)

    assert promotions.traffic(CASE) == canary == promotions.Traffic(first, 3, second, 0.25)
    assert promotions.champion(CASE) == promotions.Champion(first, 3)
    promote(second, first)
    assert promotions.traffic(CASE) == promotions.Traffic(second, 4)
    assert [row.action for row in promotions.changes(CASE)] == ["promote", "promote"]
    assert [row.action for row in promotions.promotion_log(CASE)] == ["promote", "shadow", "canary", "promote"]


def test_a_step_of_a_trial_that_was_decided_on_an_older_row_is_stale(platform_env: Settings) -> None:
    first, second = (release(n).digest for n in range(2))
    promote(first, None)
    seen = promotions.traffic(CASE)
    ended = try_out(None, 0.0, try_out(second, 0.0, seen))

    for share in (0.0, 0.5):
        with pytest.raises(StaleVerdictError):
            try_out(second, share, seen)

    assert promotions.traffic(CASE) == ended == promotions.Traffic(first, 3)


def test_a_rollback_that_meets_a_step_of_a_trial_comes_after_it(
    platform_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a champion with one before it, and a trial that takes its next step just when a rollback has read the log.
    first, second, third = (release(n).digest for n in range(3))
    promote(first, None)
    promote(second, first)
    read, steps = promotions.champion, iter((0.0, 0.25))

    def champion(use_case: str) -> promotions.Champion | None:
        found = read(use_case)
        share = next(steps, None)
        if share is not None:
            try_out(third, share, promotions.traffic(CASE))
        return found

    monkeypatch.setattr(promotions, "champion", champion)

    # When it is written, its generation is taken, twice, and yet the champion is the one that it was decided against.
    back = promote(first, second, "rollback")

    assert back == promotions.Champion(first, 5)
    assert promotions.traffic(CASE) == promotions.Traffic(first, 5)
    assert [r.action for r in promotions.promotion_log(CASE)][2:] == ["shadow", "canary", "rollback"]


@pytest.mark.parametrize(("action", "share"), [("canary", 0.0), ("canary", 1.0), ("shadow", 0.1), ("promote", 0.0)])
def test_a_trial_that_makes_no_sense_is_refused_by_the_database(
    platform_env: Settings, action: str, share: float
) -> None:
    first, second = (release(n).digest for n in range(2))
    promote(first, None)
    seen = promotions.traffic(CASE)
    assert seen is not None
    with pytest.raises(DBAPIError, match="ck_promotion_trial"):
        promotions.try_out(
            CASE, second, share=share, expected=seen, action=action, who="test", why="test", data_time=TIME
        )
    assert promotions.traffic(CASE) == seen


def test_what_registered_twice_before_there_was_a_guard_is_one_release(platform_env: Settings) -> None:
    # Given a ledger from before, with a second challenger of two verdicts; of one of them the later one is champion.
    rows = [release(n) for n in range(4)]
    with transaction() as session:
        session.execute(text("ALTER TABLE release DROP CONSTRAINT uq_release_verdict"))
        session.execute(text("UPDATE alembic_version SET version_num = '0014'"))
        for first, late in ((0, 1), (2, 3)):
            session.execute(
                text(
                    "UPDATE release SET verdict_id = :v, created_at = now() + :late * interval '1s' WHERE digest = :d"
                ),
                [{"v": f"v{first}", "late": n, "d": rows[n].digest} for n in (first, late)],
            )
    promote(rows[3].digest, None)

    # When the ledger is brought to the present schema.
    migrate()

    # Then the one that was there first, or that somebody used, is the verdict's release.
    assert {r.digest for r in promotions.releases(CASE)} == {rows[0].digest, rows[3].digest}
    assert promotions.record_release(rows[1].model_copy(update={"verdict_id": "v0"})).digest == rows[0].digest
