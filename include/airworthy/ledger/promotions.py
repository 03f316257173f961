"""Releases, the promotion log and what live workers serve. A promotion compares and sets."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.errors import UniqueViolation
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from airworthy.errors import ReleaseError, StaleVerdictError
from airworthy.ledger import switches
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Promotion, ReleaseRow, ServingWorker, VerdictRow
from airworthy.records import Release, Verdict

REMOVED = "removed"
CHANGES = ("promote", "rollback")
HEARTBEAT_LIMIT = timedelta(seconds=10)
# Of two containers instance and process id may be the same, at the same time or one after the other: neither may write
# over what the other says, and counts of the second are added to those of the first.
PROCESS = uuid.uuid4().hex


@dataclass(frozen=True)
class Champion:
    """Who serves, since which generation."""

    digest: str
    generation: int


@dataclass(frozen=True)
class Traffic:
    """Who answers which share of the requests, since which generation.

    Attributes:
        champion: Digest of the champion.
        generation: Of the promotion log.
        challenger: Digest of the release on trial; None without one.
        share: Its share of the requests, in [0, 1); 0 is shadow mode: it answers too, and nobody sees it.
    """

    champion: str
    generation: int
    challenger: str | None = None
    share: float = 0.0


def traffic(use_case: str) -> Traffic | None:
    """Who answers now by the promotion log; None before the first promotion."""
    with transaction() as session:
        row = session.scalar(
            select(Promotion).where(Promotion.use_case == use_case).order_by(Promotion.generation.desc()).limit(1)
        )
    return Traffic(row.to_digest, row.generation, row.challenger_digest, row.share) if row else None


def champion(use_case: str) -> Champion | None:
    """The champion by the promotion log; None before the first promotion."""
    present = traffic(use_case)
    return Champion(present.champion, present.generation) if present else None


def changes(use_case: str) -> list[Promotion]:
    """Every promotion and rollback, oldest first."""
    return [row for row in promotion_log(use_case) if row.action in CHANGES]


def promotion_log(use_case: str) -> list[Promotion]:
    """Every row, oldest first: promotions and rollbacks, and the steps of trials."""
    with transaction() as session:
        return list(
            session.scalars(select(Promotion).where(Promotion.use_case == use_case).order_by(Promotion.generation))
        )


def record_verdict(verdict: Verdict, causes: dict[str, object]) -> None:
    """Keep a verdict; the same id twice is kept once."""
    with transaction() as session:
        session.merge(
            VerdictRow(
                id=verdict.id, use_case=verdict.use_case, model_digest=verdict.model_digest,
                champion_digest=verdict.champion_digest, decision=verdict.decision, mode=verdict.mode, causes=causes,
                record=verdict.to_json(), data_time=verdict.data_time,
            )
        )  # fmt: skip


def get_verdict(verdict_id: str) -> Verdict | None:
    """A verdict by id."""
    with transaction() as session:
        row = session.get(VerdictRow, verdict_id)
    return Verdict.model_validate(row.record) if row else None


def verdicts(use_case: str) -> list[VerdictRow]:
    """Every verdict, oldest first."""
    with transaction() as session:
        return list(
            session.scalars(select(VerdictRow).where(VerdictRow.use_case == use_case).order_by(VerdictRow.judged_at))
        )


def record_release(release: Release, state: str = "challenger") -> Release:
    """Register a release; returns the one release of its verdict: this one, or the one that was there before."""
    row = {**release.model_dump(), "state": state, "record": release.to_json()}
    with transaction() as session:
        # Of two writers the unique (use_case, verdict_id) lets one insert, whatever either looked up before.
        session.execute(insert(ReleaseRow).values(row).on_conflict_do_nothing())
        kept = session.scalars(
            select(ReleaseRow.record).where(
                ReleaseRow.use_case == release.use_case, ReleaseRow.verdict_id == release.verdict_id
            )
        ).one()
    return Release.model_validate(kept)


def get_release(digest: str) -> Release | None:
    """A release by digest."""
    with transaction() as session:
        row = session.get(ReleaseRow, digest)
    return Release.model_validate(row.record) if row else None


def releases(use_case: str, state: str | None = None) -> list[ReleaseRow]:
    """Releases, oldest first, of one state or of all."""
    query = select(ReleaseRow).where(ReleaseRow.use_case == use_case).order_by(ReleaseRow.created_at)
    with transaction() as session:
        return list(session.scalars(query.where(ReleaseRow.state == state) if state else query))


def set_release_state(digest: str, state: str, reason: str = "") -> None:
    """Set a release's state (``challenger | champion | retired | refused | removed``) with the reason."""
    with transaction() as session:
        session.execute(
            update(ReleaseRow)
            .where(ReleaseRow.digest == digest)
            .values(state=state, reason=reason, updated_at=func.now())
        )


def mark_removed(digest: str, reason: str) -> bool:
    """Say that a release's files go, if it is still retired or refused; False when it is not, and nothing may go then."""
    with transaction() as session:
        marked = session.scalar(
            update(ReleaseRow)
            .where(ReleaseRow.digest == digest, ReleaseRow.state.in_(("retired", "refused")))
            .values(state=REMOVED, reason=reason, updated_at=func.now())
            .returning(ReleaseRow.digest)
        )
    return marked is not None


