"""Skew: served feature vectors recomputed from the clean tables for the moment they were served at; each difference is a fault."""

from __future__ import annotations

import json
import logging
import math
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy import features
from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.evaluation.documents import publish_document
from airworthy.features.catalog import ARROW, Catalog, catalog
from airworthy.intervals import Interval, utc
from airworthy.ledger import commits
from airworthy.ledger.database import transaction
from airworthy.ledger.models import SkewCheck
from airworthy.monitoring.collect import collect, predictions
from airworthy.monitoring.skew_page import page
from airworthy.records import FeatureSkew, SkewOutcome

log = logging.getLogger(__name__)

TOLERANCE = 1e-9
VECTORS = 5_000
EXAMPLES = 3
SHOWN = 5
REQUEST = "request"
NOT_LOOKED_UP = ("caller", "fallback")


def skew(use_case: UseCase, last_day: Interval, days: int = 7, *, run: str) -> SkewOutcome:
    """Recompute the vectors that were served in a window, and name every feature that differs.

    Only the offline path is used: the definitions over the clean tables as they were known at each prediction, never
    the feature tables, the online store or the logged values. At most 5,000 vectors are taken, spread evenly.

    Args:
        use_case: The use case.
        last_day: Last interval of the window, by prediction time.
        days: Intervals in the window.
        run: The Airflow run or the person.

    Raises:
        ConfigurationError: a window without days, or a definition that fails.
    """
    if days < 1:
        raise ConfigurationError(f"a window of {days} days is none", next_step="give 1 day or more")
    collect(use_case)
    first = last_day.shift(1 - days)
    served = _looked_up(predictions(use_case, first, last_day))
    definitions = catalog(use_case)
    same = served.filter(pc.fill_null(pc.equal(served["feature_digest"], definitions.digest), False))
    usable = _recomputable(use_case, same)
    sample = _spread(usable)
    not_logged, mismatches = _compare(use_case, definitions, sample) if sample.num_rows else ((), ())
    outcome = SkewOutcome(
        use_case=use_case.name, window_start=first.start, window_end=last_day.end, predictions=served.num_rows,
        vectors=sample.num_rows, left_out=same.num_rows - usable.num_rows,
        other_definitions=served.num_rows - same.num_rows, tolerance=TOLERANCE,
        not_logged=not_logged, mismatches=mismatches,
    )  # fmt: skip
    outcome = outcome.model_copy(update={"reason": _reason(outcome)})
    url = publish_document(f"skew/{use_case.name}/{first}_{last_day}.html", page(use_case, outcome, definitions.digest))
    outcome = outcome.model_copy(update={"links": {"Skew report": url}})
    _record(outcome, f"{first}_{last_day}")
    log.info("skew of %s %s to %s, for %s: %s", use_case.name, first, last_day, run, outcome.reason)
    return outcome


def recorded(use_case: str, window: str) -> SkewOutcome | None:
    """What was found in a window (``<first day>_<last day>``); None when nobody has looked."""
    with transaction() as session:
        row = session.get(SkewCheck, (use_case, window))
    return SkewOutcome.model_validate(row.record) if row else None


def _looked_up(served: pa.Table) -> pa.Table:
    """Without the vectors that clients gave whole, and those of an online store that was away: nothing was looked up."""
    return served.filter(pc.fill_null(pc.invert(pc.is_in(served["features_from"], pa.array(NOT_LOOKED_UP))), True))


def _recomputable(use_case: UseCase, served: pa.Table) -> pa.Table:
    """The vectors whose pushed observations have landed since: those of their own day and of the night before it."""
    if not any(view.view.pushed for view in catalog(use_case).views) or not served.num_rows:
        return served
    published = {k for k, row in commits.decided_intervals(use_case.name).items() if row.status == "published"}
    whole = {k for k in published if Interval.of(k).shift(-1).key in published or k == use_case.data.first.isoformat()}
    return served.filter(pc.is_in(served["interval"], pa.array(sorted(whole), pa.string())))


def _spread(rows: pa.Table) -> pa.Table:
    if rows.num_rows <= VECTORS:
        return rows
    return rows.take(pa.array(np.linspace(0, rows.num_rows - 1, VECTORS).astype(np.int64)))


