"""A delivery, from the newest challenger to the champion that answers: each stage goes on from where the ledger says it stands."""

from __future__ import annotations

import logging
from typing import Any

from airworthy import registry
from airworthy.config import UseCase
from airworthy.delivery import promoting, staging, trial
from airworthy.errors import ReleaseError, StaleVerdictError
from airworthy.ledger import deliveries, promotions, switches
from airworthy.ledger.audit import Via, record_action
from airworthy.ledger.models import DeliveryRow
from airworthy.records import DeliveryOutcome, Release, Verdict

log = logging.getLogger(__name__)


def deliver(use_case: UseCase, *, run: str, approve: tuple[str, str] | None = None) -> DeliveryOutcome:
    """Deliver the newest challenger, all stages in this process; what was begun is gone on with.

    Args:
        use_case: The use case.
        run: Who delivers (the Airflow run, a command); kept in the ledger and in the promotion log.
        approve: Who approves it, and why, where ``delivery.approval`` is ``manual``; without it such a delivery waits in
            ``approval``.

    Returns:
        Where it stands in the end; ``done`` when every live worker answers with it and the watch found nothing.
    """
    outcome = stage(use_case, run=run)
    if outcome.delivery is None or outcome.ended:
        return outcome
    number = outcome.delivery
    if outcome.status == "approval" and use_case.delivery.approval == "manual":
        if approve is None:
            return outcome
        settle(use_case, number, run=run, who=approve[0], approved=True, why=approve[1], via="shell")
    else:
        settle(use_case, number, run=run)
    for step in (try_out, promote, watch):
        outcome = step(use_case, number, run=run)
        if outcome.ended:
            break
    return outcome


def stage(use_case: UseCase, *, run: str) -> DeliveryOutcome:
    """Find what is to be delivered, hold it against its verdict, and try it in a clean process.

    A delivery that was interrupted is taken up again, unless a newer challenger waits.

    Returns:
        The delivery, in ``approval`` or later, or at its end; without a release when there is no challenger.
    """
    row = _begin(use_case, run)
    if row is None:
        mine = [d for d in deliveries.deliveries(use_case.name) if d.run == run]
        words = "no challenger: nothing passed the gate since the last delivery"
        return _outcome(mine[-1]) if mine else _nothing(use_case, words)
    row = trial.resume_ending(use_case, row)
    if row.state != "staging":
        return _outcome(row)
    try:
        release = _release(row)
        verdict = check_verdict(use_case, release)
        registry.verify(release.digest)
        figures = staging.check(use_case, release.digest)
    except StaleVerdictError as error:
        return _outcome(trial.finish(use_case, row, "stale", error.what))
    except (ReleaseError, staging.StagingError) as error:
        return _outcome(trial.finish(use_case, row, "refused", error.what))
    if not promoting.some_worker(use_case):
        # Nothing is wrong with the release: it stays a challenger, and the next delivery tries again.
        waited = f"{use_case.delivery.switch_timeout_s:.0f} s"
        reason = f"no live worker of the prediction service within {waited}; start the service and deliver again"
        return _outcome(trial.give_up(use_case, row, reason, figures))
    return _outcome(deliveries.move(row, "approval", f"staging check passed: {verdict.summary}", figures=figures))


def again(use_case: UseCase, digest: str, *, why: str) -> Release:
    """Make a release that was turned down or rolled back a challenger again; the next delivery takes it.

    Args:
        use_case: The use case.
        digest: First digits of its digest.
        why: The reason, kept as the release's.

    Raises:
        ReleaseError: no release, or several, or one that is a challenger or champion now, or whose verdict does not allow it.
        StaleVerdictError: the champion is not the one that its verdict was measured against.
    """
    found = [r for r in promotions.releases(use_case.name) if r.digest.startswith(digest)]
    known = [r for r in found if r.state in ("refused", "retired")]
    if len(known) != 1:
        raise ReleaseError(
            f"{digest!r} is {'no release' if not found else 'none, or no single one,'} of {use_case.name} that was turned "
            "down or rolled back",
            next_step="`airworthy deliveries` shows the releases that were delivered; give more digits",
        )
    release = Release.model_validate(known[0].record)
    check_verdict(use_case, release)
    registry.verify(release.digest)
    promotions.set_release_state(release.digest, "challenger", why)
    return release


def waiting(use_case: UseCase) -> str:
    """The newest challenger, if it waits for a delivery that nobody has begun and promotions are not paused; else empty."""
    challengers = promotions.releases(use_case.name, "challenger")
    if not challengers or deliveries.open_delivery(use_case.name) or switches.paused(use_case.name):
        return ""
    return challengers[-1].digest


def question(use_case: UseCase, number: int) -> tuple[str, str]:
    """What a person is asked who shall approve a delivery: a line, and the verdict and the card as Markdown."""
    row = deliveries.get(number)
    release = _release(row)
    verdict = promotions.get_verdict(release.verdict_id)
    champion = row.champion_digest[:12] if row.champion_digest else "none yet"
    lines = [
        f"**Verdict** {release.verdict_id}: {verdict.summary if verdict else 'unknown'}",
        f"**Release** `{release.digest}`, champion now: `{champion}`",
        *(
            f"- {'passed' if check.passed else 'FAILED'}: {check.words}"
            for check in (verdict.checks if verdict else ())
        ),
        f"**Staging** {', '.join(f'{name} {value:g}' for name, value in row.figures.items() if isinstance(value, (int, float)))}",
        f"**Card** {registry.card_link(use_case.name, release.version)}",
        *registry.short_card(registry.load_card(release.digest)),
    ]
    return f"Deliver version {release.version} of {use_case.title}", "\n\n".join(lines)