def promote(
    use_case: str,
    to_digest: str,
    *,
    expected: str | None,
    action: str,
    verdict_id: str | None,
    who: str,
    why: str,
    data_time: datetime,
) -> Champion:
    """Make a release champion if the champion is still the expected one; append one row to the promotion log.

    Args:
        use_case, to_digest: What becomes champion.
        expected: Digest of the champion that the decision was based on (None: no champion yet).
        action: ``promote`` or ``rollback``.
        verdict_id: The verdict behind a promotion; a rollback needs none.
        who, why: For the log.
        data_time: The data clock.

    Raises:
        StaleVerdictError: another release became champion meanwhile; nothing was changed.
        PausedError: promotions are paused; nothing was changed. A rollback is never refused for that.
        ReleaseError: retention removed its files; nothing was changed.
    """
    while True:
        current = champion(use_case)
        if (current.digest if current else None) != expected:
            raise _stale(use_case, expected, current)
        generation = current.generation + 1 if current else 1
        row = Promotion(
            use_case=use_case, generation=generation, action=action, from_digest=expected, to_digest=to_digest,
            verdict_id=verdict_id, who=who, why=why, data_time=data_time,
        )  # fmt: skip
        try:
            _promote(row)
        except IntegrityError as error:
            if not isinstance(error.orig, UniqueViolation):
                raise
            continue  # somebody wrote a row meanwhile: a step of a trial leaves the champion as it is
        return Champion(to_digest, generation)


def _promote(row: Promotion) -> None:
    with transaction() as session:
        switches.refuse_while_paused(session, row.use_case, row.action)
        # The unique (use_case, generation) makes this the compare-and-set: of two writers one inserts.
        session.add(row)
        session.flush()
        # Retention takes the same row's lock before it removes files: one of the two sees what the other did.
        state = session.scalar(select(ReleaseRow.state).where(ReleaseRow.digest == row.to_digest).with_for_update())
        if state == REMOVED:
            raise ReleaseError(
                f"the files of release {row.to_digest[:12]} of {row.use_case} were removed by retention",
                next_step="make it again (`airworthy reproduce`), or choose another of `airworthy promotions`",
            )
        session.execute(
            update(ReleaseRow)
            .where(ReleaseRow.use_case == row.use_case, ReleaseRow.state == "champion")
            .values(state="retired", updated_at=func.now())
        )
        session.execute(
            update(ReleaseRow)
            .where(ReleaseRow.digest == row.to_digest)
            .values(state="champion", reason=row.why, updated_at=func.now())
        )


def try_out(
    use_case: str, challenger: str | None, *, share: float, expected: Traffic, action: str, who: str, why: str,
    data_time: datetime,
) -> Traffic:  # fmt: skip
    """Put a challenger beside the champion, change its share, or end its trial; append one row to the promotion log.

    Args:
        use_case: The use case.
        challenger: The release on trial; None ends the trial.
        share: Its share of the requests, in [0, 1).
        expected: What the decision was based on; any row since then makes it stale.
        action: ``shadow`` (share 0), ``canary`` (above 0), or ``abort`` (no challenger).
        who, why: For the log.
        data_time: The data clock.

    Raises:
        StaleVerdictError: the log went on meanwhile; nothing was changed.
        PausedError: promotions are paused; nothing was changed. An abort is never refused for that.
    """
    row = Promotion(
        use_case=use_case, generation=expected.generation + 1, action=action, from_digest=expected.champion,
        to_digest=expected.champion, challenger_digest=challenger, share=share, verdict_id=None, who=who, why=why,
        data_time=data_time,
    )  # fmt: skip
    try:
        with transaction() as session:
            switches.refuse_while_paused(session, use_case, action)
            session.add(row)
    except IntegrityError as error:
        if not isinstance(error.orig, UniqueViolation):
            raise
        raise _stale(use_case, expected.champion, champion(use_case)) from error
    return Traffic(expected.champion, expected.generation + 1, challenger, share)


def _stale(use_case: str, expected: str | None, current: Champion | None) -> StaleVerdictError:
    return StaleVerdictError(
        f"the champion of {use_case} is {current.digest[:12] if current else 'none'}, not "
        f"{expected[:12] if expected else 'none'} that this was decided against",
        next_step="train or judge again: the new verdict will be against the present champion",
    )


def report_worker(
    instance: str, pid: int, use_case: str, generation: int, digest: str | None, error: str | None = None
) -> None:
    """A serving worker's heartbeat: what it has loaded and now answers with."""
    with transaction() as session:
        session.execute(
            text(
                "INSERT INTO serving_worker (instance, pid, process, use_case, generation, digest, heartbeat, error) "
                "VALUES (:instance, :pid, :process, :use_case, :generation, :digest, now(), :error) "
                "ON CONFLICT (instance, pid, process, use_case) DO UPDATE SET generation = EXCLUDED.generation, "
                "digest = EXCLUDED.digest, heartbeat = now(), error = EXCLUDED.error"
            ),
            {
                "instance": instance,
                "pid": pid,
                "process": PROCESS,
                "use_case": use_case,
                "generation": generation,
                "digest": digest,
                "error": error,
            },
        )


def retire_worker(instance: str, pid: int) -> None:
    """A worker that stops in good order says so, and nobody waits for it."""
    with transaction() as session:
        session.execute(
            text("DELETE FROM serving_worker WHERE instance = :i AND pid = :p AND process = :q"),
            {"i": instance, "p": pid, "q": PROCESS},
        )


def live_workers(use_case: str) -> list[ServingWorker]:
    """Workers whose heartbeat is younger than ten seconds."""
    with transaction() as session:
        rows = session.scalars(select(ServingWorker).where(ServingWorker.use_case == use_case)).all()
    return [row for row in rows if wall_now() - row.heartbeat < HEARTBEAT_LIMIT]


def wait_for_generation(use_case: str, generation: int, timeout_s: float) -> list[ServingWorker]:
    """Wait until every live worker serves the generation; returns those that do not when time is up (none: all do)."""
    deadline = time.monotonic() + timeout_s
    while True:
        workers = live_workers(use_case)
        behind = [w for w in workers if w.generation < generation]
        if (workers and not behind) or time.monotonic() > deadline:
            return behind
        time.sleep(0.1)
