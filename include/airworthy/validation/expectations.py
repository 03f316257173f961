"""One run of Great Expectations over one interval of one table: a report, and which rows to reject and why."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa

from airworthy.config import UseCase
from airworthy.errors import MAX_EXAMPLES, MAX_TEXT, CheckFailure, ConfigurationError
from airworthy.intervals import Interval
from airworthy.records import ExpectationResult, ValidationReport
from airworthy.validation.suites import Expectation, Suite, load_suite


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
    suite = load_suite(use_case, table)
    results: list[ExpectationResult] = []
    reasons: list[str | None] = [None] * rows.num_rows
    whole = {field.name for field in rows.schema if pa.types.is_integer(field.type)}
    for expectation, found in zip(suite.expectations, _run(suite, rows), strict=True):
        results.append(_result(expectation, found, whole.issuperset(expectation.columns)))
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


def _run(suite: Suite, rows: pa.Table) -> list[dict[str, Any]]:
    """GX's results in the order of the suite's expectations."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    configured = [
        {"type": e.type, "kwargs": e.kwargs, "severity": e.severity, "meta": {**e.meta, "position": number}}
        for number, e in enumerate(suite.expectations)
    ]
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False), analytics_enabled=False,
        ),
    )  # fmt: skip
    try:
        expectations = gx.ExpectationSuite(name=suite.name, expectations=configured)
    except Exception as error:  # GX raises its own and pydantic's errors here, with no common base
        raise ConfigurationError(
            f"the suite {suite.path} is not one of GX: {error}", next_step="correct the suite"
        ) from error
    source = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    # Integers beside an empty cell become floats: pandas' other forms of them cannot be compared with a column.
    batch = source.add_batch_definition_whole_dataframe("interval").get_batch({"dataframe": rows.to_pandas()})
    answer = batch.validate(expectations, result_format={"result_format": "COMPLETE"})
    found: dict[int, dict[str, Any]] = {}
    for result in answer.results:
        position = int(result.expectation_config.meta["position"])
        _check_evaluated(suite, suite.expectations[position], result.exception_info)
        found[position] = {"success": bool(result.success), "result": dict(result.result)}
    silent = [e.words for number, e in enumerate(suite.expectations) if number not in found]
    if silent:
        raise ConfigurationError(
            f"GX gave no answer to {silent[0]} of {suite.path}", next_step="name each expectation once"
        )
    return [found[number] for number in range(len(suite.expectations))]


def _check_evaluated(suite: Suite, expectation: Expectation, info: dict[str, Any]) -> None:
    messages = [
        str(i.get("exception_message"))
        for i in [info, *info.values()]
        if isinstance(i, dict) and i.get("raised_exception")
    ]
    if messages:
        raise ConfigurationError(
            f"{expectation.words} of {suite.path} cannot be evaluated: {messages[0][:300]}",
            next_step="correct the suite",
        )


def _result(expectation: Expectation, found: dict[str, Any], whole_numbers: bool) -> ExpectationResult:
    result = found["result"]
    examples = [_shown(value, whole_numbers) for value in (result.get("partial_unexpected_list") or [])[:MAX_EXAMPLES]]
    if not examples and not found["success"] and result.get("observed_value") is not None:
        examples = [f"observed {result['observed_value']}"[:MAX_TEXT]]
    return ExpectationResult(
        expectation=expectation.words, column=", ".join(expectation.columns) or None, severity=expectation.severity,
        success=found["success"], unexpected=int(result.get("unexpected_count") or 0), examples=tuple(examples),
    )  # fmt: skip


def _shown(value: object, whole_number: bool) -> str:
    text = f"{value:.0f}" if whole_number and isinstance(value, float) else str(value)
    return text[:MAX_TEXT]


def _reason(expectation: Expectation) -> str:
    return f"{', '.join(expectation.columns)}: {expectation.words}"
