"""A delivery: the newest challenger is held against its verdict, tried in staging, promoted, and seen to answer."""

from __future__ import annotations

import logging
import time

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.delivery import staging
from airworthy.errors import ReleaseError, StaleVerdictError
from airworthy.ledger import promotions
from airworthy.ledger.clock import data_now
from airworthy.ledger.models import ServingWorker
from airworthy.ledger.promotions import Champion
from airworthy.records import DeliveryOutcome, Release, Verdict

log = logging.getLogger(__name__)


def deliver(use_case: UseCase, *, run: str) -> DeliveryOutcome:
    """Deliver the newest challenger; older ones are retired as superseded. Running it again changes nothing more.

    Args:
        use_case: The use case.
        run: Who delivers (the Airflow run, a command); kept in the promotion log.

    Returns:
        ``promoted`` when every live worker answers with it; ``stale`` when the champion is no longer the one that the
        verdict was measured against; ``refused`` with the reason otherwise.
    """
    release = _newest_challenger(use_case)
    if release is None:
        return _resume(use_case, run) or _outcome(
            use_case, "", "refused", "no challenger: nothing passed the gate since the last delivery"
        )
    try:
        verdict = _check_verdict(use_case, release)
        registry.verify(release.digest)
        figures = staging.check(use_case, release.digest)
    except StaleVerdictError as error:
        return _turn_down(use_case, release, "stale", error.what)
    except (ReleaseError, staging.StagingError) as error:
        return _turn_down(use_case, release, "refused", error.what)
    if not _some_worker(use_case):
        # Nothing is wrong with the release: it stays a challenger, and the next delivery tries again.
        reason = (
            f"no live worker of the prediction service within {use_case.delivery.switch_timeout_s:.0f} s; "
            "start the service and deliver again"
        )
        promotions.set_release_state(release.digest, "challenger", reason)
        return _outcome(use_case, release.digest, "refused", reason, figures=figures)
    try:
        champion = promotions.promote(
            use_case.name, release.digest, expected=verdict.champion_digest, action="promote", verdict_id=verdict.id,
            who=get_settings().who, why=_why(run, verdict.summary), data_time=data_now(use_case),
        )  # fmt: skip
    except StaleVerdictError as error:
        return _turn_down(use_case, release, "stale", error.what)
    return _switch(use_case, champion, verdict.champion_digest, figures)


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
    from airworthy.delivery.choices import offer

    offer(use_case)
    try:
        registry.reconcile_aliases(use_case)
    except Exception as error:
        log.exception("the aliases of %s are not reconciled", use_case.name)
        return f"; MLflow's aliases are not in line yet ({type(error).__name__}), housekeeping mends them"
    return ""


def _newest_challenger(use_case: UseCase) -> Release | None:
    challengers = promotions.releases(use_case.name, "challenger")
    if not challengers:
        return None
    *older, newest = challengers
    for row in older:
        promotions.set_release_state(row.digest, "retired", f"superseded by {newest.digest[:12]}")
    return Release.model_validate(newest.record)


def _check_verdict(use_case: UseCase, release: Release) -> Verdict:
    """The verdict behind a release.

    Raises:
        ReleaseError: there is none, or it does not allow this promotion.
        StaleVerdictError: the champion is no longer the one that it was measured against.
    """
    verdict = promotions.get_verdict(release.verdict_id)
    if verdict is None:
        raise _no_verdict(f"release {release.digest[:12]} has no verdict {release.verdict_id!r}")
    if (verdict.use_case, verdict.model_digest) != (use_case.name, release.model_digest):
        raise _no_verdict(
            f"verdict {verdict.id} is about {verdict.use_case} {verdict.model_digest[:12]}, "
            f"not about the model of release {release.digest[:12]}"
        )
    if verdict.decision != "pass" or verdict.mode != "enabled":
        raise _no_verdict(f"verdict {verdict.id} is {verdict.decision} in mode {verdict.mode}: {verdict.summary}")
    present = promotions.champion(use_case.name)
    if (present.digest if present else None) != verdict.champion_digest:
        raise StaleVerdictError(
            f"stale verdict: {verdict.id} was measured against {_short(verdict.champion_digest)}, "
            f"the champion now is {_short(present.digest if present else None)}",
            next_step="train or judge again: the new verdict will be against the present champion",
        )
    return verdict


