"""What would change if intervals were ingested now: a backfill, a late file, a correction. Nothing is changed to say so.

The answer comes from the functions that would do the work: the preview of an ingest, and the plan of the features'
catch-up. What hangs on the features is bounded from above: a feature row can be used from the start of its interval until
its view's ttl has passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from operator import or_

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.features.catalog import INSTANT, CompiledView, catalog
from airworthy.features.catchup import plans
from airworthy.features.publish import newest_rows
from airworthy.ingest.preview import Preview, preview
from airworthy.intervals import Interval, days
from airworthy.lake import tables
from airworthy.ledger import commits, promotions
from airworthy.ledger.clock import data_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TrainingSet
from airworthy.monitoring.collect import log_table
from airworthy.records import Record, TrainingSetRef
from airworthy.serving.batch import table_of as scores_table

MAX_READ = 60
"""So many new or changed intervals are read; of any further ones the manifests are believed."""
END_OF_TIME = datetime.max.replace(tzinfo=UTC)

Span = tuple[datetime, datetime]
"""Half-open, UTC."""


class ViewChange(Record):
    """What would be rebuilt of a feature view.

    Attributes:
        intervals: Keys of the feature intervals, also later ones whose window reaches back.
        rows: Rows that these intervals have now.
        online_keys: Keys whose newest value comes from one of them; at least so many values change, since the keys that a
            new interval brings are not known yet.
        waiting: Keys that would be rebuilt only after another landed interval is ingested.
    """

    intervals: tuple[str, ...]
    rows: int
    online_keys: int
    waiting: tuple[str, ...] = ()


class ModelChange(Record):
    """A release that was trained on a range that would change."""

    release: str
    version: int | None
    state: str
    training_set: str


class BlastRadius(Record):
    """What an ingest of the intervals from ``first`` to ``last`` would change.

    Attributes:
        intervals: Keys by what would become of them: ``new``, ``changed``, ``unchanged``, ``refused``, ``absent``.
        coming, going: Clean rows that would be added and taken away, by source; a changed row counts in both.
        refused: Why an interval would be refused, by key.
        unread: New or changed intervals whose files were not read: the manifests were believed.
        views: Feature views with something to rebuild.
        behind: Feature intervals that wait to be rebuilt anyway.
        training_sets: Digests of training sets over a range that would change.
        models: Releases trained on them, the champion among them if its state says so.
        predictions: Logged predictions that may have used a value that would change, by release.
        scores: Batch predictions of which the same is true, or whose own rows would change, by release.
    """

    use_case: str
    first: str
    last: str
    intervals: dict[str, tuple[str, ...]]
    coming: dict[str, int]
    going: dict[str, int]
    refused: dict[str, str]
    unread: int
    views: dict[str, ViewChange]
    behind: int
    training_sets: tuple[str, ...]
    models: tuple[ModelChange, ...]
    predictions: dict[str, int]
    scores: dict[str, int]
    summary: str = ""


def blast_radius(use_case: UseCase, first: Interval, last: Interval) -> BlastRadius:
    """What would change if the intervals from first to last, both included, were ingested now.

    Args:
        use_case: The use case.
        first, last: The intervals.

    Raises:
        ConfigurationError: the range is empty, or the use case's own code is at fault.
        ServiceUnavailableError: a source's database does not answer.
    """
    wanted = list(days(first, last))
    if not wanted:
        raise ConfigurationError(f"{last} is before {first}", next_step="give the earlier day first")
    found = _previews(use_case, wanted)
    expected = {key: p.clean for key, p in found.items() if p.state in ("new", "changed", "refused")}
    views, behind = _views(use_case, expected)
    used, days_changed = _used(use_case, views), _days_changed(use_case, expected)
    sets = _training_sets(use_case, _merged(used + [(day.start, day.end) for day in days_changed]))
    states = {
        state: tuple(k for k, p in found.items() if p.state == state)
        for state in ("new", "changed", "unchanged", "refused", "absent")
    }
    radius = BlastRadius(
        use_case=use_case.name, first=first.key, last=last.key, intervals=states,
        coming=_total(use_case, [p.coming for p in found.values()]), going=_total(use_case, [p.going for p in found.values()]),
        refused={key: p.reason for key, p in found.items() if p.state == "refused"},
        unread=max(0, len(states["new"]) + len(states["changed"]) + len(states["refused"]) - MAX_READ),
        views=views, behind=behind, training_sets=tuple(sets), models=_models(use_case, sets),
        predictions=_by_release(log_table(use_case), used), scores=_by_release(scores_table(use_case), used, days_changed),
    )  # fmt: skip
    return radius.model_copy(update={"summary": _words(radius)})


def _previews(use_case: UseCase, wanted: list[Interval]) -> dict[str, Preview]:
    decided, found, read = commits.decided_intervals(use_case.name), {}, 0
    for interval in wanted:
        seen = preview(use_case, interval, decided.get(interval.key), read=read < MAX_READ)
        read += seen.state in ("new", "changed", "refused")
        found[interval.key] = seen
    return found


def _total(use_case: UseCase, counts: list[dict[str, int]]) -> dict[str, int]:
    totals = {source: sum(c.get(source, 0) for c in counts) for source in use_case.sources}
    return {source: total for source, total in totals.items() if total}


def _views(use_case: UseCase, expected: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, ViewChange], int]:
    """What would be rebuilt because of the intervals, and how many feature intervals are behind without them."""
    compiled, changes, behind = catalog(use_case), {}, 0
    for (view, without), (_, planned) in zip(
        plans(use_case, compiled), plans(use_case, compiled, expected=expected), strict=True
    ):
        due = {key for key, digest in planned.inputs.items() if without.inputs.get(key) != digest}
        waiting = tuple(sorted(set(planned.waiting) - set(without.waiting)))
        behind += len(without.inputs.keys() - due)
        if due or waiting:
            own = commits.newest_commits(view.table)
            changes[view.name] = ViewChange(
                intervals=tuple(sorted(due)), rows=sum(own[key].rows for key in due if key in own),
                online_keys=_online_keys(use_case, view, due & own.keys()), waiting=waiting,
            )  # fmt: skip
    return changes, behind


def _online_keys(use_case: UseCase, view: CompiledView, due: set[str]) -> int:
    if not due:
        return 0
    rows = tables.read(view.table, Interval.of(min(due)))
    rows = rows.filter(pc.less_equal(rows["available_at"], pa.scalar(data_now(use_case), INSTANT)))
    newest = newest_rows(view, rows)
    return int(pc.sum(pc.is_in(newest[tables.INTERVAL], pa.array(sorted(due)))).as_py() or 0)


def _used(use_case: UseCase, views: Mapping[str, ViewChange]) -> list[Span]:
    """When feature values that would change can have been used."""
    used: list[Span] = []
    for view in catalog(use_case).views:
        ttl = view.view.ttl
        due = map(Interval.of, views[view.name].intervals if view.name in views else ())
        used += [(i.start, END_OF_TIME if ttl is None else i.end + ttl) for i in due]
    return _merged(used)


def _days_changed(use_case: UseCase, expected: Mapping[str, Mapping[str, str]]) -> list[Interval]:
    """Intervals whose own rows would be others: labels of a training set, what was scored in batch."""
    source = use_case.prediction.source
    published = commits.newest_commits(use_case.table("clean", source))
    return [
        Interval.of(key)
        for key, digests in expected.items()
        if source in digests and (key not in published or published[key].digest != digests[source])
    ]


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _training_sets(use_case: UseCase, spans: list[Span]) -> list[str]:
    with transaction() as session:
        rows = session.scalars(
            select(TrainingSet).where(TrainingSet.use_case == use_case.name).order_by(TrainingSet.built_at)
        ).all()
    refs = [TrainingSetRef.model_validate(row.ref) for row in rows]
    return [r.digest for r in refs if any(start < r.holdout_end and end > r.train_start for start, end in spans)]


def _models(use_case: UseCase, sets: list[str]) -> tuple[ModelChange, ...]:
    found = []
    for row in promotions.releases(use_case.name):
        verdict = promotions.get_verdict(row.verdict_id)
        if verdict and verdict.training_set_digest in sets:
            found.append(
                ModelChange(
                    release=row.digest, version=row.version, state=row.state, training_set=verdict.training_set_digest
                )
            )
    return tuple(found)


def _by_release(table: str, spans: list[Span], intervals: Sequence[Interval] = ()) -> dict[str, int]:
    """Rows of a table of predictions that were made in one of the spans, or are of one of the intervals."""
    if not spans and not intervals:
        return {}
    time = pc.field("prediction_time")
    among = pc.field(tables.INTERVAL).isin(pa.array([interval.key for interval in intervals], pa.string()))
    inside = ((time >= pa.scalar(a, INSTANT)) & (time < pa.scalar(b, INSTANT)) for a, b in spans)
    rows = tables.dataset(table).to_table(filter=reduce(or_, inside, among), columns=["release"])
    counts = pc.value_counts(rows["release"]).to_pylist()
    return {row["values"]: row["counts"] for row in sorted(counts, key=lambda row: -row["counts"])}


def _words(radius: BlastRadius) -> str:
    counts = [f"{len(keys)} {state}" for state, keys in radius.intervals.items() if keys]
    built = sum(len(view.intervals) for view in radius.views.values())
    online = sum(view.online_keys for view in radius.views.values())
    brought = "at least " if radius.intervals["new"] and built else ""  # by keys that are not known yet
    champion = ", the champion among them" if any(m.state == "champion" for m in radius.models) else ""
    return (
        f"{radius.first} to {radius.last}: intervals {', '.join(counts)}; {built} feature intervals to rebuild in "
        f"{len(radius.views)} views, {brought}{online} online keys; {len(radius.training_sets)} training sets, "
        f"{len(radius.models)} models{champion}; {sum(radius.predictions.values())} predictions, "
        f"{sum(radius.scores.values())} batch scores"
    )
