"""Validation after raw: clean rows, feature tables, training set, predictions. What they hold, we made ourselves.

So nothing goes to quarantine here: a failed critical expectation is a defect of a definition, and stops what was to be
published; warnings and infos are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from airworthy.config import UseCase
from airworthy.errors import DataRejectedError
from airworthy.intervals import Interval
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Validation
from airworthy.records import ExpectationResult, ValidationReport
from airworthy.validation import gx, screen
from airworthy.validation.data_docs import write_data_docs
from airworthy.validation.expectations import failures_of, result_of
from airworthy.validation.profile import TableProfile, profiles, write_profiles
from airworthy.validation.suites import Suite, stage_suite


def validate_stage(
    use_case: UseCase,
    layer: str,
    name: str,
    rows: pa.Table,
    first: Interval,
    last: Interval | None = None,
    *,
    masks: Mapping[str, str] | None = None,
    thorough: bool = False,
) -> ValidationReport | None:
    """Validate rows of a table after raw with its suite; None when the use case has none for it.

    Args:
        use_case: The use case.
        layer, name: Of the table: ``clean``, ``features``, ``training`` or ``log``.
        rows: The rows, without the column ``interval``.
        first, last: Intervals that they belong to, both included.
        masks: What is shown instead of the values of tagged columns.
        thorough: Let Great Expectations judge in any case; else only where the compiled rules find something.

    Raises:
        ConfigurationError: the suite cannot be used.
    """
    last = last or first
    found = stage_suite(use_case, layer, name, rows.schema)
    if found is None:
        return None
    suite = found.at(first, last)
    by_gx = thorough or not screen.clean(suite, rows)
    results = _by_gx(suite, rows, masks or {}) if by_gx else _all_met(suite)
    return ValidationReport(
        table=use_case.table(layer, name), interval=last, first=None if first == last else first, suite=suite.name,
        rows=rows.num_rows, rejected=0, passed=all(r.success for r in results if r.severity == "critical"),
        results=tuple(results), engine="great_expectations" if by_gx else "compiled",
    )  # fmt: skip


PROFILED = ("features", "scores")
"""Layers whose rows are profiled here. Of raw and clean rows the ingest does it; the log has its drift report."""


class StageChecks:
    """The validations of one run of a stage: their reports on one page, their rows in the ledger, and profiles of the rows.

    Args:
        use_case: The use case.
        place: Folder of the page under the use case's Data Docs; of this run alone.
    """

    def __init__(self, use_case: UseCase, place: str) -> None:
        self._use_case, self._place = use_case, place
        self._reports: list[ValidationReport] = []
        self._profiles: list[TableProfile] = []
        self._recorded = 0

    def check(
        self,
        layer: str,
        name: str,
        rows: pa.Table,
        first: Interval,
        last: Interval | None = None,
        *,
        masks: Mapping[str, str] | None = None,
        thorough: bool = False,
        next_step: str,
    ) -> None:
        """As ``validate_stage``; rows of ``PROFILED`` layers are also profiled, with or without a suite.

        Args:
            layer, name, rows, first, last, masks, thorough: See there.
            next_step: What to do when it fails.

        Raises:
            DataRejectedError: a critical expectation is not met. The page and the ledger's rows are written.
        """
        if layer in PROFILED:
            title = f"{self._use_case.table(layer, name)} {first}" + (f" to {last}" if last and last != first else "")
            self._profiles.append(profiles(rows, masks, title=title))
        report = validate_stage(self._use_case, layer, name, rows, first, last, masks=masks, thorough=thorough)
        if report is not None:
            self.add(report, next_step=next_step)

    def add(self, report: ValidationReport, *, next_step: str) -> None:
        """A report that was made elsewhere.

        Args:
            report: The report.
            next_step: What to do when it did not pass.

        Raises:
            DataRejectedError: it did not pass. The page and the ledger's rows are written.
        """
        self._reports.append(report)
        if not report.passed:
            links = self.keep()
            span = f"{report.first} to {report.interval}" if report.first else str(report.interval)
            raise DataRejectedError(
                f"{report.table} {span}", failures_of(report, 1.0), next_step=f"{next_step}; see {links['Data Docs']}",
                links=links,
            )  # fmt: skip

    def keep(self) -> dict[str, str]:
        """Write the pages, and the rows that are new; returns the links of the task, none when nothing was looked at."""
        links: dict[str, str] = {}
        if self._profiles:
            links["Profile"] = write_profiles(self._use_case.name, self._place, self._profiles)
        if self._reports:
            links["Data Docs"] = write_data_docs(self._use_case.name, self._place, self._reports)
            record(self._use_case, self._reports[self._recorded :], links["Data Docs"])
            self._recorded = len(self._reports)
        return links


def record(use_case: UseCase, reports: Sequence[ValidationReport], url: str) -> None:
    """The reports as rows of the ledger."""
    with transaction() as session:
        session.add_all(validation_rows(use_case, reports, url))


def validation_rows(use_case: UseCase, reports: Sequence[ValidationReport], url: str) -> list[Validation]:
    """The ledger's rows of some reports, with the address of their page."""
    return [
        Validation(
            use_case=use_case.name, table_name=report.table, interval=report.interval.key, passed=report.passed,
            report=report.model_copy(update={"data_docs": url}).to_json(),
        )
        for report in reports
    ]  # fmt: skip


def _by_gx(suite: Suite, rows: pa.Table, masks: Mapping[str, str]) -> list[ExpectationResult]:
    return [
        result_of(expectation, found, rows.schema, masks)
        for expectation, found in zip(suite.expectations, gx.run(suite, rows), strict=True)
    ]


def _all_met(suite: Suite) -> list[ExpectationResult]:
    return [
        ExpectationResult(
            expectation=e.words, column=", ".join(e.columns) or None, severity=e.severity, success=True, unexpected=0
        )
        for e in suite.expectations
    ]
