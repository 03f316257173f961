"""The blast radius as one HTML page, self-contained."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from airworthy.config import UseCase
from airworthy.evaluation.documents import publish_document
from airworthy.monitoring.blast_radius import BlastRadius

SHOWN = 40
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left;"
    "vertical-align:top}h2{font-size:1.1rem;margin-top:2rem}"
)


def publish_page(use_case: UseCase, radius: BlastRadius) -> str:
    """Write the page, replacing an earlier one about the same intervals; returns its link."""
    return publish_document(f"blast_radius/{use_case.name}/{radius.first}_{radius.last}.html", render(use_case, radius))


def render(use_case: UseCase, radius: BlastRadius) -> str:
    """The page."""
    sources = sorted(radius.coming.keys() | radius.going.keys())
    body = [
        f"<h1>{escape(use_case.title)}: what would change</h1><p>{escape(radius.summary)}</p>",
        "<h2>Intervals</h2>",
        _table(("state", "how many", "which"), [(s, len(k), _some(k)) for s, k in radius.intervals.items() if k]),
        _table(("refused", "why"), radius.refused.items()) if radius.refused else "",
        f"<p>{radius.unread} of them were not read: their manifests were believed.</p>" if radius.unread else "",
        "<h2>Clean rows</h2>",
        _table(("source", "come", "go"), [(s, radius.coming.get(s, 0), radius.going.get(s, 0)) for s in sources]),
        "<h2>Features</h2>",
        _table(
            ("view", "intervals to rebuild", "rows in them now", "online keys, at least", "which"),
            [(n, len(v.intervals), v.rows, v.online_keys, _some(v.intervals)) for n, v in radius.views.items()],
        ),
        f"<p>{radius.behind} more feature intervals wait to be rebuilt anyway.</p>" if radius.behind else "",
        "<h2>Models trained on them</h2>",
        _table(("release", "version", "state", "training set"), [(m.release, m.version, m.state, m.training_set) for m in radius.models]),
        "<h2>Predictions that may have used them</h2>",
        _table(("release", "predictions"), radius.predictions.items()),
        "<h2>Batch scores that would be outdated</h2>",
        _table(("release", "scores"), radius.scores.items()),
    ]  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Blast radius</title>'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


def _some(keys: tuple[str, ...]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>" for row in rows)
    if not lines:
        return "<p>None.</p>"
    return "<table><tr>" + "".join(f"<th>{escape(h)}</th>" for h in head) + f"</tr>{lines}</table>"
