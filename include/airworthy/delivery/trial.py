"""The trial of a challenger beside the champion: shadow, then canary steps, each ended by what it has seen."""

from __future__ import annotations

import time
from typing import Any

from airworthy.config import UseCase, get_settings
from airworthy.delivery.canary import Decision, Step
from airworthy.delivery.choices import offer
from airworthy.delivery.seen import Observer
from airworthy.errors import PausedError, StaleVerdictError
from airworthy.ledger import deliveries, promotions
from airworthy.ledger.clock import data_now
from airworthy.ledger.models import DeliveryRow
from airworthy.ledger.promotions import Traffic
from airworthy.ledger.tallies import BUCKETS_MS


def first_state(use_case: UseCase, row: DeliveryRow) -> tuple[str, int]:
    """State and step after the approval. Without a champion there is nothing to compare with."""
    return _state_of(use_case, 0) if row.champion_digest else ("promote", 0)


def run(use_case: UseCase, row: DeliveryRow) -> DeliveryRow:
    """See a trial through, from where it stands.

    Args:
        use_case: The use case.
        row: The delivery, in ``shadow`` or ``canary``, claimed by this process.

    Returns:
        The delivery in ``promote``, or at its end; whatever its end, the challenger answers nobody then.

    Raises:
        SupersededError: somebody else goes on with it.
    """
    row = resume_ending(use_case, row)
    while row.state in ("shadow", "canary"):
        try:
            traffic = _put_on_trial(use_case, row)
        except (StaleVerdictError, PausedError) as error:
            row = (
                _intruded(use_case, row) if isinstance(error, StaleVerdictError) else give_up(use_case, row, error.what)
            )
            continue
        if row.generation != traffic.generation:
            row = deliveries.note(row, generation=traffic.generation, restart=True)
        row = _watch(use_case, row)
    return row


def end(use_case: UseCase, row: DeliveryRow, why: str) -> None:
    """Take the challenger's share away, if it has one; safe to repeat."""
    while (traffic := promotions.traffic(use_case.name)) and traffic.challenger == row.release_digest:
        try:
            promotions.try_out(
                use_case.name, None, share=0.0, expected=traffic, action="abort", who=get_settings().who, why=why,
                data_time=data_now(use_case),
            )  # fmt: skip
        except StaleVerdictError:  # somebody wrote another row meanwhile: look again
            continue


def finish(
    use_case: UseCase, row: DeliveryRow, state: str, why: str, *, release: str = "refused",
    figures: dict[str, Any] | None = None,
) -> DeliveryRow:  # fmt: skip
    """End a delivery: the challenger loses its share, the release gets its state, and the end is written down.

    What the end will be is noted first, so that a killed one that is resumed in the middle comes to the same.

    Args:
        use_case: The use case.
        row: The delivery.
        state: One of ``deliveries.ENDS``.
        why: In words.
        release: The release's state from now on; one that became champion by somebody else's hand keeps that. ``refused``
            is for what was found wrong with it, or its verdict.
        figures: What was measured.
    """
    ending = {"state": state, "why": why, "release": release}
    row = deliveries.note(row, evidence={"ending": ending}, figures=figures)
    return _finish(use_case, row)


def give_up(use_case: UseCase, row: DeliveryRow, why: str, figures: dict[str, Any] | None = None) -> DeliveryRow:
    """End it as inconclusive: the release stays a challenger, and the next delivery tries again."""
    return finish(use_case, row, "inconclusive", why, release="challenger", figures=figures)


def resume_ending(use_case: UseCase, row: DeliveryRow) -> DeliveryRow:
    """The end of a delivery that was killed while it ended; any other as it is."""
    return _finish(use_case, row) if "ending" in row.evidence else row


def _finish(use_case: UseCase, row: DeliveryRow) -> DeliveryRow:
    ending = row.evidence["ending"]
    end(use_case, row, ending["why"])
    champion = promotions.champion(use_case.name)
    if champion is None or champion.digest != row.release_digest:
        promotions.set_release_state(row.release_digest, ending["release"], ending["why"])
        offer(use_case)  # what was turned down now may have served before
    return deliveries.move(row, ending["state"], ending["why"])


def _state_of(use_case: UseCase, step: int) -> tuple[str, int]:
    phases = use_case.delivery.phases
    if step >= len(phases):
        return "promote", 0
    return ("canary" if phases[step] else "shadow"), step


