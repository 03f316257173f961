"""A rehearsal of the way back: a service of its own is switched to every release that a rollback may go to, under load.

What serves is not touched. A release is fit when its bytes are those that were promoted, its feature definitions are those that
are deployed, a running service switches to it in time, no request fails meanwhile, and it gives its golden answers over HTTP.
"""

from __future__ import annotations

import logging
import tempfile
import time
from datetime import timedelta
from html import escape
from pathlib import Path

import httpx
from sqlalchemy import select

from airworthy import features, registry
from airworthy.config import UseCase, get_settings
from airworthy.delivery import load, staging
from airworthy.delivery.choices import Candidate, candidates
from airworthy.delivery.golden import check_golden, invocations
from airworthy.errors import AirworthyError
from airworthy.evaluation.documents import publish_document
from airworthy.ledger import promotions
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import RollbackDrill
from airworthy.records import Record
from airworthy.serving.contract import example
from airworthy.training.model_files import LoadedModel

log = logging.getLogger(__name__)

LONGEST_S = 30.0
CLIENTS = 4  # that ask meanwhile, each again and again
EVIDENCE = 100  # requests that a release has to answer before it is left
OVERDUE = timedelta(days=8)


class RehearsalError(AirworthyError):
    """Raised when a rollback could not go to where it may go, or when nobody has tried for too long."""


class Rehearsed(Record):
    """What a rehearsal found.

    Attributes:
        unfit: Why, by digest, of each release that could not take over; empty when every one could.
        seconds: By digest, until a running service that other clients ask served it.
        requests: How many those other clients had answered meanwhile.
    """

    use_case: str
    unfit: dict[str, str]
    seconds: dict[str, float]
    requests: int
    words: str


def rehearse_rollback(use_case: UseCase) -> tuple[Rehearsed, str]:
    """Try every release that a rollback may go to; the outcome is a row of the ledger and a page.

    Returns:
        What was found, and the link to the page. With nothing to go back to, that is said, and is no failure.

    Raises:
        RehearsalError: a release is not fit to take over, takes longer than a rollback may, or costs requests.
        StagingError: the present champion could not be served in a service of its own, so nothing could be tried.
    """
    known = candidates(use_case)
    found, requests = _try_all(use_case, known)
    outcome = _outcome(use_case, known, found, requests)
    page = publish_document(f"rollback_drills/{use_case.name}/newest.html", _page(use_case, known, outcome))
    with transaction() as session:
        session.add(
            RollbackDrill(
                use_case=use_case.name, candidates={d: {"seconds": s, "unfit": w} for d, (s, w) in found.items()},
                seconds=sum(outcome.seconds.values()), passed=not outcome.unfit, words=outcome.words[:2000],
            )
        )  # fmt: skip
    if outcome.unfit:
        raise RehearsalError(
            f"{use_case.name}: {outcome.words}",
            next_step="mend what is named, or promote a release that can be gone back to; `airworthy promotions` has them",
        )
    return outcome, page


def overdue_rehearsal(use_case: UseCase) -> str:
    """Why the newest rehearsal that went well is too long ago; empty when it is not, or there is nothing to rehearse."""
    changes = promotions.changes(use_case.name)
    if len({row.to_digest for row in changes}) < 2:
        return ""
    with transaction() as session:
        last = session.scalar(
            select(RollbackDrill.at)
            .where(RollbackDrill.use_case == use_case.name, RollbackDrill.passed)
            .order_by(RollbackDrill.id.desc())
            .limit(1)
        )
    # Before the second promotion there was nothing to go back to.
    since = last or next(row.at for row in changes if row.to_digest != changes[0].to_digest)
    if wall_now() - since <= OVERDUE:
        return ""
    words = f"the last one that went well was {last:%Y-%m-%d %H:%M} UTC" if last else "none went well yet"
    return f"the rollback of {use_case.name} was not rehearsed for {OVERDUE.days} days: {words}"


def _try_all(use_case: UseCase, known: list[Candidate]) -> tuple[dict[str, tuple[float, str]], int]:
    """What was found of each release, and how many requests were answered meanwhile."""
    champion = promotions.champion(use_case.name)
    if champion is None or not known:
        return {}, 0
    headers = staging.headers(get_settings())
    with (
        tempfile.TemporaryDirectory(prefix="airworthy-rehearsal-") as scratch,
        staging.service(use_case, champion.digest, Path(scratch)) as staged,
        httpx.Client(base_url=staged.url, headers=headers, timeout=LONGEST_S, trust_env=False) as client,
        load.steady(staged.url, example(use_case), headers=headers, connections=CLIENTS) as asked,
    ):
        found = {c.digest: _try(use_case, c.digest, staged, client, asked) for c in known}
    return found, len(asked.answers)


