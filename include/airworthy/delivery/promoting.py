"""The switch: promotion by compare-and-set, the workers that follow, the way back, and the watch after it."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.delivery import trial
from airworthy.delivery.choices import offer
from airworthy.errors import PausedError, ReleaseError, ServiceUnavailableError, StaleVerdictError
from airworthy.ledger import deliveries, promotions
from airworthy.ledger.clock import data_now
from airworthy.ledger.models import DeliveryRow, Promotion, ServingWorker
from airworthy.ledger.promotions import Champion
from airworthy.ledger.tallies import Tally, tallies
from airworthy.records import Verdict
from airworthy.serving.champion import UNREAD

log = logging.getLogger(__name__)

# Of the watch: fewer requests say nothing about a share.
MIN_WATCHED = 20
AUTOMATIC = "automatic: "


def promote(use_case: UseCase, row: DeliveryRow, verdict: Verdict) -> DeliveryRow:
    """Make a release champion if the verdict's champion still is, and wait until the workers answer with it.

    Returns:
        The delivery in ``watch``, or at its end: ``stale``, ``inconclusive`` while promotions are paused, or with a rollback:
        ``refused`` when workers could not take it, ``inconclusive`` when all that was wrong is that they could not read it.

    Raises:
        ServiceUnavailableError: workers cannot read it, and there is no earlier champion to go back to; it goes on from here.
    """
    try:
        champion = _promoted(use_case, row, verdict)
    except StaleVerdictError as error:
        return _withdrawn(use_case, row, error.what)
    except PausedError as error:
        return trial.give_up(use_case, row, error.what)
    except ReleaseError as error:
        return trial.finish(use_case, row, "refused", error.what, release=promotions.REMOVED)
    if row.generation != champion.generation:
        row = deliveries.note(row, generation=champion.generation)
    behind, figures = wait_for_workers(use_case, champion.generation)
    if behind or not figures["workers"]:
        # A store that is away is not the release's fault; one worker that had it and could not load it is enough.
        unread = bool(behind) and all(UNREAD in (worker.error or "") for worker in behind)
        if unread and verdict.champion_digest is None:
            raise ServiceUnavailableError(
                f"{_behind(behind)}; there is no earlier champion to go back to",
                next_step="see whether the prediction service reaches the release store; the delivery goes on from here",
            )
        row = deliveries.note(row, evidence={"unread": unread})
        return _undo(use_case, row, champion, verdict.champion_digest, _behind(behind), figures)
    workers, seconds = figures["workers"], figures["switch_seconds"]
    reason = f"generation {champion.generation} answers in {workers:.0f} workers after {seconds:.1f} s"
    moved = deliveries.move(row, "watch", reason + reconcile_aliases(use_case), figures=figures)
    return deliveries.note(moved, generation=champion.generation)


def watch(use_case: UseCase, row: DeliveryRow) -> DeliveryRow:
    """Watch the new champion for ``watch_s``; roll it back when it surely fails more than ``max_error_share``."""
    spec, generation = use_case.delivery, _own_generation(use_case, row)
    while True:
        traffic = promotions.traffic(use_case.name)
        if traffic is None or traffic.champion != row.release_digest:
            return _withdrawn(use_case, row, _gone(promotions.changes(use_case.name)[-1]))
        tally = tallies(use_case.name, generation).get("champion", Tally())
        figures = {"watch": {"requests": tally.requests, "errors": tally.errors}}
        words = f"{tally.errors} of {tally.requests} requests failed after the promotion"
        if fails_more_than(spec.max_error_share, tally, spec.max_false_abort):
            bound = f"more than delivery.max_error_share ({spec.max_error_share:.0%})"
            previous = row.champion_digest
            return _undo(
                use_case, row, Champion(row.release_digest, traffic.generation), previous, f"{words}, {bound}", figures
            )
        if deliveries.waited_s(row) >= spec.watch_s:
            return deliveries.move(row, "done", f"{row.reason}; {words}", figures=figures)
        time.sleep(min(spec.look_s, spec.watch_s))


def fails_more_than(share: float, tally: Tally, false_alarm: float) -> bool:
    """Whether a release surely fails more than a share of its requests, however often one looks.

    The evidence is the likelihood of the errors at other shares against this one, averaged over some of them: with a true
    share of at most this one it ever reaches 1/``false_alarm`` with at most that probability (Ville, 1939).
    """
    if tally.requests < MIN_WATCHED:
        return False
    others = share + (1 - share) * np.array([0.1, 0.3, 0.6, 0.95])
    good = tally.requests - tally.errors
    logs = tally.errors * np.log(others / share) + good * np.log((1 - others) / (1 - share))
    return bool(np.logaddexp.reduce(logs) - np.log(len(logs)) >= -np.log(false_alarm))


def some_worker(use_case: UseCase) -> bool:
    """Whether a worker of the prediction service lives; waits for one."""
    deadline = time.monotonic() + use_case.delivery.switch_timeout_s
    while not promotions.live_workers(use_case.name):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def wait_for_workers(use_case: UseCase, generation: int) -> tuple[list[ServingWorker], dict[str, float]]:
    """Wait until every live worker answers with a generation.

    Returns:
        The workers that do not when time is up, and the figures ``switch_seconds`` and ``workers``.
    """
    started = time.perf_counter()
    behind = promotions.wait_for_generation(use_case.name, generation, use_case.delivery.switch_timeout_s)
    seconds = round(time.perf_counter() - started, 3)
    return behind, {"switch_seconds": seconds, "workers": float(len(promotions.live_workers(use_case.name)))}


def reconcile_aliases(use_case: UseCase) -> str:
    """Bring MLflow's aliases and the form of ``.rollback`` in line with the promotion log; returns what went wrong, in words.

    The log alone says who is champion: a tracking server that is away must not undo a switch.
    """
    offer(use_case)
    try:
        registry.reconcile_aliases(use_case)
    except Exception as error:
        log.exception("the aliases of %s are not reconciled", use_case.name)
        return f"; MLflow's aliases are not in line yet ({type(error).__name__}), housekeeping mends them"
    return ""


def _promoted(use_case: UseCase, row: DeliveryRow, verdict: Verdict) -> Champion:
    """The promotion, made now or before this process was started."""
    present = promotions.champion(use_case.name)
    if present is not None and present.digest == row.release_digest:
        return present
    changes = promotions.changes(use_case.name)
    if any(c.to_digest == row.release_digest and c.at >= row.created_at for c in changes):
        raise StaleVerdictError(_gone(changes[-1]), next_step="nothing: their word counts")
    return promotions.promote(
        use_case.name, row.release_digest, expected=verdict.champion_digest, action="promote", verdict_id=verdict.id,
        who=row.approver or get_settings().who, why=f"{row.run}: {verdict.summary}", data_time=data_now(use_case),
    )  # fmt: skip


def _withdrawn(use_case: UseCase, row: DeliveryRow, why: str) -> DeliveryRow:
    """Another release is champion: by somebody's hand, or by this delivery's own, which was killed after it had gone back."""
    newest = promotions.changes(use_case.name)[-1]
    if newest.from_digest == row.release_digest and newest.why.startswith(AUTOMATIC):
        return _taken_back(use_case, row, f"{newest.why.removeprefix(AUTOMATIC)}; {_back_at(newest)}")
    return trial.finish(use_case, row, "stale", why, release="retired")


def _gone(newest: Promotion) -> str:
    return f"{newest.action} by {newest.who} after the promotion: {newest.why}"


def _back_at(row: Promotion) -> str:
    return f"rolled back to {row.to_digest[:12]}, generation {row.generation}"


def _turned_down(row: DeliveryRow) -> str:
    return "aborted" if row.state == "watch" else "refused"


def _taken_back(use_case: UseCase, row: DeliveryRow, why: str, figures: dict[str, Any] | None = None) -> DeliveryRow:
    """The end after the way back: what workers could not read stays a challenger."""
    if row.evidence.get("unread"):
        return trial.give_up(use_case, row, f"{why}; it stays a challenger", figures)
    return trial.finish(use_case, row, _turned_down(row), why, figures=figures)


def _own_generation(use_case: UseCase, row: DeliveryRow) -> int:
    if row.generation is not None:
        return row.generation
    return next(c.generation for c in reversed(promotions.changes(use_case.name)) if c.to_digest == row.release_digest)


def _undo(
    use_case: UseCase, row: DeliveryRow, champion: Champion, previous: str | None, why: str, figures: dict[str, Any]
) -> DeliveryRow:
    """Go back to the previous champion."""
    state = _turned_down(row)
    if previous is None:
        reason = f"{why}; there is no earlier champion to go back to, the workers keep trying to load this one"
        return trial.finish(use_case, row, state, reason, figures=figures)
    try:
        back = promotions.promote(
            use_case.name, previous, expected=champion.digest, action="rollback", verdict_id=None,
            who=get_settings().who, why=f"{AUTOMATIC}{why}", data_time=data_now(use_case),
        )  # fmt: skip
    except StaleVerdictError as error:
        return trial.finish(use_case, row, state, f"{why}; not rolled back: {error.what}", figures=figures)
    promotions.wait_for_generation(use_case.name, back.generation, use_case.delivery.switch_timeout_s)
    reason = f"{why}; rolled back to {previous[:12]}, generation {back.generation}" + reconcile_aliases(use_case)
    row = deliveries.note(row, generation=back.generation)
    return _taken_back(use_case, row, reason, figures)


def _behind(workers: list[ServingWorker]) -> str:
    if not workers:
        return "no worker of the prediction service was alive after the promotion"
    shown = "; ".join(
        f"{w.instance}/{w.pid} at generation {w.generation}: {w.error or 'no error reported'}" for w in workers[:3]
    )
    return f"{len(workers)} workers did not load it in time ({shown})"
