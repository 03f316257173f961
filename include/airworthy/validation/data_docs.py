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


ENGINES = {
    "great_expectations": "Great Expectations",
    "compiled": "met by its compiled rules, so Great Expectations was not asked",
    "airworthy": "checks of the whole set, with the bounds of use_case.yaml",
}


def write_data_docs(use_case: str, place: str, reports: Sequence[ValidationReport]) -> str:
    """Write the pages of one run; returns the URL at which people see them.

    Args:
        use_case: The use case's name.
        place: Folder of the run, of its own: a fencing token or a digest is in it.
        reports: The reports; those of one table are shown once.
    """
    settings = get_settings()
    folder = f"data_docs/{use_case}/{place}"
    links = []
    for report in reports:
        name = _page_name(report)
        write_file(f"{settings.docs_url}/{folder}/{name}", "index.html", _reportpage(report).encode())
        link = f'<td><a href="{escape(name)}/index.html">{escape(report.table)}</a></td>'
        links.append(f"<tr>{link}{_state(report)}<td>{report.rows}</td><td>{report.rejected}</td></tr>")
    heading = f"Data Docs: {use_case}, {place.rpartition('/')[0] or place}"
    table = "<table><tr><th>Table</th><th>Result</th><th>Rows</th><th>Rejected</th></tr>" + "".join(links) + "</table>"
    write_file(f"{settings.docs_url}/{folder}", "index.html", page(heading, table).encode())
    return f"{settings.reports_url}/{folder}/index.html"


def _page_name(report: ValidationReport) -> str:
    _, layer, name = report.table.split("/", 2)
    return name if layer == "raw" else f"{layer}-{name}"


def _reportpage(report: ValidationReport) -> str:
    failed = [r for r in report.results if not r.success]
    summary = (
        f"<p>Suite <code>{escape(report.suite)}</code>, {ENGINES[report.engine]}. {report.rows} rows, "
        f"{report.rejected} rejected, {len(report.results)} expectations, {len(failed)} not met.</p>"
        f"<table><tr><th>Interval</th>{_state(report)}</tr></table>"
    )
    ordered = sorted(report.results, key=lambda r: (r.success, ("critical", "warning", "info").index(r.severity)))
    rows = "".join(map(_row, ordered))
    names = ("Expectation", "Column", "Severity", "Result", "Rows", "Examples")
    head = "".join(f"<th>{name}</th>" for name in names)
    span = f"{report.first} to {report.interval}" if report.first else report.interval.key
    return page(f"{report.table}, {span}", f"{summary}<table><tr>{head}</tr>{rows}</table>")


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


def page(heading: str, body: str) -> str:
    """A page in the style of the Data Docs; the heading is escaped, the body is not."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(heading)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(heading)}</h1>{body}</body></html>"
    )
