"""Checks value by value: slices, where the model must be good enough, and groups, which must be treated alike."""

from __future__ import annotations

from collections.abc import Iterator

from airworthy.evaluation.catalogue import Checker, number, show
from airworthy.evaluation.checks_basis import waived
from airworthy.evaluation.records import Evidence, SliceEvidence
from airworthy.records import Check, GroupShare


def slices_and_groups(make: Checker, e: Evidence) -> Iterator[Check]:
    """Every slice and group that the spec names."""
    yield from _slices(make, e)
    yield from _groups(make, e)


def _slices(make: Checker, e: Evidence) -> Iterator[Check]:
    least = make.gate.min_slice_rows
    for column in make.gate.slices:
        found = [s for s in e.slices if s.column == column]
        judged = [s for s in found if s.rows >= least]
        yield make.fact(
            "slices",
            bool(found),
            f"{len(found)} slices by {column}, {len(judged)} of them with {least} rows or more and judged"
            if found
            else f"no slices by {column}",
            subject=column,
        )
        for part in judged:
            yield _slice(make, part, compared=e.champion is not None and not waived(make, e))


def _slice(make: Checker, part: SliceEvidence, *, compared: bool) -> Check:
    gate, ours, theirs = make.gate, number(part.candidate), number(part.champion)
    # A champion without a number in a slice is missing evidence, just like a candidate without one.
    known = theirs is not None or not compared
    bound = gate.min_slice_roc_auc
    if theirs is not None and compared:
        bound = max(bound, theirs - gate.max_slice_regression)
    against = f" against champion {show(theirs)}" if compared else ""
    return make.number(
        "slice", ours, f"slice {part.name} n={part.rows}: ROC AUC {show(ours)}{against}, needs {bound:.3f}",
        subject=part.name, bound=bound, also=known,
    )  # fmt: skip


def _groups(make: Checker, e: Evidence) -> Iterator[Check]:
    least = make.gate.min_group_rows
    for column in make.gate.groups:
        found = [g for g in e.groups if g.column == column]
        judged = [g for g in found if g.rows >= least]
        yield make.fact(
            "groups",
            len(judged) >= 2,
            f"{len(found)} groups by {column}, {len(judged)} of them with {least} rows or more; two can be compared",
            subject=column,
        )
        if len(judged) < 2:
            continue
        for name, what, values in (
            ("fairness selection", "of the rows are acted on", [g.selection for g in judged]),
            ("fairness hits", "of the positives are found", [g.hits for g in judged]),
            ("fairness false alarms", "of the negatives are false alarms", [g.false_alarms for g in judged]),
        ):
            yield _gap(make, name, what, judged, values)


def _gap(make: Checker, name: str, what: str, groups: list[GroupShare], values: list[float | None]) -> Check:
    column, bound, known = groups[0].column, make.bound(name), [number(v) for v in values]
    subject = f"by {column}"
    pairs = sorted((v, g.value) for v, g in zip(known, groups, strict=True) if v is not None)
    if len(pairs) < len(groups):
        return make.number(name, None, f"by {column}: the share that {what} is missing for a group", subject=subject)
    (low, lowest), (high, highest) = pairs[0], pairs[-1]
    words = f"{column}={highest}: {high:.0%} {what}, {column}={lowest}: {low:.0%}; may differ by {bound:.0%}"
    return make.number(name, high - low, words, subject=subject)
