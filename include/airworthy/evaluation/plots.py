"""Plots of a candidate on the holdout: ROC, calibration, how the scores lie. As PNG for MLflow, as SVG for a page."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from airworthy.evaluation.metrics import Labels, Scores

BINS = 10
CANDIDATE, CHAMPION, GUIDE = "#0b6bcb", "#c2571a", "#999999"


@dataclass(frozen=True)
class Plot:
    """One plot, drawn; ``name`` is that of its file."""

    name: str
    png: bytes
    svg: str


def draw(labels: Labels, scores: Scores, champion: Scores | None = None) -> list[Plot]:
    """ROC, calibration over bins of equal count, and the scores of both outcomes.

    Args:
        labels: bool [n].
        scores: The candidate's probabilities, float64 [n].
        champion: The champion's for the same rows.
    """
    return [_roc(labels, scores, champion), _calibration(labels, scores, champion), _scores(labels, scores)]


def _roc(labels: Labels, scores: Scores, champion: Scores | None) -> Plot:
    from sklearn.metrics import roc_auc_score, roc_curve

    figure, axes = _figure("ROC on the holdout", "false alarm rate", "hit rate")
    axes.plot([0, 1], [0, 1], "--", color=GUIDE, linewidth=1)
    for name, color, values in (("champion", CHAMPION, champion), ("candidate", CANDIDATE, scores)):
        if values is not None:
            x, y, _ = roc_curve(labels, values)
            axes.plot(x, y, color=color, label=f"{name}, {roc_auc_score(labels, values):.4f}")
    axes.legend(loc="lower right", frameon=False)
    return _rendered("roc", figure)


def _calibration(labels: Labels, scores: Scores, champion: Scores | None) -> Plot:
    figure, axes = _figure("Calibration, bins of equal count", "mean probability", "rate")
    top = 0.0
    for name, color, values in (("champion", CHAMPION, champion), ("candidate", CANDIDATE, scores)):
        if values is not None:
            parts = np.array_split(np.argsort(values, kind="stable"), BINS)
            points = [(float(values[p].mean()), float(labels[p].mean())) for p in parts if p.size]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=color, label=name)
            top = max(top, *(max(point) for point in points))
    axes.plot([0, top], [0, top], "--", color=GUIDE, linewidth=1)
    axes.legend(loc="upper left", frameon=False)
    return _rendered("calibration", figure)


def _scores(labels: Labels, scores: Scores) -> Plot:
    figure, axes = _figure("Scores by outcome", "probability", "share of the outcome's rows")
    edges = np.linspace(0, 1, 41)
    for name, color, mask in (("negative", GUIDE, ~labels), ("positive", CANDIDATE, labels)):
        if mask.any():
            weights = np.full(int(mask.sum()), 1 / mask.sum())
            axes.hist(scores[mask], bins=edges, weights=weights, histtype="step", color=color, label=name)
    axes.legend(frameon=False)
    return _rendered("scores", figure)


def _figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _rendered(name: str, figure: Any) -> Plot:
    import matplotlib as mpl

    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=110)
    # The same plot is the same text: neither a date nor ids by chance.
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return Plot(name, png.getvalue(), svg.getvalue()[svg.getvalue().index("<svg") :])
