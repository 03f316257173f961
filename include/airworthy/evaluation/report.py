"""A verdict as one HTML file: the decision in words, what failed, figures and plots (inline SVG), slices, every check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from airworthy.config import UseCase
from airworthy.evaluation import metrics
from airworthy.evaluation.importance_plot import STYLE as IMPORTANCE_STYLE
from airworthy.evaluation.importance_plot import importance_plot
from airworthy.evaluation.metrics import Labels, Metrics, Scores
from airworthy.evaluation.records import Evidence
from airworthy.records import CandidateRef, Check, Verdict

SIZE, MARGIN = 320, 40
MAX_LINES = 6
CANDIDATE, CHAMPION, GUIDE = "#0b6bcb", "#c2571a", "#999"
Points = Sequence[tuple[float, float]]
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}.pass{color:#13703a}.refuse{color:#b3261e}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.plots{display:flex;flex-wrap:wrap;gap:2rem}
.note{border-left:3px solid #c9a227;padding-left:.7rem}ul{padding-left:1.2rem}td{vertical-align:top}
figure{margin:0}small,figcaption{color:#555}svg text{font:11px system-ui,sans-serif;fill:#333}
"""


@dataclass(frozen=True)
class Curves:
    """What the plots show, already thinned: ROC as (false alarm rate, hit rate), calibration as (probability, rate)."""

    roc: Points
    champion_roc: Points
    calibration: Points
    champion_calibration: Points

    @classmethod
    def of(cls, labels: Labels, candidate: Scores | None, champion: Scores | None) -> Curves:
        """Curves of both models on the same rows; empty where there are no scores."""
        return cls(
            roc=_roc(labels, candidate), champion_roc=_roc(labels, champion),
            calibration=_calibration(labels, candidate), champion_calibration=_calibration(labels, champion),
        )  # fmt: skip


def render(
    use_case: UseCase, candidate: CandidateRef, verdict: Verdict, evidence: Evidence, curves: Curves, swarm: str = ""
) -> str:
    """The report; self-contained, nothing is fetched from anywhere. ``swarm`` is the plot of the SHAP values."""
    mark = {"pass": "Passed", "refuse": "Refused"}[verdict.decision]
    failed = [c for c in verdict.checks if not c.passed]
    passed = [c for c in verdict.checks if c.passed]
    body = [
        f'<h1>{escape(use_case.title)}: <span class="{verdict.decision}">{mark}</span></h1>',
        _words(verdict, failed),
        f"<p><small>{escape(_provenance(candidate, verdict, evidence))}</small></p>",
        f"<h2>Failed checks: {len(failed)} of {len(verdict.checks)}</h2>" + _checks(failed) if failed else "",
        "<h2>On the holdout</h2>",
        _metrics_table(evidence),
        '<div class="plots">',
        _plot("ROC", "false alarm rate", "hit rate", curves.roc, curves.champion_roc),
        _plot(
            "Calibration, ten bins of equal count",
            "mean probability",
            "rate",
            curves.calibration,
            curves.champion_calibration,
            dots=True,
        ),
        "</div>",
        f'<p><small><span style="color:{CANDIDATE}">&#9632;</span> candidate'
        + (f' &nbsp; <span style="color:{CHAMPION}">&#9632;</span> champion' if evidence.champion else "")
        + "</small></p>",
        "<h2>What a prediction costs</h2>",
        _costs(evidence),
        "<h2>What the features are worth</h2>",
        _shap(evidence, swarm),
        importance_plot(evidence.importance),
        "<h2>Slices</h2>",
        _table(
            ("Slice", "Rows", "ROC AUC", "Champion"),
            [(escape(s.name), f"{s.rows:,}", _show(s.candidate), _show(s.champion)) for s in evidence.slices],
            numeric_from=1,
        )
        if evidence.slices
        else "<p>The spec asks for none.</p>",
        "<h2>Groups</h2>",
        _table(
            ("Group", "Rows", "Acted on", "Positives found", "False alarms"),
            [
                (escape(f"{g.column}={g.value}"), f"{g.rows:,}", *map(_percent, (g.selection, g.hits, g.false_alarms)))
                for g in evidence.groups
            ],
            numeric_from=1,
        )
        if evidence.groups
        else "<p>The spec asks for none.</p>",
        f"<h2>Passed checks: {len(passed)}</h2>",
        _checks(passed),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Verdict {verdict.id[:12]}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{IMPORTANCE_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>"
    )


def _words(verdict: Verdict, failed: Sequence[Check]) -> str:
    """The summary as sentences to read: one for each failed check, then the notes."""
    lines = [c.words for c in failed] or [verdict.summary]
    shown = "".join(f"<li>{escape(line)}</li>" for line in lines[:MAX_LINES])
    more = f"<li>and {len(lines) - MAX_LINES} more, below</li>" if len(lines) > MAX_LINES else ""
    notes = "".join(f'<p class="note">Note: {escape(note)}</p>' for note in verdict.notes)
    return f"<ul>{shown}{more}</ul>{notes}"


def _checks(checks: Sequence[Check]) -> str:
    return _table(
        ("", "Check", "What was found", "Why it is asked"),
        [_check_row(c.passed, c.name, c.words, c.reason) for c in checks],
    )


def _shap(e: Evidence, swarm: str) -> str:
    if not swarm or e.worth is None:
        return f"<p>No SHAP values: {escape(e.worth.note if e.worth else 'they were not measured')}.</p>"
    return (
        f"<figure>{swarm}<figcaption>SHAP values of {e.worth.rows} rows of the holdout, in probability, from the base "
        f"{_show(e.worth.base, 4)}: right of the line the value raised the answer. Blue is a low value of the feature, "
        "red a high one (of categories: by the alphabet), grey unknown. The number is their mean size.</figcaption></figure>"
    )


def _costs(e: Evidence) -> str:
    if e.cost is None:
        return "<p>It was not measured.</p>"
    cost = e.cost
    named = (
        [("Candidate", cost.candidate), ("Champion", cost.champion)] if e.champion else [("Candidate", cost.candidate)]
    )
    named += [("Acting on nothing", cost.nothing), ("Acting on everything", cost.everything)]
    interval = (
        f" Candidate minus champion: {cost.low:+.4f} to {cost.high:+.4f}."
        if cost.low is not None and cost.high is not None
        else ""
    )
    head = f"<p>Mean cost when one acts from a probability of {cost.threshold:.2f} on.{interval}</p>"
    return head + _table(("", "Mean cost"), [(n, _show(v, 4)) for n, v in named], numeric_from=1)


def _provenance(candidate: CandidateRef, verdict: Verdict, evidence: Evidence) -> str:
    note = f", {candidate.label_note}" if candidate.label_note else ""
    return (
        f"Model {verdict.model_digest} ({candidate.algorithm}{note}), MLflow run {candidate.run_id}, training set "
        f"{verdict.training_set_digest}, champion {verdict.champion_digest or 'none yet'}. "
        f"Holdout: {verdict.holdout_rows:,} rows from {evidence.holdout_start:%Y-%m-%d %H:%M} to "
        f"{evidence.holdout_end:%Y-%m-%d %H:%M} UTC by prediction time. "
        f"Data time {verdict.data_time:%Y-%m-%d %H:%M} UTC, gate {verdict.mode}, verdict {verdict.id}. "
        f"Measured in {sum(evidence.seconds.values()):.0f} s."
    )


def _metrics_table(e: Evidence) -> str:
    models: list[tuple[str, Metrics]] = [("Candidate", e.candidate.metrics)]
    if e.champion:
        models.append(("Champion", e.champion.metrics))
    rule = f"Rule ({', '.join(e.rule_columns)})" if e.rule_columns else "Rule"
    models += [("Logistic regression", e.linear), (escape(rule), e.rule), ("Prior", e.prior)]
    rows = [(escape(n), *(_show(m.get(n), 4) for _, m in models)) for n in metrics.REQUIRED]
    interval = (
        f"<p>Gain in ROC AUC, {e.gain.confidence:.0%} interval: {e.gain.low:+.4f} to {e.gain.high:+.4f}.</p>"
        if e.gain
        else ""
    )
    return _table(("Metric", *(name for name, _ in models)), rows, numeric_from=1) + interval


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric_from: int = 99) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=n' if i >= numeric_from else ''}>{v}</{tag}>" for i, v in enumerate(values))

    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{lines}</tbody></table>"


