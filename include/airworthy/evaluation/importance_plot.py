"""Permutation importances as bars with their intervals, inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from airworthy.evaluation.records import ImportanceEvidence

STYLE = ".idle{fill:#777}"
USED, IDLE, GUIDE, WHISKER = "#0b6bcb", "#b9b9b9", "#999", "#1a1a1a"
LABEL, PLOT, RIGHT, ROW, TOP = 170, 440, 70, 18, 8


def importance_plot(found: Sequence[ImportanceEvidence]) -> str:
    """A bar for each feature: the loss of ROC AUC when it is shuffled; grey when it cannot be told from none."""
    if not found:
        return "<p>It was not measured.</p>"
    low, high = min(0.0, *(i.low for i in found)), max(1e-6, *(i.high for i in found))
    height = TOP * 2 + ROW * len(found) + 16

    def at(value: float) -> float:
        return LABEL + (value - low) / (high - low) * PLOT

    bars = []
    for n, i in enumerate(found):
        y, color, kind = TOP + n * ROW, IDLE if i.adds_nothing else USED, ' class="idle"' if i.adds_nothing else ""
        left, right = sorted((at(0.0), at(i.mean)))
        bars.append(
            f'<text{kind} x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(i.column)}</text>'
            f'<rect x="{left:.1f}" y="{y + 3}" width="{max(right - left, 0.5):.1f}" height="{ROW - 7}" fill="{color}"/>'
            f'<path d="M{at(i.low):.1f} {y + 8.5}H{at(i.high):.1f}" stroke="{WHISKER}" stroke-width="1"/>'
            f'<text{kind} x="{LABEL + PLOT + 8}" y="{y + 12}">{i.mean:+.4f}</text>'
        )
    axis = f'<path d="M{at(0.0):.1f} {TOP}V{height - TOP - 16}" stroke="{GUIDE}"/>'
    return (
        f'<figure><svg role="img" aria-label="Permutation importance" width="{LABEL + PLOT + RIGHT}" height="{height}" '
        f'viewBox="0 0 {LABEL + PLOT + RIGHT} {height}">{axis}{"".join(bars)}</svg>'
        "<figcaption>Loss of ROC AUC when the feature is shuffled, with its interval; grey: cannot be told from none. "
        "Features that say the same stand in for each other.</figcaption></figure>"
    )
