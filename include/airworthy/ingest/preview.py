"""What an ingest of an interval would do now. Looks and computes; lands, claims and publishes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import ibis
import pyarrow as pa

from airworthy.config import UseCase
from airworthy.ingest import extract
from airworthy.ingest.interval import must_decide_again, to_publish
from airworthy.ingest.prepare import prepare
from airworthy.ingest.schemas import AVAILABLE_AT
from airworthy.intervals import Interval
from airworthy.lake import landing, tables
from airworthy.lake.duck import ibis_session
from airworthy.lake.landing import Landed
from airworthy.ledger.clock import data_now
from airworthy.ledger.models import IngestedInterval

State = Literal["new", "changed", "unchanged", "refused", "absent"]


@dataclass(frozen=True)
class Preview:
    """What would become of an interval.

    Attributes:
        state: ``new`` or ``changed`` (it would be published), ``unchanged`` (already ingested), ``refused`` (it would
            be rejected) or ``absent`` (not landed).
        clean: Digest of the clean rows that each source would have.
        coming, going: Clean rows that would be added and taken away, by source; a changed row counts in both.
        reason: Why it would be refused.
    """

    state: State
    clean: dict[str, str] = field(default_factory=dict)
    coming: dict[str, int] = field(default_factory=dict)
    going: dict[str, int] = field(default_factory=dict)
    reason: str = ""


def preview(use_case: UseCase, interval: Interval, decided: IngestedInterval | None, *, read: bool) -> Preview:
    """What ``ingest_interval`` would do.

    Args:
        use_case: The use case.
        interval: The interval.
        decided: What became of it before, by the ledger.
        read: Read, validate and clean the files as an ingest does. Otherwise the manifests are believed: every row
            counts as good, and as new.

    Raises:
        ConfigurationError: the use case's own code or suite is at fault.
        ServiceUnavailableError: a source's database does not answer.
    """
    offers = {name: extract.offered(use_case, name, interval) for name, s in use_case.sources.items() if s.sql}
    news = {n: e for n, e in offers.items() if isinstance(e, extract.Extract) and extract.is_news(use_case, e.manifest)}
    landed = landing.landed(use_case, interval, instead={name: found.manifest for name, found in news.items()})
    if landed is None:
        return Preview("absent")
    if decided is not None and not must_decide_again(use_case, landed, decided):
        return Preview("unchanged")
    if read:
        return _read(use_case, landed, {name: found.content for name, found in news.items()}, decided)
    digests = dict.fromkeys(landed.manifests, f"unread {landed.digest}")
    return Preview(_state(decided), digests, {name: m.rows for name, m in landed.manifests.items()})


def _read(use_case: UseCase, landed: Landed, contents: dict[str, bytes], decided: IngestedInterval | None) -> Preview:
    sources = [name for name in use_case.sources if name in landed.manifests or name in landed.broken]
    parts = [prepare(use_case, landed, name, content=contents.get(name)) for name in sources]
    if failures := [f"{part.source}: {part.failures[0]}" for part in parts if part.failures]:
        return Preview("refused", reason="; ".join(failures))
    digests, coming, going = {}, {}, {}
    now = data_now(use_case)
    for part in parts:
        before, after = to_publish(use_case, landed.interval, part, now, redelivered=decided is not None)
        digests[part.source] = tables.digest(after)
        coming[part.source], going[part.source] = _difference(before, after)
    return Preview(_state(decided), digests, coming, going)


def _state(decided: IngestedInterval | None) -> State:
    return "changed" if decided is not None and decided.status == "published" else "new"


def _difference(before: pa.Table, after: pa.Table) -> tuple[int, int]:
    """Rows that come and rows that go; when they were known does not make a difference."""
    plain = after.drop_columns([AVAILABLE_AT])
    with ibis_session() as connection:
        new, old = ibis.memtable(plain), ibis.memtable(before.select(plain.schema.names).cast(plain.schema))
        come = connection.execute(ibis.difference(new, old, distinct=False).count())
        go = connection.execute(ibis.difference(old, new, distinct=False).count())
    return int(come), int(go)