def _put_on_trial(use_case: UseCase, row: DeliveryRow) -> Traffic:
    """The row of the promotion log for this step: the one that was written before a kill, or a new one.

    Raises:
        StaleVerdictError: somebody else has changed the log since.
        PausedError: the kill switch is pulled.
    """
    share = use_case.delivery.phases[row.step]
    traffic = promotions.traffic(use_case.name)
    if traffic is None or traffic.champion != row.champion_digest:
        raise _changed(use_case)
    mine = traffic.challenger == row.release_digest
    if row.generation is not None:
        if not mine or traffic.generation != row.generation:
            raise _changed(use_case)
        return traffic
    if mine and traffic.share == share:
        return traffic
    if not mine and (traffic.challenger is not None or row.step > 0):
        raise _changed(use_case)
    return promotions.try_out(
        use_case.name, row.release_digest, share=share, expected=traffic, action="canary" if share else "shadow",
        who=row.approver or get_settings().who, why=f"{row.run}: {row.reason}"[:1000], data_time=data_now(use_case),
    )  # fmt: skip


def _watch(use_case: UseCase, row: DeliveryRow) -> DeliveryRow:
    """Look until the step decides, or somebody else does."""
    spec, generation = use_case.delivery, int(row.generation or 0)
    observer = Observer(use_case, row.release_digest, generation, row.since)
    step = Step(spec, BUCKETS_MS, row.evidence)
    while True:
        traffic = promotions.traffic(use_case.name)
        if traffic is None or traffic.generation != generation:
            return _intruded(use_case, row)
        newest = promotions.releases(use_case.name, "challenger")
        if newest and newest[-1].digest != row.release_digest:
            return superseded(use_case, row, newest[-1].digest)
        waited = deliveries.waited_s(row)
        decision = step.look(observer.seen(), waited)
        figures = {_name(use_case, row): decision.figures | {"seconds": round(waited, 1)}}
        if decision.kind != "hold":
            return _decided(use_case, row, decision, figures)
        row = deliveries.note(row, evidence=step.state, figures=figures)
        time.sleep(spec.look_s)


def superseded(use_case: UseCase, row: DeliveryRow, newer: str) -> DeliveryRow:
    """End it, because a newer challenger waits."""
    return finish(use_case, row, "stale", f"superseded by the newer challenger {newer[:12]}", release="retired")


def _decided(
    use_case: UseCase, row: DeliveryRow, decision: Decision, figures: dict[str, dict[str, float]]
) -> DeliveryRow:
    name, words = _name(use_case, row), decision.words
    if decision.kind == "go on":
        state, step = _state_of(use_case, row.step + 1)
        return deliveries.move(row, state, f"{name}: {words}", step=step, figures=figures)
    if decision.kind == "abort":
        return finish(use_case, row, "aborted", f"{name}: {words}", figures=figures)
    if decision.kind == "unread":
        return give_up(use_case, row, f"{name}: {words}; it stays a challenger", figures)
    if use_case.delivery.on_inconclusive == "promote":
        state, step = _state_of(use_case, row.step + 1)
        why = f"{name} inconclusive ({words}); delivery.on_inconclusive is promote: it goes on"
        return deliveries.move(row, state, why, step=step, figures=figures)
    why = f"{name} inconclusive ({words}); delivery.on_inconclusive is abort: it stays a challenger, deliver it again when there"
    return give_up(use_case, row, f"{why} are requests", figures)


def _intruded(use_case: UseCase, row: DeliveryRow) -> DeliveryRow:
    """Somebody else wrote the promotion log during the trial: their word counts."""
    newest = promotions.promotion_log(use_case.name)[-1]
    by = f"{newest.action} by {newest.who} as generation {newest.generation} ({newest.why})"
    if newest.action == "abort":
        return finish(use_case, row, "aborted", by)
    return finish(use_case, row, "stale", f"during the trial: {by}", release="retired")


def _name(use_case: UseCase, row: DeliveryRow) -> str:
    share = use_case.delivery.phases[row.step]
    return f"canary {share:.0%}" if share else "shadow"


def _changed(use_case: UseCase) -> StaleVerdictError:
    return StaleVerdictError(
        f"the promotion log of {use_case.name} went on without this delivery", next_step="nothing: it ends as stale"
    )