def _try(
    use_case: UseCase, digest: str, staged: staging.StagedService, client: httpx.Client, asked: load.Load
) -> tuple[float, str]:
    """Seconds that the switch took, and why the release is not fit."""
    failed = len(asked.errors)
    try:
        model = _fit_model(use_case, digest)
        seconds = round(_switch(use_case, digest, staged, client), 3)
        _wait_for_answers(asked)
        if lost := asked.errors[failed:]:
            return seconds, f"{len(lost)} requests failed while it took over: {lost[0]}"
        check_golden(client, use_case.name, model, invocations)
    except (AirworthyError, httpx.HTTPError) as error:
        return 0.0, error.what if isinstance(error, AirworthyError) else f"it does not answer: {type(error).__name__}"
    slow = f"it takes {seconds:.0f} s until it answers, a rollback may take {LONGEST_S:.0f} s"
    return seconds, slow if seconds > LONGEST_S else ""


def _fit_model(use_case: UseCase, digest: str) -> LoadedModel:
    """The release, verified; of the deployed feature definitions."""
    model = registry.load(digest)
    published = features.published_definitions(use_case)
    unlike = features.unlike(use_case, model.schema.feature_digest, model.schema.view_digests, published)
    if unlike:
        raise RehearsalError(
            f"trained on other feature definitions than those deployed: {', '.join(unlike[:5])}",
            next_step="take the change of features.py back, or deliver a model of the present definitions",
        )
    return model


def _switch(use_case: UseCase, digest: str, staged: staging.StagedService, client: httpx.Client) -> float:
    """Seconds until the service serves a release."""
    started = time.perf_counter()
    staged.switch(digest)
    while client.get("/model").json()["release"] != digest:
        reason = client.get("/ready").json()["use_cases"][use_case.name]["reason"] or ""
        waited = time.perf_counter() - started
        if digest[:12] in reason or waited > 2 * LONGEST_S:
            raise RehearsalError(
                reason or f"a running service had not switched to it after {waited:.0f} s",
                next_step="see the log of the prediction service; promote a release that can be gone back to",
            )
        time.sleep(0.05)
    return time.perf_counter() - started


def _wait_for_answers(asked: load.Load) -> None:
    """Wait until enough requests had an answer, good or bad, of the release that has just taken over."""
    enough, deadline = len(asked.answers) + len(asked.errors) + EVIDENCE, time.monotonic() + 2 * LONGEST_S
    while len(asked.answers) + len(asked.errors) < enough:
        if time.monotonic() > deadline:
            raise RehearsalError(
                f"fewer than {EVIDENCE} requests were answered in {2 * LONGEST_S:.0f} s",
                next_step="see the log of the prediction service",
            )
        time.sleep(0.02)


def _outcome(
    use_case: UseCase, known: list[Candidate], found: dict[str, tuple[float, str]], requests: int
) -> Rehearsed:
    unfit = {digest: why for digest, (_, why) in found.items() if why}
    seconds = {digest: s for digest, (s, _) in found.items()}
    if not known:
        words = "nothing to go back to: no other release served before"
    elif unfit:
        words = f"{len(unfit)} of {len(known)} releases cannot take over: " + "; ".join(
            f"{digest[:12]}: {why}" for digest, why in list(unfit.items())[:3]
        )
    else:
        words = (
            f"each of {len(known)} releases can take over, the slowest in {max(seconds.values()):.1f} s, "
            f"while {requests} requests were answered and none failed"
        )
    log.info("%s: %s", use_case.name, words)
    return Rehearsed(use_case=use_case.name, unfit=unfit, seconds=seconds, requests=requests, words=words)


def _page(use_case: UseCase, known: list[Candidate], outcome: Rehearsed) -> str:
    rows = "".join(
        f"<tr><td>{c.digest[:12]}</td><td>{c.version or ''}</td><td>{c.served_from:%Y-%m-%d %H:%M}</td>"
        f"<td>{outcome.seconds[c.digest]:.1f}</td><td>{escape(outcome.unfit.get(c.digest, 'fit'))}</td></tr>"
        for c in known
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Rollback drill</title></head><body>'
        f"<h1>{escape(use_case.title)}: rollback drill</h1><p>{wall_now():%Y-%m-%d %H:%M} UTC: {escape(outcome.words)}</p>"
        "<table><tr><th>release</th><th>version</th><th>champion from (UTC)</th><th>seconds</th><th></th></tr>"
        f"{rows}</table></body></html>"
    )