def _no_verdict(what: str) -> ReleaseError:
    return ReleaseError(what, next_step="let the gate judge the candidate; nothing serves without a passed verdict")


def _some_worker(use_case: UseCase) -> bool:
    deadline = time.monotonic() + use_case.delivery.switch_timeout_s
    while not promotions.live_workers(use_case.name):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _switch(use_case: UseCase, champion: Champion, previous: str | None, figures: dict[str, float]) -> DeliveryOutcome:
    behind, switched = wait_for_workers(use_case, champion.generation)
    figures = {**figures, **switched}
    if behind or not switched["workers"]:
        return _undo(use_case, champion, previous, _behind(behind), figures)
    workers, seconds = switched["workers"], switched["switch_seconds"]
    reason = f"generation {champion.generation} answers in {workers:.0f} workers after {seconds:.1f} s"
    reason += reconcile_aliases(use_case)
    return _outcome(use_case, champion.digest, "promoted", reason, generation=champion.generation, figures=figures)


def _undo(
    use_case: UseCase, champion: Champion, previous: str | None, why: str, figures: dict[str, float]
) -> DeliveryOutcome:
    """Go back to the previous champion: the workers could not take the new one."""
    if previous is None:
        reason = f"{why}; there is no earlier champion to go back to, the workers keep trying to load this one"
        return _outcome(use_case, champion.digest, "refused", reason, generation=champion.generation, figures=figures)
    try:
        back = promotions.promote(
            use_case.name, previous, expected=champion.digest, action="rollback", verdict_id=None,
            who=get_settings().who, why=f"automatic: {why}", data_time=data_now(use_case),
        )  # fmt: skip
    except StaleVerdictError as error:
        return _turn_down(use_case, champion, "refused", f"{why}; not rolled back: {error.what}", figures=figures)
    promotions.wait_for_generation(use_case.name, back.generation, use_case.delivery.switch_timeout_s)
    reason = f"{why}; rolled back to {_short(previous)}, generation {back.generation}" + reconcile_aliases(use_case)
    return _turn_down(use_case, champion, "refused", reason, generation=back.generation, figures=figures)


def _resume(use_case: UseCase, run: str) -> DeliveryOutcome | None:
    """A retry of a run that promoted and died before it said so: see its switch through."""
    rows = promotions.changes(use_case.name)
    if not rows or rows[-1].action != "promote" or not rows[-1].why.startswith(_why(run, "")):
        return None
    return _switch(use_case, Champion(rows[-1].to_digest, rows[-1].generation), rows[-1].from_digest, {})


def _why(run: str, summary: str) -> str:
    return f"{run}: {summary}"


def _behind(workers: list[ServingWorker]) -> str:
    if not workers:
        return "no worker of the prediction service was alive after the promotion"
    shown = "; ".join(
        f"{w.instance}/{w.pid} at generation {w.generation}: {w.error or 'no error reported'}" for w in workers[:3]
    )
    return f"{len(workers)} workers did not load it in time ({shown})"


def _turn_down(
    use_case: UseCase, release: Release | Champion, status: str, reason: str, *, generation: int | None = None,
    figures: dict[str, float] | None = None,
) -> DeliveryOutcome:  # fmt: skip
    promotions.set_release_state(release.digest, "refused", reason)
    return _outcome(use_case, release.digest, status, reason, generation=generation, figures=figures)


def _outcome(
    use_case: UseCase,
    release: str,
    status: str,
    reason: str,
    *,
    generation: int | None = None,
    figures: dict[str, float] | None = None,
) -> DeliveryOutcome:
    log.info("delivery of %s %s: %s, %s", use_case.name, release[:12], status, reason)
    return DeliveryOutcome.model_validate(
        {
            "use_case": use_case.name,
            "release": release,
            "status": status,
            "generation": generation,
            "reason": reason,
            "figures": figures or {},
        }
    )


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "no champion"
