"""SHAP values of many rows as a beeswarm, SVG: a dot for each row and feature, coloured by the feature's value."""

from __future__ import annotations

from collections import Counter
from html import escape

import numpy as np

from airworthy.training.shapley import Attributions

MOST = 20
LABEL, PLOT, RIGHT, ROW, TOP, BINS = 170, 440, 70, 20, 8, 110
LOW, HIGH, UNKNOWN, GUIDE = (11, 107, 203), (194, 39, 45), "#b9b9b9", "#999"


def shap_plot(found: Attributions) -> str:
    """The features with the largest mean SHAP values, the largest on top."""
    sizes = np.abs(found.effects).mean(axis=0)
    shown = np.argsort(-sizes, kind="stable")[:MOST]
    low, high = min(0.0, float(found.effects.min())), max(1e-6, float(found.effects.max()))
    height = TOP * 2 + ROW * len(shown)
    zero = LABEL + (0.0 - low) / (high - low) * PLOT
    parts = [f'<path d="M{zero:.1f} {TOP}V{height - TOP}" stroke="{GUIDE}"/>']
    for n, column in enumerate(shown):
        middle = TOP + n * ROW + ROW / 2
        parts.append(
            f'<text x="{LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(found.columns[column])}</text>'
            f'<text x="{LABEL + PLOT + 8}" y="{middle + 4}">{sizes[column]:.4f}</text>'
        )
        stacked: Counter[int] = Counter()
        for effect, color in zip(found.effects[:, column], _colors(found.numbers[:, column]), strict=True):
            share = (float(effect) - low) / (high - low)
            # Dots in one place are stacked, to both sides by turns.
            deep = stacked[round(share * BINS)]
            stacked[round(share * BINS)] += 1
            shift = min((deep + 1) // 2 * 1.5, ROW / 2 - 2) * (1 if deep % 2 else -1)
            parts.append(f'<circle cx="{LABEL + share * PLOT:.1f}" cy="{middle + shift:.1f}" r="2" fill="{color}"/>')
    width = LABEL + PLOT + RIGHT
    return (
        f'<svg role="img" aria-label="SHAP values" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui,sans-serif" font-size="11">{"".join(parts)}</svg>'
    )


def _colors(values: np.ndarray) -> list[str]:
    """From LOW to HIGH by the value's rank among those that are known."""
    known = np.sort(values[~np.isnan(values)])
    colors = []
    for value in values:
        if np.isnan(value):
            colors.append(UNKNOWN)
            continue
        rank = (np.searchsorted(known, value) + np.searchsorted(known, value, "right")) / (2 * known.size)
        colors.append("#" + "".join(f"{round(a + rank * (b - a)):02x}" for a, b in zip(LOW, HIGH, strict=True)))
    return colors