def _compare(
    use_case: UseCase, definitions: Catalog, sample: pa.Table
) -> tuple[tuple[str, ...], tuple[FeatureSkew, ...]]:
    found = features.recompute(use_case, _requests(use_case, definitions, sample), sample["prediction_time"])
    vectors = [json.loads(text) for text in sample["features"].to_pylist()]
    views = {name: view.name for view in definitions.views for name in view.features}
    skewed, not_logged = [], []
    for name in definitions.columns:
        pairs = [
            (row, vector[name], value)
            for row, (vector, value) in enumerate(zip(vectors, found[name].to_pylist(), strict=True))
            if name in vector
        ]
        different = [pair for pair in pairs if not _same(pair[1], pair[2])]
        if not pairs:
            not_logged.append(name)
        if different:
            skewed.append(
                FeatureSkew(
                    feature=name, view=views.get(name, REQUEST), compared=len(pairs), mismatches=len(different),
                    served_nothing=sum(served is None for _, served, _ in different),
                    examples=tuple(_example(sample, *pair, definitions.masks.get(name)) for pair in different[:EXAMPLES]),
                )
            )  # fmt: skip
    return tuple(not_logged), tuple(sorted(skewed, key=lambda s: (-s.share, s.feature)))


def _requests(use_case: UseCase, definitions: Catalog, sample: pa.Table) -> pa.Table:
    """What was asked, typed; the prediction's time is the request's own where it carries one."""
    asked = [json.loads(text) for text in sample["request"].to_pylist()]
    columns: dict[str, Any] = {}
    for name, kind in definitions.request.items():
        if name == use_case.prediction.time and name not in use_case.prediction.request:
            columns[name] = sample["prediction_time"]
            continue
        values = [fields.get(name) for fields in asked]
        if kind == "timestamp":
            values = [None if v is None else utc(datetime.fromisoformat(v)) for v in values]
        columns[name] = pa.array(values, ARROW[kind])
    return pa.table(columns)


def _same(served: Any, found: Any) -> bool:
    if isinstance(found, float) and isinstance(served, (int, float)):
        return math.isclose(served, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(served) is type(found) and bool(served == found)


def _example(sample: pa.Table, row: int, served: Any, found: Any, mask: str | None) -> str:
    moment, prediction = sample["prediction_time"][row].as_py(), sample["prediction_id"][row].as_py()
    return (
        f"{prediction[:12]} at {moment:%Y-%m-%d %H:%M:%S}: served {_show(served, mask)}, should be {_show(found, mask)}"
    )


def _show(value: Any, mask: str | None) -> str:
    return "nothing" if value is None else mask or f"{value!r:.40}"


def _reason(outcome: SkewOutcome) -> str:
    left_out = [
        f"{count:,} left out: {why}"
        for count, why in (
            (outcome.left_out, "their observations are not published"),
            (outcome.other_definitions, "served with other feature definitions than the present ones"),
        )
        if count
    ]
    if not outcome.vectors:
        return f"no skew measured: no vector that can be recomputed{'; ' if left_out else ''}{'; '.join(left_out)}"
    whole = outcome.vectors + outcome.left_out + outcome.other_definitions == outcome.predictions
    count = f"all {outcome.vectors:,}" if whole else f"{outcome.vectors:,} of {outcome.predictions:,}"
    words = f"{count} served vectors recomputed"
    if left_out:
        words += f" ({'; '.join(left_out)})"
    if outcome.not_logged:
        words += f"; not in the log: {', '.join(outcome.not_logged[:SHOWN])}"
    if not outcome.mismatches:
        return f"no skew: {words}, equal"
    shown = [f"{s.feature} ({s.mismatches:,} of {s.compared:,}, {s.view})" for s in outcome.mismatches[:SHOWN]]
    more = len(outcome.mismatches) - SHOWN
    return f"SKEW in {', '.join(shown)}{f' and {more} more' if more > 0 else ''}; {words}"


def _record(outcome: SkewOutcome, window: str) -> None:
    with transaction() as session:
        session.merge(
            SkewCheck(
                use_case=outcome.use_case, window=window, vectors=outcome.vectors,
                violates=bool(outcome.mismatches), record=outcome.to_json(),
            )
        )  # fmt: skip
