"""Features catch up: an interval is built when the ledger says that its inputs are newer than its output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from airworthy.config import UseCase
from airworthy.errors import DataRejectedError
from airworthy.features import versions
from airworthy.features.build import build
from airworthy.features.catalog import Catalog, CompiledView, catalog
from airworthy.features.service_name import check_service_name
from airworthy.intervals import Interval, contiguous, days
from airworthy.lake import tables
from airworthy.ledger import commits
from airworthy.ledger.database import exclusive
from airworthy.records import CatchUpOutcome
from airworthy.validation import StageChecks

MISSING = "missing"


@dataclass(frozen=True)
class Plan:
    """What a view needs.

    Attributes:
        inputs: Digest of what an interval is made from, by the key of each interval to build, in order.
        again: Those of them that were built before: their inputs or their definition changed since.
        waiting: Keys that are behind but see an interval that is landed and not decided yet.
    """

    inputs: dict[str, str]
    again: tuple[str, ...]
    waiting: tuple[str, ...]


def catch_up(use_case: UseCase, *, run: str) -> CatchUpOutcome:
    """Build every feature interval whose inputs are newer than its output, then publish the newest values online.

    One builder works at a time; a second one waits and then finds nothing to do. All intervals of a range are built
    in one pass and published in one commit. An interval waits while it, or one that it looks back on, is landed but
    neither published nor rejected: a rolling window is never built over a hole that is about to be filled.

    Args:
        use_case: The use case.
        run: Who does it, for the claim: the Airflow run, a command.

    Raises:
        ConfigurationError: a table was never created, the features are not registered, a definition fails, or differs
            from what a training set used under the same feature service.
        DataRejectedError: rows of a view fail their suite: nothing of its range was published; the other views were.
        SupersededError: a newer claim exists (a builder whose lock was lost): nothing more was published.
    """
    from airworthy.features.publish import publish_online

    check_service_name(use_case)
    with exclusive("features", use_case.name):
        compiled = catalog(use_case)
        built: dict[str, int] = {}
        again: dict[str, int] = {}
        rows: dict[str, int] = {}
        waiting: set[str] = set()
        checks: StageChecks | None = None
        refused: list[DataRejectedError] = []
        for view, planned in plans(use_case, compiled):
            # After the plan: what is committed in between is then newer than what the plan says, and built once more.
            at, unsettled = versions.committed(use_case, view.view.sources) if planned.inputs else ({}, set())
            plan = _without(view, planned, unsettled)
            again[view.name] = len(plan.again)
            waiting.update(plan.waiting)
            token = commits.claim(view.table, run) if plan.inputs else 0
            if token and checks is None:
                checks = StageChecks(use_case, f"features/{view.name}-{token}")
            try:
                built[view.name], rows[view.name] = (
                    _build(use_case, view, plan, at, token, checks) if checks else (0, 0)
                )
            except DataRejectedError as error:  # one wrong definition holds no other view up
                refused.append(error)
        links = checks.keep() if checks else {}
        online = publish_online(use_case)
    if refused:
        raise refused[0]
    return CatchUpOutcome(
        use_case=use_case.name, built=built, recomputed=again, rows=rows, online=online,
        waiting=tuple(sorted(waiting)), reason=_reason(built, again, online, waiting), links=links,
    )  # fmt: skip


def plans(
    use_case: UseCase, compiled: Catalog, *, expected: Mapping[str, Mapping[str, str]] | None = None
) -> list[tuple[CompiledView, Plan]]:
    """What each view needs now, by the ledger and the landing zone; reads no table.

    Args:
        use_case: The use case.
        compiled: Its features.
        expected: To see what would be needed if these intervals were decided: the digest of the clean rows that each
            source would then have, by interval key (none for an interval that would be rejected).
    """
    from airworthy.lake.landing import landed_digests

    # Landed first: what is decided in between is then built, never taken for undecided.
    landed = set(landed_digests(use_case))
    decided = set(commits.decided_intervals(use_case.name))
    sources = {name for view in compiled.views for name in view.view.sources}
    clean = {
        name: {key: row.digest for key, row in commits.newest_commits(use_case.table("clean", name)).items()}
        for name in sources
    }
    for key, digests in (expected or {}).items():
        decided.add(key)
        for name in sources & digests.keys():
            clean[name][key] = digests[name]
    undecided = landed - decided
    return [(v, plan(v, {s: clean[s] for s in v.view.sources}, undecided, decided)) for v in compiled.views]


def plan(view: CompiledView, clean: Mapping[str, Mapping[str, str]], undecided: set[str], decided: set[str]) -> Plan:
    """What one view needs.

    Args:
        view: The view.
        clean: Digest of what is published by interval key, of each of its sources' clean tables.
        undecided: Keys of intervals that are landed, and neither published nor rejected.
        decided: Keys of intervals that are. A rejected one is a hole that the features after it are built with.
    """
    own = commits.newest_commits(view.table)
    published = {key for source in clean.values() for key in source}
    inputs, waiting = {}, []
    for key in sorted(published | decided | undecided):
        interval = Interval.of(key)
        window = [i.key for i in days(interval.shift(-view.view.lookback_days), interval)]
        if not any(k in published for k in window) and key not in undecided:
            continue  # nothing that it could be made from: a snapshot that came once is not built for every day
        digest = _inputs(view, clean, window)
        if key in own and own[key].inputs == digest:
            continue
        if any(k in undecided for k in window):
            waiting.append(key)
        else:
            inputs[key] = digest
    return Plan(inputs, tuple(key for key in inputs if key in own), tuple(waiting))


def _inputs(view: CompiledView, clean: Mapping[str, Mapping[str, str]], window: list[str]) -> str:
    parts = [[source, key, clean[source].get(key, MISSING)] for source in sorted(clean) for key in window]
    return hashlib.sha256(json.dumps([view.digest, parts]).encode()).hexdigest()


def _without(view: CompiledView, planned: Plan, unsettled: set[str]) -> Plan:
    """The plan without the intervals that look back on one whose rows nobody has committed: they wait."""
    held = {
        key for key in planned.inputs
        for interval in [Interval.of(key)]
        if any(i.key in unsettled for i in days(interval.shift(-view.view.lookback_days), interval))
    }  # fmt: skip
    return Plan(
        {key: digest for key, digest in planned.inputs.items() if key not in held},
        tuple(key for key in planned.again if key not in held),
        tuple(sorted({*planned.waiting, *held})),
    )


def _build(
    use_case: UseCase, view: CompiledView, plan: Plan, at: Mapping[str, int], token: int, checks: StageChecks
) -> tuple[int, int]:
    total = 0
    for first, last in contiguous([Interval.of(key) for key in plan.inputs]):
        built = build(use_case, view, list(days(first, last)), at)
        checks.check(
            "features", view.name, built.now, first, last, masks=view.masks,
            thorough=first != last,  # once for a backfill; a live day has no time for it
            next_step=f"correct {view.name} in features.py, or its suite; nothing of this range was published",
        )  # fmt: skip
        refs = tables.publish(view.table, built.parts, resource=view.table, token=token, inputs=plan.inputs)
        total += sum(ref.rows for ref in refs)
    return len(plan.inputs), total


def _reason(built: dict[str, int], again: dict[str, int], online: dict[str, int], waiting: set[str]) -> str:
    parts = []
    for verb, counts in (("built", {v: n - again[v] for v, n in built.items()}), ("recomputed", again)):
        if any(counts.values()):
            parts.append(f"{verb} " + ", ".join(f"{n} intervals of {view}" for view, n in counts.items() if n))
    if any(online.values()):
        parts.append(f"{sum(online.values())} values published online")
    if waiting:
        first = min(waiting)
        parts.append(f"{len(waiting)} intervals wait for one that is landed or being written, the first is {first}")
    return "; ".join(parts) or "features are up to date"
