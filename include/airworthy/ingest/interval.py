"""One interval from the landing zone to the raw, clean and quarantine tables: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from airworthy.config import UseCase
from airworthy.errors import AirworthyError, CheckFailure, DataRejectedError, NotLandedError
from airworthy.ingest import extract
from airworthy.ingest.cleaning import as_correction
from airworthy.ingest.prepare import Prepared, prepare
from airworthy.ingest.reports import write_reports
from airworthy.ingest.superseded import keep_superseded, says_too_much
from airworthy.ingest.undo import take_back
from airworthy.intervals import Interval
from airworthy.lake import landing, quarantine, tables
from airworthy.lake.landing import Landed
from airworthy.ledger import commits
from airworthy.ledger.clock import data_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import IngestedInterval
from airworthy.records import IngestOutcome, PartitionRef

MAX_KEPT_FAILURES = 100  # of a file with a thousand strange columns
NEXT_AFTER_REJECTION = (
    "land a corrected file with its manifest (it is then taken by itself), or correct the rule and ask for "
    "`airworthy quarantine release`; see the reason beside the file in {folder}"
)
TABLES = ("raw", "quarantine", "clean")
"""The layers of a source, in the order in which they are written."""


class RowsLostError(AirworthyError):
    """Raised when rows in are not clean + quarantine: a defect of the platform, caught before anything is published."""


def ingest_interval(use_case: UseCase, interval: Interval, *, run: str, again: bool = False) -> IngestOutcome:
    """Publish what is landed for an interval; safe to call twice, late, or many times at once.

    Args:
        use_case: The use case.
        interval: The interval.
        run: Who asks (the Airflow run or a command), for the ledger.
        again: Decide once more on files that were decided on: the suites or the code may judge otherwise today.

    Returns:
        ``published``, or ``already`` when these very files were published before.

    Raises:
        NotLandedError: a required source has no manifest, or is not complete in its database.
        DataRejectedError: the files cannot be published; the interval is recorded as rejected and the files are in
            quarantine. Until something is landed again, this is raised again at once.
        SupersededError: a newer call took over; nothing was published after that.
        ConfigurationError: the use case's code or suite is at fault; the interval stays undecided.
    """
    resource = f"{use_case.name}/ingest/{interval.key}"
    # The claim comes before the look at the landing zone: whoever claims later has seen at least the same files.
    token = commits.claim(resource, run)
    incomplete = extract.refresh(use_case, interval, still_mine=lambda: commits.check_token(resource, token))
    landed = landing.landed(use_case, interval)
    if landed is None:
        raise _not_landed(use_case, interval, incomplete)
    with transaction() as session:
        decided = session.get(IngestedInterval, (use_case.name, interval.key))
    if decided is not None and not (
        again or must_decide_again(use_case, landed, decided) or _left_behind(use_case, landed, decided, token)
    ):
        return _again(use_case, interval, decided)
    parts = [prepare(use_case, landed, s) for s in use_case.sources if s in landed.manifests or s in landed.broken]
    links = write_reports(use_case, interval, resource, token, parts)
    if any(p.failures for p in parts):
        if decided is not None and decided.status == "published" and token != decided.token + 1:
            take_back(use_case, interval, decided.landed_digest, resource, token)
        raise _reject(use_case, landed, resource, token, parts, links)
    for part in parts:
        _check_nothing_lost(use_case, interval, part)
    refs = [_publish(use_case, landed, part, resource, token, redelivered=decided is not None) for part in parts]
    rejected = {p.source: p.rejected.num_rows for p in parts}
    reason = "published " + ", ".join(f"{p.clean.num_rows} {p.source}" for p in parts)
    if any(rejected.values()):
        reason += f"; {sum(rejected.values())} rows in quarantine"
    if forgotten := sum(p.forgotten for p in parts):
        reason += f"; {forgotten} rows of forgotten keys left out"
    outcome = IngestOutcome(
        use_case=use_case.name, interval=interval, status="published", landed_digest=landed.digest,
        partitions=tuple(refs), rows_in={p.source: p.raw.num_rows for p in parts}, rows_rejected=rejected,
        reason=reason, links=links,
    )  # fmt: skip
    commits.decide_interval(resource, token, outcome)
    return outcome


def must_decide_again(use_case: UseCase, landed: Landed, decided: IngestedInterval) -> bool:
    """Other files, or refused ones that were landed once more: the same bytes mend a damaged upload."""
    if decided.landed_digest != landed.digest:
        return True
    return decided.status == "rejected" and landing.landed_since(use_case, landed, decided.decided_at)


def _left_behind(use_case: UseCase, landed: Landed, decided: IngestedInterval, token: int) -> bool:
    """Whether a run that claimed after the decision, and died, left rows of another delivery in a table."""
    if token == decided.token + 1 or decided.status != "published":
        return False
    interval = landed.interval
    for name in (use_case.table(layer, source) for source in use_case.sources for layer in TABLES):
        commit = commits.newest_commits(name, interval, interval).get(interval.key)
        rows = tables.read(name, interval, interval)
        if commit is None and rows.num_rows:
            return True
        if commit is not None and (commit.inputs, commit.digest) != (landed.digest, tables.digest(rows)):
            return True
    return any(says_too_much(use_case, source, interval) for source in use_case.sources)


def _publish(
    use_case: UseCase, landed: Landed, part: Prepared, resource: str, token: int, *, redelivered: bool
) -> PartitionRef:
    """Replace the interval in the source's three tables; returns what was published to the clean one."""
    interval = landed.interval
    now = data_now(use_case)
    before, clean = to_publish(use_case, interval, part, now, redelivered=redelivered)
    if before.num_rows:
        keep_superseded(
            use_case, part.source, interval, before=before, clean=clean, now=now, resource=resource, token=token,
            inputs=landed.digest,
        )  # fmt: skip

    def replace(layer: str, rows: pa.Table) -> PartitionRef:
        (ref,) = tables.publish(
            use_case.table(layer, part.source),
            {interval.key: rows},
            resource=resource,
            token=token,
            inputs={interval.key: landed.digest},
        )
        return ref

    replace("raw", part.raw)
    replace("quarantine", part.rejected)
    # Last: whoever sees the clean rows can look up the raw and the rejected ones.
    return replace("clean", clean)