def _check_row(passed: bool, *words: str) -> Sequence[str]:
    mark = '<span class="pass">passed</span>' if passed else '<span class="refuse">failed</span>'
    return (mark, *(escape(w) for w in words))


def _plot(title: str, x: str, y: str, ours: Points, theirs: Points, *, dots: bool = False) -> str:
    """A unit square with the diagonal and one line for each model."""
    low, high = MARGIN, SIZE - MARGIN
    lines = "".join(
        _line(points, color, dots=dots) for points, color in ((theirs, CHAMPION), (ours, CANDIDATE)) if points
    )
    return (
        f'<figure><svg role="img" aria-label="{escape(title)}" width="{SIZE}" height="{SIZE}" '
        f'viewBox="0 0 {SIZE} {SIZE}">'
        f'<rect x="{low}" y="{low}" width="{high - low}" height="{high - low}" fill="none" stroke="{GUIDE}"/>'
        f'<path d="M{low} {high}L{high} {low}" stroke="{GUIDE}" stroke-dasharray="4"/>{lines}'
        f'<text x="{low}" y="{high + 14}">0</text><text x="{high - 6}" y="{high + 14}">1</text>'
        f'<text x="{SIZE // 2}" y="{high + 28}" text-anchor="middle">{escape(x)}</text>'
        f'<text x="14" y="{SIZE // 2}" text-anchor="middle" transform="rotate(-90 14 {SIZE // 2})">{escape(y)}</text>'
        f"</svg><figcaption>{escape(title)}</figcaption></figure>"
    )


def _line(points: Points, color: str, *, dots: bool) -> str:
    side = SIZE - 2 * MARGIN
    at = [(MARGIN + px * side, SIZE - MARGIN - py * side) for px, py in points]
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in at)
    marks = "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{color}"/>' for px, py in at) if dots else ""
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>{marks}'


def _roc(labels: Labels, scores: Scores | None) -> Points:
    return [] if scores is None else metrics.roc_curve(labels, scores)


def _calibration(labels: Labels, scores: Scores | None) -> Points:
    return [] if scores is None else [(p, rate) for p, rate, _ in metrics.calibration_bins(labels, scores)]


def _percent(value: float | None) -> str:
    return "&ndash;" if value is None else f"{value:.0%}"


def _show(value: float | None, digits: int = 3) -> str:
    return "&ndash;" if value is None else f"{value:.{digits}f}"
