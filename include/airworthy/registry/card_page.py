"""A model card as one HTML page; nothing is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

BAR = 320
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
td,th{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{width:14rem;font-weight:600}thead th{width:auto}td.n{text-align:right;font-variant-numeric:tabular-nums}
small{color:#555}code{font-size:.9em}
"""
SHOWN = 5


def page(card: Mapping[str, Any]) -> str:
    """The page of a card."""
    metrics, ends = card["metrics"], card.get("intervals") or {}
    names = sorted({name for values in metrics.values() for name in values})
    body = [
        f"<h1>{escape(card['title'])}</h1>",
        f"<p>{escape(card['model'])}, version {card['version']}; owner {escape(card['owner'])}</p>",
        "<h2>Intended use</h2>", _facts(card["intended_use"]),
        "<h2>Costs and threshold</h2>", _facts(card["costs"]),
        "<h2>How good it is</h2>",
        _rows(("metric", "training", "holdout", _interval_words(ends), "champion on the same holdout"), [
            (
                name, _number(metrics["train"].get(name)), _number(metrics["holdout"].get(name)),
                " to ".join(_number(end) for end in ends.get("holdout", {}).get(name, ())),
                _number(metrics["champion_on_holdout"].get(name)),
            )
            for name in names
        ]),
        "<h2>Calibration on the holdout</h2>", _calibration(card.get("calibration") or []),
        "<h2>Groups and fairness</h2>", _fairness(card.get("fairness") or {}),
        "<h2>Slices of the holdout</h2>", _checks(card["slices"]) if card["slices"] else "<p>none declared</p>",
        "<h2>What the gate checked</h2>", _checks(card["checks"]),
        "<h2>What the features are worth</h2>", _worth(card.get("worth")),
        "<h2>Limits</h2>", _list(card["limits"]),
        "<h2>Data</h2>", _facts(card["data"]),
        "<h2>The model, step by step</h2>", _list(card["model_steps"], "ol"),
        "<h2>Why it was trained</h2>", _facts(card["cause"]) if card["cause"] else "<p>no cause on record</p>",
        "<h2>Lineage</h2>", _facts(card["lineage"]),
        "<h2>If it goes wrong</h2>",
        f"<p>Roll back: <code>{escape(card['rollback'])}</code>; make it again: <code>{escape(card['reproduce'])}</code></p>",
    ]  # fmt: skip
    title = escape(f"Model card: {card['model']} {card['version']}")
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>{"".join(body)}</html>'


def _interval_words(ends: Mapping[str, Any]) -> str:
    confidence = ends.get("confidence")
    return "interval" if confidence is None else f"{confidence:.0%} interval"


def _calibration(bins: list[Mapping[str, Any]]) -> str:
    """Predicted against observed, as a figure and as numbers; perfect calibration is the diagonal."""
    if not bins:
        return "<p>It was not measured.</p>"
    dots = "".join(
        f'<circle cx="{b["probability"] * BAR:.1f}" cy="{(1 - b["rate"]) * BAR:.1f}" r="4" fill="#0b6bcb"/>'
        for b in bins
    )
    figure = (
        f'<svg width="{BAR + 10}" height="{BAR + 10}" viewBox="-5 -5 {BAR + 10} {BAR + 10}" role="img" '
        f'aria-label="calibration"><rect width="{BAR}" height="{BAR}" fill="none" stroke="#bbb"/>'
        f'<line x1="0" y1="{BAR}" x2="{BAR}" y2="0" stroke="#bbb"/>{dots}</svg>'
    )
    numbers = [(_number(b["probability"]), _number(b["rate"]), f"{b['rows']:,}") for b in bins]
    return figure + _rows(("mean probability", "rate of positives", "rows"), numbers)


def _fairness(fairness: Mapping[str, Any]) -> str:
    """How each group is treated, and what the gate said of it."""
    groups = fairness.get("groups") or []
    if not groups and not fairness.get("checks"):
        return "<p>The specification names no groups.</p>"
    head = ("group", "rows", "of its rows acted on", "of its positives found", "of its negatives false alarms")
    lines = [
        (
            f"{g['column']}={g['value']}",
            f"{g['rows']:,}",
            *(_number(g[n]) for n in ("selection", "hits", "false_alarms")),
        )
        for g in groups
    ]
    return _rows(head, lines) + _checks(fairness.get("checks") or [])


def short_card(card: Mapping[str, Any]) -> list[str]:
    """The short form of a card, Markdown: use, data, how good it is beside the champion, limits, cause. None of an empty card."""
    if not card:
        return []
    data, metrics = card["data"], card["metrics"]
    ours, theirs = metrics["holdout"], metrics["champion_on_holdout"]
    good = (f"{n} {_number(v)}" + (f" ({_number(theirs[n])})" if n in theirs else "") for n, v in sorted(ours.items()))
    (first, last), (judged, until) = ([day[:10] for day in data[part]] for part in ("trained_on", "judged_on"))
    limits = list(card["limits"])
    return [
        f"- use: {card['intended_use']['decision']}; for {card['intended_use']['users']}",
        f"- trained on {data['train_rows']:,} rows, {first} to {last}; judged on {data['holdout_rows']:,}, {judged} to {until}",
        f"- holdout{' (the champion)' if theirs else ''}: {', '.join(good)}",
        *(f"- limit: {words}" for words in limits[:SHOWN]),
        *([f"- and {len(limits) - SHOWN} more limits, see the card"] if len(limits) > SHOWN else []),
        f"- made because: {', '.join(sorted({_cause(c) for c in card['cause'].values()})) or 'no cause on record'}",
    ]


def _cause(cause: Any) -> str:
    return str(cause.get("cause", "") if isinstance(cause, Mapping) else cause)[:200]


def _worth(worth: Mapping[str, Any] | None) -> str:
    """A bar for each feature, and how it was measured."""
    if worth is None:
        return "<p>It was not measured.</p>"
    words = (
        f"Mean size of the SHAP value over {worth['rows']} rows of the holdout, in probability; the values of a row and "
        f"the base {_number(worth['base'])} sum to its score."
        if worth["measure"] == "shap"
        else f"Loss of ROC AUC when the feature is shuffled. No SHAP values: {worth['note']}."
    )
    top = max(1e-9, *(value for _, value in worth["features"]), 0.0)
    bars = "".join(
        f'<tr><th>{escape(name)}</th><td class="n">{value:.4f}</td><td><svg width="{BAR}" height="10" role="img" '
        f'aria-label="{value:.4f}"><rect width="{max(value, 0.0) / top * BAR:.1f}" height="10" fill="#0b6bcb"/></svg></td></tr>'
        for name, value in worth["features"]
    )
    return f"<p>{escape(words)}</p><table>{bars}</table>"


def _facts(values: Mapping[str, Any]) -> str:
    lines = (f"<tr><th>{escape(str(k).replace('_', ' '))}</th><td>{_value(v)}</td></tr>" for k, v in values.items())
    return f"<table>{''.join(lines)}</table>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<br>".join(f"{escape(str(k))}: {_value(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_value(v) for v in value)
    return escape(_number(value) if isinstance(value, float) else str("none" if value is None else value))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _checks(checks: Iterable[Mapping[str, Any]]) -> str:
    return _rows(
        ("check", "value", "bound", "in words"),
        [(c["name"], _number(c["value"]), _number(c["bound"]), c["words"]) for c in checks],
    )


def _rows(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    lines = ("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead>{''.join(lines)}</table>"


def _list(lines: Iterable[str], kind: str = "ul") -> str:
    return f"<{kind}>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</{kind}>"
