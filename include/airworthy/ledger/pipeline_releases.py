"""Releases of the pipeline itself: what was built, what became of each revision, and the switches. A switch compares and sets."""

from __future__ import annotations

from psycopg.errors import UniqueViolation
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from airworthy.errors import StaleVerdictError
from airworthy.ledger import audit
from airworthy.ledger.database import transaction
from airworthy.ledger.models import PipelineRelease, PipelineRequest, PipelineSwitch

ASKED, SWITCHED, REFUSED, FELL_BACK = "asked", "switched", "refused", "fell_back"
REJECTED = "rejected"
STAGING, PRODUCTION = "staging", "production"


def record_built(digest: str, revision: str, record: dict[str, object]) -> None:
    """Note a release that was built; the same digest twice changes nothing."""
    row = insert(PipelineRelease).values(digest=digest, revision=revision, record=record)
    with transaction() as session:
        session.execute(row.on_conflict_do_nothing())


def record_staged(digest: str, staged: dict[str, object]) -> None:
    """Note what came of a release's staging run, which it passed."""
    with transaction() as session:
        session.execute(
            update(PipelineRelease).where(PipelineRelease.digest == digest).values(staged=staged, staged_at=func.now())
        )


def built() -> list[PipelineRelease]:
    """Every release that was built, oldest first."""
    with transaction() as session:
        return list(session.scalars(select(PipelineRelease).order_by(PipelineRelease.built_at)))


def find_built(digest: str) -> PipelineRelease | None:
    """A release by digest."""
    with transaction() as session:
        return session.get(PipelineRelease, digest)


def take(revision: str, target: str, run: str) -> PipelineRequest:
    """Note that a run takes a revision to a target; a retry of the run finds its row."""
    row = insert(PipelineRequest).values(revision=revision, target=target, run=run)
    with transaction() as session:
        session.execute(row.on_conflict_do_nothing())
        return session.scalars(select(PipelineRequest).where(PipelineRequest.run == run)).one()


def note(run: str, state: str, *, digest: str | None = None, reason: str = "") -> None:
    """What became of the revision that a run took."""
    values: dict[str, object] = {"state": state, "reason": reason[:1000], "updated_at": func.now()}
    with transaction() as session:
        session.execute(
            update(PipelineRequest)
            .where(PipelineRequest.run == run)
            .values(values | ({"digest": digest} if digest else {}))
        )


def reject(run: str, digest: str, *, who: str, why: str, reason: str) -> None:
    """Note that a person turned a release down, with what people did; once, however often the run says so.

    Args:
        run: The run that asked.
        digest: The release.
        who: The person; empty when nobody answered in time, which is nobody's action.
        why: The reason that was given.
        reason: In words, for the request.
    """
    with transaction() as session:
        changed = session.scalar(
            update(PipelineRequest)
            .where(PipelineRequest.run == run, PipelineRequest.state != REJECTED)
            .values(state=REJECTED, reason=reason[:1000], updated_at=func.now())
            .returning(PipelineRequest.id)
        )
        if changed is not None and who:
            audit.record_action(
                who, "reject pipeline release", audit.PLATFORM, digest, why, "airflow", run, session=session
            )


def requests() -> list[PipelineRequest]:
    """Every revision that was taken, oldest first."""
    with transaction() as session:
        return list(session.scalars(select(PipelineRequest).order_by(PipelineRequest.id)))


def open_requests() -> list[PipelineRequest]:
    """Those that are on their way: to a build, a staging run, an approval or a switch."""
    on = (PipelineRequest.state == "staged") & (PipelineRequest.target == PRODUCTION)
    with transaction() as session:
        return list(session.scalars(select(PipelineRequest).where(PipelineRequest.state.in_(("taken", "built")) | on)))


def taken() -> set[tuple[str, str]]:
    """(revision, target) of everything that a run took already."""
    return {(row.revision, row.target) for row in requests()}


def current() -> str | None:
    """Digest of the release that runs by the ledger; None: the checkout."""
    with transaction() as session:
        return session.scalar(
            select(PipelineSwitch.to_digest)
            .where(PipelineSwitch.state == SWITCHED)
            .order_by(PipelineSwitch.generation.desc())
            .limit(1)
        )


def ask(to_digest: str | None, *, expected: str | None, who: str, why: str) -> int:
    """Ask for a switch if what runs is still the expected release, and no other switch is going on.

    Args:
        to_digest: The release that is to run; None: the checkout.
        expected: Digest of the release that the decision was based on; None: the checkout.
        who, why: For the log.

    Returns:
        The switch's generation.

    Raises:
        StaleVerdictError: another release runs now, or another switch was asked for: nothing was changed.
    """
    try:
        with transaction() as session:
            newest = session.scalar(select(func.max(PipelineSwitch.generation))) or 0
            present = current()
            if present != expected:
                raise _stale(f"release {_short(present)} of the pipeline runs, not {_short(expected)}")
            session.add(
                PipelineSwitch(generation=newest + 1, from_digest=expected, to_digest=to_digest, who=who, why=why)
            )
        return newest + 1
    except IntegrityError as error:
        if not isinstance(error.orig, UniqueViolation):
            raise
        raise _stale("another switch of the pipeline's release is going on") from error


def open_switch() -> PipelineSwitch | None:
    """The switch that was asked for and has not ended; None when there is none."""
    with transaction() as session:
        return session.scalar(select(PipelineSwitch).where(PipelineSwitch.state == ASKED))


def find_switch(generation: int) -> PipelineSwitch | None:
    """A switch by generation."""
    with transaction() as session:
        return session.get(PipelineSwitch, generation)


def switches() -> list[PipelineSwitch]:
    """Every switch, oldest first."""
    with transaction() as session:
        return list(session.scalars(select(PipelineSwitch).order_by(PipelineSwitch.generation)))


def end_switch(generation: int, state: str, reason: str) -> None:
    """Note how a switch ended; one that ended already keeps its end."""
    with transaction() as session:
        session.execute(
            update(PipelineSwitch)
            .where(PipelineSwitch.generation == generation, PipelineSwitch.state == ASKED)
            .values(state=state, reason=reason[:2000], ended_at=func.now())
        )


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none (the checkout)"


def _stale(what: str) -> StaleVerdictError:
    return StaleVerdictError(what, next_step="see `airworthy release status`, and decide again")
