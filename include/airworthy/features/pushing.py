"""Observations that are pushed as they happen: checked as a landed file is, and online at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError, DataRejectedError
from airworthy.features.build import run, spine
from airworthy.features.catalog import SPINE, CompiledView, catalog, relation
from airworthy.features.definitions import AVAILABLE_AT
from airworthy.features.publish import write
from airworthy.ingest import clean_rows, parse_rows
from airworthy.ingest.forgetting import forgotten_rows
from airworthy.intervals import Interval
from airworthy.lake.duck import session
from airworthy.lake.tables import INTERVAL
from airworthy.ledger.clock import data_now
from airworthy.validation.row_rules import row_rule


@dataclass(frozen=True)
class PushOutcome:
    """What became of pushed rows.

    Attributes:
        accepted: Rows that are online now, or were overtaken by a newer value there.
        rejected: Why each other row does not count, such as ``row 3: heat: empty``.
    """

    accepted: int
    rejected: list[str]


def push(use_case: UseCase, source: str, rows: Sequence[dict[str, Any]]) -> PushOutcome:
    """Bring observations online: typed, checked by the row rules of the suite, cleaned, and built as offline.

    The same observation lands later in its interval's file, and the feature table then holds the same values. A bad
    row is counted with its reason and keeps no good one back. Rows may come twice and in any order.

    Args:
        use_case: The use case.
        source: A source with ``pushed: true``.
        rows: As in the landed file, or as JSON values.

    Raises:
        ConfigurationError: the source is not pushed, or the features are not registered with Feast.
        ServiceUnavailableError: the online store does not answer; nothing was written.
    """
    views = _pushed_views(use_case, source)
    rejected: dict[int, str] = {}
    raw, numbers = _typed(use_case, source, rows, rejected)
    wanted = pc.invert(forgotten_rows(use_case, raw))
    raw, numbers = _keep(raw, numbers, wanted, rejected, "its key is to be forgotten")
    raw, numbers = _keep(
        raw, numbers, row_rule(use_case, source)(raw), rejected, "it breaks an expectation of the suite"
    )
    if raw.num_rows:
        clean = clean_rows(use_case, source, raw)
        clean, numbers = _known(use_case, source, clean, numbers, rejected)
        if clean.num_rows:
            _publish(use_case, source, clean, views)
    return PushOutcome(len(numbers), [f"row {n + 1}: {rejected[n]}" for n in sorted(rejected)])


def _pushed_views(use_case: UseCase, source: str) -> list[CompiledView]:
    spec = use_case.sources.get(source)
    if spec is None or not spec.pushed or spec.observed in ("interval_start", "interval_end"):
        able = [name for name, s in use_case.sources.items() if s.pushed] or ["none"]
        raise ConfigurationError(
            f"observations of {source!r} of {use_case.name} cannot be pushed",
            next_step=f"push to one of: {', '.join(able)}; it needs pushed: true and observed: <timestamp column>",
        )
    return [view for view in catalog(use_case).views if view.view.pushed and source in view.view.sources]


def _typed(
    use_case: UseCase, source: str, rows: Sequence[dict[str, Any]], rejected: dict[int, str]
) -> tuple[pa.Table, list[int]]:
    """The rows that can be typed, and their numbers."""
    try:
        return parse_rows(use_case, source, list(rows)), list(range(len(rows)))
    except DataRejectedError:
        pass  # one by one, to find which
    good, numbers = [], []
    for number, row in enumerate(rows):
        try:
            good.append(parse_rows(use_case, source, [row]))
            numbers.append(number)
        except DataRejectedError as error:
            rejected[number] = "; ".join(str(failure) for failure in error.failures[:3])
    return pa.concat_tables([parse_rows(use_case, source, []), *good]), numbers


def _known(
    use_case: UseCase, source: str, clean: pa.Table, numbers: list[int], rejected: dict[int, str]
) -> tuple[pa.Table, list[int]]:
    """Without rows from the future: a value never goes backwards, so one of them would keep every true one out."""
    now: datetime = data_now(use_case)
    known = pc.less_equal(clean[AVAILABLE_AT], pa.scalar(now, clean.schema.field(AVAILABLE_AT).type))
    reason = f"its time plus the source's lag is after {now.isoformat()}, which is now: it cannot be known yet"
    return _keep(clean, numbers, known, rejected, reason)


def _keep(
    table: pa.Table, numbers: list[int], good: pa.Array, rejected: dict[int, str], reason: str
) -> tuple[pa.Table, list[int]]:
    answers = good.to_pylist()
    rejected.update({n: reason for n, passed in zip(numbers, answers, strict=True) if not passed})
    return table.filter(good), [n for n, passed in zip(numbers, answers, strict=True) if passed]


def _publish(use_case: UseCase, source: str, clean: pa.Table, views: list[CompiledView]) -> None:
    moments = clean[use_case.sources[source].observed].to_pylist()
    intervals = [Interval.containing(moment) for moment in moments]
    rows = clean.append_column(pa.field(INTERVAL, pa.string()), pa.array([i.key for i in intervals], pa.string()))
    unique = sorted(set(intervals), key=lambda interval: interval.key)
    with session() as connection:
        connection.register(relation(source), rows)
        for view in views:
            connection.register(SPINE, spine(use_case, view, unique))
            write(use_case, view, run(connection, view))
