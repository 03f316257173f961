"""Data Docs: one self-contained page for each report, and one that lists an interval's.

Great Expectations can build a site, but its pages load styles and scripts from the internet and a shared site has an
index that parallel runs overwrite. These pages are written once, into a folder of their own, and need nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from airworthy.config import get_settings
from airworthy.lake.landing import write_file
from airworthy.records import ExpectationResult, ValidationReport

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1d2733}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #d8dee6;vertical-align:top}"
    "code{font-size:.9em;overflow-wrap:anywhere}.ok{color:#0a6b36}.no{color:#a11616}.warn{color:#8a5a00}"
)


def write_data_docs(use_case: str, key: str, token: int, reports: Sequence[ValidationReport]) -> str:
    """Write the pages of one run over one interval; returns the URL at which people see them.

    Args:
        use_case: The use case's name.
        key: The interval's key.
        token: The run's fencing token: each run has a folder of its own.
        reports: The reports; those of one table are shown once.
    """
    settings = get_settings()
    place = f"data_docs/{use_case}/{key}/{token}"
    links = []
    for report in reports:
        source = report.table.rsplit("/", 1)[-1]
        write_file(f"{settings.docs_url}/{place}/{source}", "index.html", _report_page(report).encode())
        link = f'<td><a href="{escape(source)}/index.html">{escape(report.table)}</a></td>'
        links.append(f"<tr>{link}{_state(report)}<td>{report.rows}</td><td>{report.rejected}</td></tr>")
    heading = f"Data Docs: {use_case}, {key}"
    table = "<table><tr><th>Table</th><th>Result</th><th>Rows</th><th>Rejected</th></tr>" + "".join(links) + "</table>"
    write_file(f"{settings.docs_url}/{place}", "index.html", _page(heading, table).encode())
    return f"{settings.reports_url}/{place}/index.html"


def _report_page(report: ValidationReport) -> str:
    failed = [r for r in report.results if not r.success]
    summary = (
        f"<p>Suite <code>{escape(report.suite)}</code>, Great Expectations. {report.rows} rows, "
        f"{report.rejected} rejected, {len(report.results)} expectations, {len(failed)} not met.</p>"
        f"<table><tr><th>Interval</th>{_state(report)}</tr></table>"
    )
    ordered = sorted(report.results, key=lambda r: (r.success, ("critical", "warning", "info").index(r.severity)))
    rows = "".join(map(_row, ordered))
    names = ("Expectation", "Column", "Severity", "Result", "Rows", "Examples")
    head = "".join(f"<th>{name}</th>" for name in names)
    return _page(f"{report.table}, {report.interval.key}", f"{summary}<table><tr>{head}</tr>{rows}</table>")


def _row(result: ExpectationResult) -> str:
    colour = "ok" if result.success else ("no" if result.severity == "critical" else "warn")
    examples = "<br>".join(f"<code>{escape(e)}</code>" for e in result.examples)
    return (
        f"<tr><td><code>{escape(result.expectation)}</code></td><td>{escape(result.column or '')}</td>"
        f'<td>{result.severity}</td><td class="{colour}">{"met" if result.success else "not met"}</td>'
        f"<td>{result.unexpected}</td><td>{examples}</td></tr>"
    )


def _state(report: ValidationReport) -> str:
    return f'<td class="{"ok" if report.passed else "no"}">{"passed" if report.passed else "stopped"}</td>'


def _page(heading: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(heading)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(heading)}</h1>{body}</body></html>"
    )