def to_publish(
    use_case: UseCase, interval: Interval, part: Prepared, now: datetime, *, redelivered: bool
) -> tuple[pa.Table, pa.Table]:
    """A source's clean rows of an interval as they are published now, and as they are to be."""
    before = tables.read(use_case.table("clean", part.source), interval, interval)
    if redelivered or before.num_rows:
        return before, as_correction(part.clean, before, now)
    return before, part.clean


def _reject(
    use_case: UseCase, landed: Landed, resource: str, token: int, parts: Sequence[Prepared], links: dict[str, str]
) -> DataRejectedError:
    """Keep the refused files with the reasons, then record the interval as rejected."""
    interval, refused = landed.interval, [p for p in parts if p.failures]
    for part in refused:
        quarantine.keep_file(
            use_case, interval, landed.digest, part.source, file=part.file, content=part.content,
            record={
                "use_case": use_case.name, "source": part.source, "interval": interval.key,
                "landed_digest": landed.digest, "failures": [f.bounded() for f in part.failures[:MAX_KEPT_FAILURES]],
                "data_docs": links.get("Data Docs"),
            },
        )  # fmt: skip
    outcome = IngestOutcome(
        use_case=use_case.name, interval=interval, status="rejected", landed_digest=landed.digest,
        rows_in={p.source: p.raw.num_rows for p in parts}, links=links,
        reason="; ".join(f"{p.source} rejected: {p.failures[0]}" for p in refused),
    )  # fmt: skip
    commits.decide_interval(resource, token, outcome)
    return _rejection(use_case, interval, landed.digest, {p.source: (p.file, list(p.failures)) for p in refused}, links)


def _again(use_case: UseCase, interval: Interval, decided: IngestedInterval) -> IngestOutcome:
    """The answer for files that were decided on before."""
    outcome = IngestOutcome.model_validate(decided.outcome)
    digest = decided.landed_digest
    if decided.status != "rejected":
        return outcome.model_copy(update={"status": "already", "reason": f"already ingested {digest[:12]}"})
    refused: dict[str, tuple[str, list[CheckFailure]]] = {}
    for source in use_case.sources:
        kept = quarantine.read_reason(use_case, interval, digest, source)
        if kept is not None:
            failures = [
                CheckFailure(f["check"], f["column"], f["count"], tuple(f["examples"])) for f in kept["failures"]
            ]
            refused[source] = (kept["file"], failures)
    raise _rejection(
        use_case, interval, digest, refused or {"files": ("", [CheckFailure(outcome.reason)])}, outcome.links
    )


def _rejection(
    use_case: UseCase,
    interval: Interval,
    digest: str,
    refused: dict[str, tuple[str, list[CheckFailure]]],
    links: dict[str, str],
) -> DataRejectedError:
    several = len(refused) > 1
    files = ", ".join(f"{source} ({file})" if file else source for source, (file, _) in refused.items())
    failures = [
        CheckFailure(f"{source}: {f.check}" if several else f.check, f.column, f.count, f.examples)
        for source, (_, found) in refused.items()
        for f in found
    ]
    where = quarantine.files_folder(use_case, interval, digest)
    step = NEXT_AFTER_REJECTION.format(folder=where) + (f" and {links['Data Docs']}" if "Data Docs" in links else "")
    return DataRejectedError(f"{use_case.name} {interval.key}: {files}", failures, next_step=step, links=links)


def _not_landed(use_case: UseCase, interval: Interval, incomplete: dict[str, str]) -> NotLandedError:
    missing = landing.missing(use_case, interval)
    waits = [why for source, why in incomplete.items() if use_case.sources[source].required]
    files = [f"there is no {url}" for url in missing if url.split("/")[-3] not in incomplete]
    step = "land the file and then its manifest.json in that folder" if files else "wait for the database"
    return NotLandedError(
        f"{use_case.name} {interval.key} has not landed: {', '.join([*files, *waits])}",
        next_step=f"{step}; the interval is then taken by itself",
    )


def _check_nothing_lost(use_case: UseCase, interval: Interval, part: Prepared) -> None:
    if part.raw.num_rows != part.clean.num_rows + part.rejected.num_rows:
        raise RowsLostError(
            f"{use_case.name} {interval.key} {part.source}: {part.raw.num_rows} rows in, {part.clean.num_rows} clean, "
            f"{part.rejected.num_rows} in quarantine",
            next_step="report this with the file; nothing was published",
        )
