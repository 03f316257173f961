"""Deliveries: the state of each, moved by compare-and-set, with every move kept.

``staging -> approval -> shadow -> canary (a step for each share) -> promote -> watch -> done``, or from anywhere to an end:
``refused`` (verdict, staging check, approval, workers that cannot load it), ``aborted`` (a trial found it worse, or the watch
did), ``stale`` (another champion or a newer challenger came), ``inconclusive`` (too little was seen; nothing is wrong with it).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from airworthy.errors import SupersededError
from airworthy.ledger.database import transaction
from airworthy.ledger.models import DeliveryMove, DeliveryRow

OPEN = ("staging", "approval", "shadow", "canary", "promote", "watch")
ENDS = ("done", "refused", "aborted", "stale", "inconclusive")
_AFTER: dict[str, tuple[str, ...]] = {
    "staging": ("approval",),
    "approval": ("shadow", "canary", "promote"),
    "shadow": ("canary", "promote"),
    "canary": ("canary", "promote"),
    "promote": ("watch",),
    "watch": ("done",),
}
LONGEST = 2000


def begin(use_case: str, release: str, champion: str | None, run: str) -> DeliveryRow:
    """Begin the delivery of a release, or take its open one over. An open delivery of another release ends as stale.

    Args:
        use_case: The use case.
        release: Digest of the release.
        champion: Digest of the champion that its verdict was measured against.
        run: Who delivers.

    Raises:
        SupersededError: somebody else begins one at the same moment.
    """
    try:
        with transaction() as session:
            query = select(DeliveryRow).where(DeliveryRow.use_case == use_case, DeliveryRow.state.in_(OPEN))
            row = session.scalar(query.with_for_update())
            if row is not None and row.release_digest == release:
                row.token += 1
                row.run = run
                return row
            if row is not None:
                reason = f"superseded by the newer challenger {release[:12]}"
                session.add(_move(row.id, row.state, "stale", row.step, reason, {}))
                row.state, row.reason, row.since = "stale", reason, func.now()
                session.flush()
            row = DeliveryRow(
                use_case=use_case, release_digest=release, champion_digest=champion, run=run, state=OPEN[0]
            )
            session.add(row)
            session.flush()
            session.refresh(row)
            session.add(_move(row.id, None, OPEN[0], 0, f"begun by {run}", {}))
            return row
    except IntegrityError as error:
        raise SupersededError(
            f"another delivery of {use_case} began at this moment", next_step="nothing: that one goes on"
        ) from error


def claim(number: int, run: str) -> DeliveryRow:
    """Take a delivery over: whoever held it stands down at its next write. One that has ended is returned as it is.

    Args:
        number: The delivery's id.
        run: Who goes on with it.
    """
    with transaction() as session:
        row = session.get_one(DeliveryRow, number, with_for_update=True)
        if row.state in OPEN:
            row.token += 1
            row.run = run
        return row


def open_delivery(use_case: str) -> DeliveryRow | None:
    """The delivery under way, if there is one."""
    with transaction() as session:
        return session.scalar(select(DeliveryRow).where(DeliveryRow.use_case == use_case, DeliveryRow.state.in_(OPEN)))


def get(number: int) -> DeliveryRow:
    """A delivery by id."""
    with transaction() as session:
        return session.get_one(DeliveryRow, number)


def deliveries(use_case: str | None = None) -> list[DeliveryRow]:
    """Deliveries, oldest first; of one use case or of all."""
    query = select(DeliveryRow).order_by(DeliveryRow.id)
    with transaction() as session:
        return list(session.scalars(query.where(DeliveryRow.use_case == use_case) if use_case else query))


def moves(number: int) -> list[DeliveryMove]:
    """Every move of a delivery, oldest first."""
    with transaction() as session:
        return list(
            session.scalars(select(DeliveryMove).where(DeliveryMove.delivery_id == number).order_by(DeliveryMove.id))
        )


def never_served(use_case: str) -> set[str]:
    """Digests of releases that were delivered, and that all live workers never acknowledged: they did not come to ``watch``.

    One that was promoted and taken back because workers could not load it is in the promotion log all the same.
    """
    seen = select(DeliveryMove.delivery_id).where(DeliveryMove.to_state.in_(("watch", "done")))
    acknowledged = func.bool_or(DeliveryRow.id.in_(seen))
    query = select(DeliveryRow.release_digest).where(DeliveryRow.use_case == use_case)
    with transaction() as session:
        return set(session.scalars(query.group_by(DeliveryRow.release_digest).having(~acknowledged)))


def move(
    row: DeliveryRow, state: str, reason: str, *, step: int = 0, figures: dict[str, Any] | None = None,
    approver: str | None = None,
) -> DeliveryRow:  # fmt: skip
    """Move a delivery on, if it is still where ``row`` says and nobody has taken it over. A new state begins without evidence.

    Args:
        row: The delivery as it was read or moved last.
        state: Where it goes; an end, or a state that may follow.
        reason: Why, in words.
        step: Number of the canary step.
        figures: What was measured; kept with the move, and added to the delivery's figures.
        approver: Who approved it.

    Raises:
        SupersededError: it moved meanwhile, or somebody else goes on with it.
        ValueError: no such move exists.
    """
    if state not in ENDS and state not in _AFTER.get(row.state, ()):
        raise ValueError(f"a delivery does not move from {row.state} to {state}")
    values: dict[str, Any] = {
        "state": state, "step": step, "reason": reason[:LONGEST], "since": func.now(), "evidence": {},
        "figures": row.figures | (figures or {}), "generation": row.generation if state in ENDS else None,
    }  # fmt: skip
    return _set(row, values | ({"approver": approver} if approver else {}), (state, step, reason, figures or {}))


def note(
    row: DeliveryRow, *, generation: int | None = None, evidence: dict[str, Any] | None = None,
    figures: dict[str, Any] | None = None, restart: bool = False,
) -> DeliveryRow:  # fmt: skip
    """Write down what the present state knows so far, under the same conditions as ``move``.

    Args:
        row: The delivery as it was read or moved last.
        generation: The row of the promotion log that this state wrote.
        evidence: What the trial has seen.
        figures: Added to the delivery's figures.
        restart: The state's time counts from now.

    Raises:
        SupersededError: it moved meanwhile, or somebody else goes on with it.
    """
    values: dict[str, Any] = {
        "generation": row.generation if generation is None else generation,
        "evidence": row.evidence if evidence is None else evidence, "figures": row.figures | (figures or {}),
    }  # fmt: skip
    return _set(row, values | ({"since": func.now()} if restart else {}), None)


def waited_s(row: DeliveryRow) -> float:
    """Seconds since the state began, by the ledger's clock."""
    with transaction() as session:
        now: datetime = session.scalar(select(func.clock_timestamp())) or row.since
    return (now - row.since).total_seconds()


def _set(row: DeliveryRow, values: dict[str, Any], moved: tuple[str, int, str, dict[str, Any]] | None) -> DeliveryRow:
    with transaction() as session:
        found = session.scalar(
            update(DeliveryRow)
            .where(
                DeliveryRow.id == row.id, DeliveryRow.token == row.token, DeliveryRow.state == row.state,
                DeliveryRow.step == row.step,
            )
            .values(**values)
            .returning(DeliveryRow)
        )  # fmt: skip
        if found is None:
            present = session.get_one(DeliveryRow, row.id)
            raise SupersededError(
                f"delivery {row.id} of {row.use_case} is {present.state}, in the hands of {present.run}: this one, which "
                f"saw it in {row.state}, stands down",
                next_step="nothing: the other one goes on",
            )
        if moved:
            session.add(_move(row.id, row.state, *moved))
        return found


def _move(number: int, source: str | None, state: str, step: int, reason: str, figures: dict[str, Any]) -> DeliveryMove:
    return DeliveryMove(
        delivery_id=number, from_state=source, to_state=state, step=step, reason=reason[:LONGEST], figures=figures
    )
