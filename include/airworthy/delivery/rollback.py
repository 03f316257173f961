"""Back to a release that really served before, by the promotion log."""

from __future__ import annotations

import time

from airworthy import features, registry
from airworthy.config import UseCase
from airworthy.delivery.choices import Candidate, candidates
from airworthy.delivery.promoting import reconcile_aliases, wait_for_workers
from airworthy.errors import AirworthyError, NoChampionError, ServiceUnavailableError
from airworthy.ledger import promotions
from airworthy.ledger.clock import data_now
from airworthy.records import Record


class RollbackError(AirworthyError):
    """Raised when there is no such release to go back to."""


class RollbackOutcome(Record):
    """A rollback that every live worker has followed: from which release to which, and its seconds."""

    use_case: str
    from_digest: str
    to_digest: str
    generation: int
    seconds: float
    workers: int
    note: str = ""


def rollback(use_case: UseCase, *, to: str | None = None, who: str, why: str) -> RollbackOutcome:
    """Make a release champion that was champion before, and wait until every live worker answers with it.

    Args:
        use_case: The use case.
        to: First digits of its digest; None for the one that served before the present champion.
        who: Who asks for it, for the promotion log.
        why: The reason, for the promotion log.

    Raises:
        NoChampionError: nothing was ever promoted.
        RollbackError: nothing to go back to, or ``to`` fits none or several, or the release was trained on other feature
            definitions than those deployed; the message names the choices.
        ReleaseError: the release does not load; nothing was changed.
        StaleVerdictError: the champion changed meanwhile; nothing was changed.
        ServiceUnavailableError: the log is switched, but some worker did not follow in time.
    """
    started = time.perf_counter()
    current = promotions.champion(use_case.name)
    if current is None:
        raise NoChampionError(
            f"{use_case.name} has no champion", next_step="deliver a release first: there is nothing to roll back from"
        )
    choice = _choose(use_case, to)
    model = registry.load(choice.digest)
    words = features.unlike(
        use_case, model.schema.feature_digest, model.schema.view_digests, features.published_definitions(use_case)
    )
    if words:
        raise RollbackError(
            f"release {choice.digest[:12]} was trained on other feature definitions than those that are deployed: "
            + ", ".join(words[:5]),
            next_step="take the change of features.py back first, or choose a release of the present definitions",
        )
    champion = promotions.promote(
        use_case.name, choice.digest, expected=current.digest, action="rollback", verdict_id=None, who=who, why=why,
        data_time=data_now(use_case),
    )  # fmt: skip
    behind, figures = (
        wait_for_workers(use_case, champion.generation) if promotions.live_workers(use_case.name) else ([], {})
    )
    seconds = round(time.perf_counter() - started, 3)
    if behind:
        raise ServiceUnavailableError(
            f"the promotion log is at generation {champion.generation}, but {len(behind)} workers are not: "
            + "; ".join(f"{w.instance}/{w.pid}: {w.error or 'no error reported'}" for w in behind[:3]),
            next_step="restart those workers: they load the champion when they start",
        )
    return RollbackOutcome(
        use_case=use_case.name, from_digest=current.digest, to_digest=choice.digest, generation=champion.generation,
        seconds=seconds, workers=int(figures.get("workers", 0)), note=reconcile_aliases(use_case).removeprefix("; "),
    )  # fmt: skip


def _choose(use_case: UseCase, to: str | None) -> Candidate:
    known = candidates(use_case)
    fitting = [c for c in known if (c.digest.startswith(to) if to else not c.withdrawn)]
    choices = (
        ", ".join(f"{c.digest[:12]} (v{c.version})" + (" withdrawn" if c.withdrawn else "") for c in known[:5])
        or "none"
    )
    if to and len(fitting) > 1:
        raise RollbackError(
            f"{to!r} fits {len(fitting)} releases",
            next_step=f"give more digits; releases that served before: {choices}",
        )
    if not fitting:
        what = (
            f"no release {to!r} of {use_case.name} served before"
            if to
            else f"{use_case.name} has nothing to roll back to"
        )
        raise RollbackError(what, next_step=f"releases that served before: {choices}; name one with its first digits")
    return fitting[0]
