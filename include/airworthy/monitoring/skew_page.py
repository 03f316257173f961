"""The skew report as one small HTML page."""

from __future__ import annotations

from html import escape

from airworthy.config import UseCase
from airworthy.evaluation.report import STYLE
from airworthy.records import SkewOutcome


def page(use_case: UseCase, outcome: SkewOutcome, definitions: str) -> str:
    """The report; self-contained. ``definitions`` is the digest of the feature definitions that were recomputed."""
    mark = '<span class="refuse">skew</span>' if outcome.mismatches else '<span class="pass">no skew</span>'
    rows = "".join(
        f"<tr><td>{escape(s.feature)}</td><td>{escape(s.view)}</td><td class=n>{s.mismatches:,} of {s.compared:,}</td>"
        f"<td class=n>{s.share:.1%}</td><td class=n>{s.served_nothing:,}</td>"
        f"<td>{'<br>'.join(map(escape, s.examples))}</td></tr>"
        for s in outcome.mismatches
    )
    table = (
        "<table><thead><tr><th>Feature</th><th>View</th><th class=n>Differ</th><th class=n>Share</th>"
        f"<th class=n>Served without a value</th><th>Examples</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Skew of {escape(use_case.name)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(use_case.title)}: {mark}</h1>"
        f"<p>{escape(outcome.reason)}</p>{table if rows else ''}"
        f"<p><small>Predictions from {outcome.window_start:%Y-%m-%d} to {outcome.window_end:%Y-%m-%d} UTC. Each vector "
        "was recomputed from the clean tables as they were known at its moment, by the definitions "
        f"{escape(definitions[:12])}; numbers may differ by {outcome.tolerance:g} (relative and absolute).</small></p>"
        "</body></html>"
    )