def settle(
    use_case: UseCase, number: int, *, run: str, who: str = "", approved: bool | None = None, why: str = "",
    via: Via = "airflow",
) -> DeliveryOutcome:  # fmt: skip
    """Take the answer to the question; policy ``auto`` answers yes by itself.

    Args:
        use_case: The use case.
        number: The delivery.
        run: Who delivers.
        who: The person who answered; empty when nobody did.
        approved: The answer; None, with policy ``manual``, is no: an approval that did not come is none.
        why: The reason that was given.
        via: Where it was answered.
    """
    row = trial.resume_ending(use_case, deliveries.claim(number, run))
    if row.state != "approval":
        return _outcome(row)
    manual = use_case.delivery.approval == "manual"
    if manual and who:
        verb = "approve" if approved else "reject"
        record_action(who, f"{verb} delivery", use_case.name, row.release_digest, why, via, f"delivery {row.id}")
    if manual and not approved:
        by = f"rejected by {who}" if who else f"nobody approved it within {use_case.delivery.approval_hours:g} hours"
        return _outcome(trial.finish(use_case, row, "refused", f"{by}{': ' + why if why else ''}"))
    words = (
        f"approved by {who}{': ' + why if why else ''}" if manual else "approved by policy (delivery.approval: auto)"
    )
    state, step = trial.first_state(use_case, row)
    return _outcome(deliveries.move(row, state, words, step=step, approver=who if manual else None))


def try_out(use_case: UseCase, number: int, *, run: str) -> DeliveryOutcome:
    """Shadow and canary, until they have decided."""
    row = deliveries.claim(number, run)
    return _outcome(trial.run(use_case, row) if row.state in ("shadow", "canary") else row)


def promote(use_case: UseCase, number: int, *, run: str) -> DeliveryOutcome:
    """Make it champion by compare-and-set, and wait until every live worker answers with it."""
    row = trial.resume_ending(use_case, deliveries.claim(number, run))
    if row.state != "promote":
        return _outcome(row)
    try:
        verdict = check_verdict(use_case, _release(row), promoted=True)
    except StaleVerdictError as error:
        return _outcome(trial.finish(use_case, row, "stale", error.what))
    except ReleaseError as error:
        return _outcome(trial.finish(use_case, row, "refused", error.what))
    return _outcome(promoting.promote(use_case, row, verdict))


def watch(use_case: UseCase, number: int, *, run: str) -> DeliveryOutcome:
    """Watch the new champion for a while; it is rolled back when it fails too many requests."""
    row = trial.resume_ending(use_case, deliveries.claim(number, run))
    return _outcome(promoting.watch(use_case, row) if row.state == "watch" else row)


def check_verdict(use_case: UseCase, release: Release, *, promoted: bool = False) -> Verdict:
    """The verdict behind a release.

    Args:
        use_case: The use case.
        release: The release.
        promoted: Whether the release itself may be champion by now.

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
    champion = promotions.champion(use_case.name)
    present = champion.digest if champion else None
    if present != verdict.champion_digest and not (promoted and present == release.digest):
        raise StaleVerdictError(
            f"stale verdict: {verdict.id} was measured against {_short(verdict.champion_digest)}, "
            f"the champion now is {_short(present)}",
            next_step="train or judge again: the new verdict will be against the present champion",
        )
    return verdict


def _begin(use_case: UseCase, run: str) -> DeliveryRow | None:
    """The delivery to go on with: the open one, or a new one of the newest challenger. Older challengers are retired."""
    challengers, under_way = promotions.releases(use_case.name, "challenger"), deliveries.open_delivery(use_case.name)
    champion = promotions.champion(use_case.name)
    newest = challengers[-1].digest if challengers else None
    for older in challengers[:-1]:
        promotions.set_release_state(older.digest, "retired", f"superseded by {str(newest)[:12]}")
    if under_way is not None:
        promoted = champion is not None and champion.digest == under_way.release_digest
        if newest is None or newest == under_way.release_digest or promoted or "ending" in under_way.evidence:
            return deliveries.claim(under_way.id, run)
        trial.superseded(use_case, deliveries.claim(under_way.id, run), str(newest))
    if newest is None:
        return None
    verdict = promotions.get_verdict(Release.model_validate(challengers[-1].record).verdict_id)
    return deliveries.begin(use_case.name, newest, verdict.champion_digest if verdict else None, run)


def _release(row: DeliveryRow) -> Release:
    release = promotions.get_release(row.release_digest)
    if release is None:
        raise ReleaseError(
            f"release {row.release_digest[:12]} of {row.use_case} is not in the ledger",
            next_step="register it again; nothing serves without a verdict",
        )
    return release


def _no_verdict(what: str) -> ReleaseError:
    return ReleaseError(what, next_step="let the gate judge the candidate; nothing serves without a passed verdict")


def _nothing(use_case: UseCase, words: str) -> DeliveryOutcome:
    return DeliveryOutcome(
        use_case=use_case.name, delivery=None, release="", status="refused", generation=None, reason=words
    )


def _outcome(row: DeliveryRow) -> DeliveryOutcome:
    log.info("delivery %s of %s %s: %s, %s", row.id, row.use_case, row.release_digest[:12], row.state, row.reason)
    record: dict[str, Any] = {
        "use_case": row.use_case, "delivery": row.id, "release": row.release_digest, "status": row.state,
        "generation": row.generation, "reason": row.reason, "figures": row.figures,
    }  # fmt: skip
    return DeliveryOutcome.model_validate(record)


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "no champion"
