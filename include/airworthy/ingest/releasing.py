"""Out of quarantine: an interval is judged again by the suites and the code of today. Nothing is waved through.

An operator who finds that a rule was wrong corrects the rule, which is reviewed and versioned, and asks to release. So
what is published always passed the validation that its report names, and the ledger says who asked and why.
"""

from __future__ import annotations

import json
from collections import Counter

from sqlalchemy import update

from airworthy.config import UseCase
from airworthy.errors import AirworthyError, ConfigurationError, DataRejectedError, NotLandedError
from airworthy.ingest.interval import ingest_interval
from airworthy.ingest.prepare import Prepared, prepare
from airworthy.intervals import Interval
from airworthy.lake import landing, quarantine
from airworthy.lake.landing import Landed
from airworthy.ledger.clock import data_now
from airworthy.ledger.commits import decided_intervals
from airworthy.ledger.database import transaction
from airworthy.ledger.models import IngestedInterval, QuarantineRelease
from airworthy.records import IngestOutcome, ReleaseOutcome


def release(use_case: UseCase, interval: Interval, *, who: str, why: str) -> ReleaseOutcome:
    """Judge an interval again, and publish as a correction what passes now; what does not stays in quarantine.

    The landed files are read again and take the way of every delivery: parse, validate, clean, publish. Rows that come
    out of quarantine are known from now on (``available_at``), since nobody could use them before.

    Args:
        use_case: The use case.
        interval: The interval.
        who: The operator.
        why: The reason: what was corrected.

    Returns:
        ``released``, or ``kept`` when no row passes today either (then nothing was published).

    Raises:
        ConfigurationError: the interval has nothing in quarantine, or there is no reason given.
        NotLandedError: its files are no longer there, or others have landed since.
        DataRejectedError: the files are refused today too. What was published before stays as it is.
        SupersededError: a newer run took over; nothing was published after that.
    """
    if not why.strip():
        raise ConfigurationError("a release needs a reason", next_step="say with --why what was corrected")
    decided = decided_intervals(use_case.name).get(interval.key)
    before = {source: _rows(use_case, source, interval) for source in use_case.sources}
    if decided is None or (decided.status != "rejected" and not any(before.values())):
        raise ConfigurationError(
            f"{use_case.name} {interval} has nothing in quarantine",
            next_step=f"see `airworthy quarantine list {use_case.name}`",
        )
    found = _landed(use_case, interval, decided)
    asked = _ask(use_case, interval, decided, who, why)
    try:
        outcome = _judge_again(use_case, interval, decided, found, before, who)
    except AirworthyError as error:
        _answer(asked, "refused", {"reason": error.what})
        raise
    _answer(asked, outcome.status, outcome.to_json())
    return outcome


def _judge_again(
    use_case: UseCase,
    interval: Interval,
    decided: IngestedInterval,
    found: Landed,
    before: dict[str, Counter[str]],
    who: str,
) -> ReleaseOutcome:
    if decided.status != "rejected":
        # What is published must not become a refused interval because a suite is worse today: so look first.
        parts = [prepare(use_case, found, s) for s in use_case.sources if s in found.manifests or s in found.broken]
        _refuse(use_case, interval, parts)
        after = {p.source: Counter(p.rejected["digest"].to_pylist()) for p in parts}
        if not any(before[source] - after.get(source, Counter()) for source in before):
            return ReleaseOutcome(
                use_case=use_case.name, interval=interval, status="kept", kept=_counts(before),
                reason=f"{_total(before)} rows stay in quarantine: none of them passes today",
            )  # fmt: skip
    done = ingest_interval(use_case, interval, run=who, again=True)
    after = {source: _rows(use_case, source, interval) for source in before}
    return _outcome(use_case, interval, decided, before, after, done)


def _refuse(use_case: UseCase, interval: Interval, parts: list[Prepared]) -> None:
    failures = [failure for part in parts for failure in part.failures]
    if failures:
        files = ", ".join(f"{part.source} ({part.file})" for part in parts if part.failures)
        raise DataRejectedError(
            f"{use_case.name} {interval}: {files}", failures,
            next_step="correct the suite or the code; nothing was changed, and what was published stays",
        )  # fmt: skip


def _outcome(
    use_case: UseCase,
    interval: Interval,
    decided: IngestedInterval,
    before: dict[str, Counter[str]],
    after: dict[str, Counter[str]],
    done: IngestOutcome,
) -> ReleaseOutcome:
    if decided.status == "rejected":
        released = {s: n - done.rows_rejected.get(s, 0) for s, n in done.rows_in.items()}
        words = f"the refused files pass now: {done.reason}"
    else:
        released = _counts({s: before[s] - after[s] for s in before})
        words = f"{sum(released.values())} rows came out of quarantine"
        if withdrawn := _total({s: after[s] - before[s] for s in before}):
            words += f"; {withdrawn} rows that were published fail today and were withdrawn"
    return ReleaseOutcome(
        use_case=use_case.name, interval=interval, status="released", released=released, kept=_counts(after),
        reason=f"{words}; {_total(after)} stay", links=done.links,
    )  # fmt: skip


def _landed(use_case: UseCase, interval: Interval, decided: IngestedInterval) -> Landed:
    found = landing.landed(use_case, interval)
    if found is None:
        raise NotLandedError(
            f"the files of {use_case.name} {interval} are no longer in the landing zone",
            next_step="land them again with their manifests; they are then taken by themselves",
        )
    if found.digest != decided.landed_digest:
        raise NotLandedError(
            f"other files of {use_case.name} {interval} have landed than those in quarantine",
            next_step=f"take them: `airworthy ingest {use_case.name} {interval}`, or wait for `.arrivals`",
        )
    return found


def _rows(use_case: UseCase, source: str, interval: Interval) -> Counter[str]:
    return Counter(quarantine.read_rows(use_case, source, interval, interval)["digest"].to_pylist())


def _counts(rows: dict[str, Counter[str]]) -> dict[str, int]:
    return {source: found.total() for source, found in rows.items() if found}


def _total(rows: dict[str, Counter[str]]) -> int:
    return sum(found.total() for found in rows.values())


def _ask(use_case: UseCase, interval: Interval, decided: IngestedInterval, who: str, why: str) -> int:
    # Written before anything is published: a crash must not leave a correction that nobody asked for.
    row = QuarantineRelease(
        use_case=use_case.name, interval=interval.key, landed_digest=decided.landed_digest, who=who, why=why,
        data_time=data_now(use_case),
    )  # fmt: skip
    with transaction() as session:
        session.add(row)
    return row.id


def _answer(asked: int, status: str, outcome: dict[str, object]) -> None:
    with transaction() as session:
        session.execute(
            update(QuarantineRelease)
            .where(QuarantineRelease.id == asked)
            .values(status=status, outcome=json.loads(json.dumps(outcome, default=str)))
        )
