"""What a search tried, as JSON and as a picture, beside the candidate that came of it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from airworthy.records import TrainingSetRef
from airworthy.training.search import SearchResult, history
from airworthy.training.tuning_rows import METRICS

if TYPE_CHECKING:
    from mlflow import MlflowClient

WIDTH, HEIGHT, LEFT, TOP = 720, 320, 70, 30


def log_making(mlflow: MlflowClient, run_id: str, ref: TrainingSetRef, search: SearchResult | None) -> None:
    """Log how a candidate was made: the checks of its training set and the trials of its search. Safe to repeat.

    Args:
        mlflow: The tracking server.
        run_id: The candidate's run.
        ref: Its training set.
        search: What was searched; None when nothing was.
    """
    for check in ref.checks:
        if check.value is not None:
            mlflow.log_metric(run_id, f"set_{check.name}", check.value, timestamp=0)
    mlflow.log_dict(run_id, {"checks": [c.to_json() for c in ref.checks]}, "training_set_checks.json")
    if search is None or not search.study:
        return
    trials = history(search.study)
    mlflow.log_dict(run_id, {"search": search.to_json(), "trials": trials}, "search.json")
    mlflow.log_text(run_id, picture(search, trials), "search.svg")
    mlflow.set_tag(run_id, "airworthy.search", search.reason[:500])
    for name, value in (("best", search.best_value), ("own", search.own_value), ("seconds", search.seconds)):
        if value is not None:
            mlflow.log_metric(run_id, f"search_{name}", value, timestamp=0)


def picture(search: SearchResult, trials: list[dict[str, Any]]) -> str:
    """The history of a search as SVG: each trial, the best so far, the specification's own."""
    metric = METRICS[search.metric]
    valued = [(t["trial"], float(t["value"])) for t in trials if t["value"] is not None]
    low, high = min(v for _, v in valued), max(v for _, v in valued)
    span, last = (high - low) or 1.0, max(2, search.trials)

    def x(trial: int) -> float:
        return LEFT + (WIDTH - LEFT - 20) * (trial - 1) / (last - 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - 50) * (high - value) / span

    best, steps = None, []
    for trial, value in valued:
        better = best is None or (value > best if metric.maximise else value < best)
        best = value if better else best
        steps.append(f"{x(trial):.1f},{y(best or 0.0):.1f}")
    dots = "".join(
        f'<circle cx="{x(t):.1f}" cy="{y(v):.1f}" r="4" fill="{"#8a5a00" if t == 1 else "#1f5fa8"}">'
        f"<title>{escape(f'trial {t}: {metric.words} {v:.5f}')}</title></circle>"
        for t, v in valued
    )
    texts = [
        (LEFT, 18, f"{metric.words} on the tuning days; {search.reason}"[:120]),
        (4, y(high) + 4, f"{high:.4f}"),
        (4, y(low) + 4, f"{low:.4f}"),
        (LEFT, HEIGHT - 12, "trials in order; brown: the specification's own parameters; line: the best so far"),
    ]
    words = "".join(f'<text x="{a:.0f}" y="{b:.0f}">{escape(text)}</text>' for a, b, text in texts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{words}'
        f'<polyline points="{" ".join(steps)}" fill="none" stroke="#0a6b36" stroke-width="2"/>{dots}</svg>\n'
    )
