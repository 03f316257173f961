"""One run of Great Expectations over one interval of one table: a report, and which rows to reject and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from airworthy.config import UseCase
from airworthy.errors import MAX_EXAMPLES, CheckFailure, shown
from airworthy.intervals import Interval
from airworthy.records import ExpectationResult, ValidationReport
from airworthy.validation import gx
from airworthy.validation.suites import Expectation, load_suite


def validate(
    use_case: UseCase, table: str, rows: pa.Table, interval: Interval, *, already_rejected: int = 0
) -> tuple[ValidationReport, pa.BooleanArray, list[str | None]]:
    """Validate one interval of a source with its suite.

    What stops the interval: a failed critical expectation, or more rejected rows than ``max_rejected_share``. Rows that
    offend against a warning that judges rows are rejected one by one; other warnings and infos are reported only.

    Args:
        use_case: The use case.
        table: The source.
        rows: The rows, typed as raw.
        interval: Their interval.
        already_rejected: Rows of the same file that could not even be typed; they count towards the share.

    Returns:
        The report (``rows`` and ``rejected`` count the whole file), a mask that is true where a row is rejected, and
        why (None where it is not), both in the order of ``rows``.

    Raises:
        ConfigurationError: the suite cannot be used, or one of its expectations cannot be evaluated.
    """
    suite = load_suite(use_case, table).at(interval, interval)
    results: list[ExpectationResult] = []
    reasons: list[str | None] = [None] * rows.num_rows
    masks = use_case.sources[table].masks
    for expectation, found in zip(suite.expectations, gx.run(suite, rows), strict=True):
        results.append(result_of(expectation, found, rows.schema, masks))
        if expectation.judges_rows and expectation.severity == "warning":
            for number in found["result"].get("unexpected_index_list") or []:
                reasons[number] = "; ".join(filter(None, [reasons[number], _reason(expectation)]))
    rejected = already_rejected + sum(reason is not None for reason in reasons)
    total = already_rejected + rows.num_rows
    stopped = any(r.severity == "critical" and not r.success for r in results)
    report = ValidationReport(
        table=use_case.table("raw", table), interval=interval, suite=suite.name, rows=total, rejected=rejected,
        passed=not stopped and rejected <= use_case.sources[table].max_rejected_share * total, results=tuple(results),
    )  # fmt: skip
    return report, pa.array([reason is not None for reason in reasons], pa.bool_()), reasons


def failures_of(report: ValidationReport, max_rejected_share: float) -> list[CheckFailure]:
    """Why a report did not pass, bounded; empty when it passed.

    Args:
        report: The report.
        max_rejected_share: The source's bound.
    """
    if report.passed:
        return []
    failures = [
        CheckFailure(r.expectation, r.column, r.unexpected, r.examples)
        for r in report.results
        if r.severity == "critical" and not r.success
    ]
    if report.rejected > max_rejected_share * report.rows:
        share = f"{report.rejected} of {report.rows} rows rejected, more than the share of {max_rejected_share:g}"
        warned = [r for r in report.results if r.severity == "warning" and not r.success and r.unexpected]
        failures += [
            CheckFailure(share),
            *(CheckFailure(r.expectation, r.column, r.unexpected, r.examples) for r in warned),
        ]
    return failures


def result_of(
    expectation: Expectation, found: dict[str, Any], schema: pa.Schema, masks: Mapping[str, str]
) -> ExpectationResult:
    """What GX found, as it is kept: bounded, and without the values of tagged columns.

    Args:
        expectation: The expectation.
        found: GX's result.
        schema: Of the rows.
        masks: What is shown instead of the values of tagged columns.
    """
    result = found["result"]
    whole = all(pa.types.is_integer(schema.field(n).type) for n in expectation.columns if n in schema.names)
    values = (result.get("partial_unexpected_list") or [])[:MAX_EXAMPLES]
    examples = [shown(f"{v:.0f}" if whole and isinstance(v, float) else v) for v in values]
    if not examples and not found["success"] and result.get("observed_value") is not None:
        examples = [shown(f"observed {result['observed_value']}")]
    if examples and (mask := next((masks[n] for n in expectation.columns if n in masks), None)):
        examples = [mask]
    return ExpectationResult(
        expectation=expectation.words, column=", ".join(expectation.columns) or None, severity=expectation.severity,
        success=found["success"], unexpected=int(result.get("unexpected_count") or 0), examples=tuple(examples),
    )  # fmt: skip


def _reason(expectation: Expectation) -> str:
    return f"{', '.join(expectation.columns)}: {expectation.words}"
