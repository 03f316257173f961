"""Severities: what stops an interval, what rejects a row, what is only reported; and the page that shows it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from parcels.suites import one, raw, with_suite

from airworthy.config import UseCase, get_settings, load_use_case
from airworthy.errors import ConfigurationError
from airworthy.intervals import Interval
from airworthy.records import ValidationReport
from airworthy.validation import failures_of, validate, write_data_docs

DAY = Interval.of("2013-11-05")
ROWS = raw(parcel=[f"p{n}" for n in range(20)], pieces=[0, *range(1, 20)], zone=[None, "<b>x</b>", *["north"] * 18])


@pytest.fixture
def use_case() -> UseCase:
    return load_use_case("parcels")


def run(
    use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *expectations: dict[str, Any], **more: Any
) -> Any:
    with_suite(tmp_path, list(expectations), monkeypatch)
    return validate(use_case, "parcels", ROWS, DAY, **more)


def positive(severity: str, **kwargs: Any) -> dict[str, Any]:
    return one("expect_column_values_to_be_between", severity, column="pieces", min_value=1, **kwargs)


def test_a_warning_that_judges_rows_rejects_those_rows(
    use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    null = one("expect_column_values_to_not_be_null", column="zone")
    report, mask, reasons = run(use_case, tmp_path, monkeypatch, positive("warning"), null)
    assert report.passed
    assert (report.rows, report.rejected) == (20, 1)
    assert mask.to_pylist() == [True] + [False] * 19
    assert reasons[0] == (
        "pieces: expect_column_values_to_be_between(min_value=1); zone: expect_column_values_to_not_be_null()"
    )
    assert reasons[1:] == [None] * 19
    (first, _) = report.results
    assert (first.column, first.unexpected, first.examples, first.success) == ("pieces", 1, ("0",), False)
    assert failures_of(report, 0.1) == []


@pytest.mark.parametrize(
    "expectation",
    [
        positive("critical"),
        positive("critical", mostly=0.99),
        one("expect_table_row_count_to_be_between", "critical", min_value=21),
        one("expect_column_values_to_be_unique", "critical", column="zone"),
    ],
)
def test_a_critical_failure_stops_the_interval(
    use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expectation: dict[str, Any]
) -> None:
    report, mask, _ = run(use_case, tmp_path, monkeypatch, expectation)
    assert not report.passed
    assert not any(mask.to_pylist())
    (failure,) = failures_of(report, 0.1)
    assert expectation["type"] in failure.check


@pytest.mark.parametrize(
    "expectation",
    [
        positive("info"),
        positive("warning", mostly=0.99),
        one("expect_table_row_count_to_be_between", "warning", min_value=21),
        one("expect_column_values_to_be_unique", "warning", column="zone"),
    ],
)
def test_what_neither_stops_nor_judges_rows_is_reported(
    use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expectation: dict[str, Any]
) -> None:
    report, mask, _ = run(use_case, tmp_path, monkeypatch, expectation)
    assert report.passed
    assert report.rejected == 0
    assert not any(mask.to_pylist())
    assert not report.results[0].success


def test_too_large_a_share_of_rejected_rows_stops_the_interval(
    use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The bound is a tenth: 2 of 20 pass, the third does not, wherever it was rejected.
    two = one("expect_column_values_to_be_between", column="pieces", min_value=2)
    assert run(use_case, tmp_path, monkeypatch, two)[0].passed
    report, _, _ = run(use_case, tmp_path, monkeypatch, two, already_rejected=1)
    assert (report.passed, report.rows, report.rejected) == (False, 21, 3)
    share, worst = failures_of(report, 0.1)
    assert share.check == "3 of 21 rows rejected, more than the share of 0.1"
    assert (worst.column, worst.count) == ("pieces", 2)


@pytest.mark.parametrize(
    "expectation",
    [
        one("expect_column_values_to_be_between", column="pieces", min_value="one"),
        one("expect_no_such_thing", column="pieces"),
        one("expect_column_values_to_be_between", column="pieces", min_value=3, max_value=1),
    ],
)
def test_an_expectation_that_cannot_be_evaluated_fails_closed(
    use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expectation: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"suite\.json"):
        run(use_case, tmp_path, monkeypatch, expectation)


def test_threads_do_not_disturb_each_other(use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_suite(tmp_path, [positive("warning")], monkeypatch)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: validate(use_case, "parcels", ROWS.slice(0, n), DAY)[0], range(1, 13)))
    assert [report.rows for report in found] == list(range(1, 13))
    assert all(report.results[0].unexpected == 1 for report in found)


def test_an_empty_table_is_validated(use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_suite(
        tmp_path,
        [positive("critical"), one("expect_column_values_to_match_regex", column="zone", regex="n")],
        monkeypatch,
    )
    assert validate(use_case, "parcels", ROWS.slice(0, 0), DAY)[0].passed


def test_the_pages_show_the_report_and_need_nothing_else(
    use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRWORTHY_VAR", str(tmp_path))
    get_settings.cache_clear()
    allowed = one("expect_column_values_to_be_in_set", column="zone", value_set=["north"])
    report: ValidationReport = run(use_case, tmp_path, monkeypatch, positive("critical"), allowed)[0]
    url = write_data_docs("parcels", f"{DAY.key}/3", [report])
    assert url == f"{get_settings().reports_url}/data_docs/parcels/2013-11-05/3/index.html"
    folder = tmp_path / "reports" / "data_docs" / "parcels" / "2013-11-05" / "3"
    index, page = (folder / "index.html").read_text(), (folder / "parcels" / "index.html").read_text()
    get_settings.cache_clear()
    assert 'href="parcels/index.html"' in index
    assert "stopped" in index
    assert "expect_column_values_to_be_between(min_value=1)" in page
    assert "20 rows, 1 rejected" in page
    # Landed values are shown as text, never as markup, and nothing is loaded from elsewhere.
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page
    assert not re.search(r"https?://|<script", index + page)
