"""The report of an experiment: what was asked, what it was thought to take and took, the figures, the plots, the verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from airworthy import registry, training
from airworthy.config import UseCase
from airworthy.errors import AirworthyError
from airworthy.evaluation.champion import champion_record
from airworthy.evaluation.documents import link, publish_document
from airworthy.evaluation.experiment import KIND, Plan
from airworthy.evaluation.judge import report_link
from airworthy.evaluation.plots import Plot, draw
from airworthy.evaluation.subject import Holdout
from airworthy.evaluation.tried_page import page_link
from airworthy.ledger import attempts, usage
from airworthy.records import CandidateRef, Record, Verdict
from airworthy.training import model_files, tracking
from airworthy.training.training_set import part

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}"
    "td,th{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}"
    ".plots{display:flex;flex-wrap:wrap;gap:1rem}.pass{color:#13703a}.refuse{color:#b3261e}"
)


class ExperimentReport(Record):
    """Where the report is, and its outcome in a line."""

    use_case: str
    url: str
    words: str
    links: dict[str, str]


def report(
    use_case: UseCase, planned: Plan, candidate: CandidateRef, verdict: Verdict, *, run: str
) -> ExperimentReport:
    """Draw the plots, put them into the MLflow run, and write the report as a page.

    Args:
        use_case, planned, candidate, verdict: The experiment.
        run: ``<dag_id>/<run_id>``, or the notebook's.

    Raises:
        ServiceUnavailableError: MLflow does not answer.
    """
    plots = _plots(use_case, candidate)
    _to_mlflow(candidate.run_id, plots)
    path = f"experiments/{use_case.name}/{verdict.id}.html"
    took = usage.cost(usage.usage_of(run))
    attempts.note_attempt(use_case.name, run, KIND, report=link(path))
    found = (row.record if (row := attempts.attempt_of(run)) else {}).get("search") or {}
    url = publish_document(path, render(use_case, planned, candidate, verdict, plots, found, took))
    decision = "passed" if verdict.decision == "pass" else "refused"
    return ExperimentReport(
        use_case=use_case.name, url=url, words=f"{decision}: {verdict.summary}; {took.words}",
        links={"Experiment report": url, "Verdict": report_link(verdict), "What was tried": page_link(use_case.name)},
    )  # fmt: skip


def render(
    use_case: UseCase, planned: Plan, candidate: CandidateRef, verdict: Verdict, plots: list[Plot],
    search: dict[str, Any], took: usage.Cost,
) -> str:  # fmt: skip
    """The page; self-contained, nothing is fetched from anywhere."""
    form, ref = planned.form, candidate.training_set
    asked = {
        "asked by": planned.who, "reason": form.reason or "none given", "algorithm": planned.algorithm,
        "training part": f"{ref.train_rows:,} rows, {ref.train_start:%Y-%m-%d} to before {ref.train_end:%Y-%m-%d}",
        "holdout": f"{ref.holdout_rows:,} rows, {ref.holdout_start:%Y-%m-%d} to before {ref.holdout_end:%Y-%m-%d}",
        "features": f"{len(ref.columns)}: {', '.join(ref.columns)}",
        "search": f"{search.get('trials', 0)} trials, best {search['best_value']:.4f}" if search.get("best_value") else "none",
        "labels": candidate.label_note or "as they are",
        "estimate": planned.words, "took so far": took.words,
    }  # fmt: skip
    names = sorted(verdict.metrics.keys() | verdict.champion_metrics.keys())
    figures = [(n, _number(verdict.metrics.get(n)), _number(verdict.champion_metrics.get(n))) for n in names]
    checks = [("passed" if c.passed else "failed", c.name, c.words) for c in verdict.checks]
    mark = {"pass": "passed the gate", "refuse": "refused by the gate"}[verdict.decision]
    body = [
        f'<h1>{escape(use_case.title)}: experiment, <span class="{verdict.decision}">{mark}</span></h1>',
        f"<p>{escape(verdict.summary)}</p>",
        f'<p><a href="{escape(report_link(verdict), quote=True)}">verdict</a> · '
        f'<a href="{escape(page_link(use_case.name), quote=True)}">everything that was tried</a></p>',
        "<h2>What was asked</h2>", _table((), asked.items()),
        "<h2>On the holdout</h2>", _table(("metric", "candidate", "champion"), figures),
        f'<div class="plots">{"".join(f"<figure>{p.svg}</figure>" for p in plots)}</div>',
        "<h2>Checks of the gate</h2>", _table(("", "check", "what was found"), checks),
    ]  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Experiment {verdict.id[:12]}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


def _plots(use_case: UseCase, candidate: CandidateRef) -> list[Plot]:
    holdout = Holdout.of(part(training.read_training_set(candidate.training_set), "holdout"))
    model = model_files.load(candidate.folder, candidate.model_digest, recorded=True)
    scores = np.asarray(model.predict_table(holdout.rows), dtype=np.float64)
    theirs, champion = None, champion_record(use_case.name)
    if champion is not None:
        try:
            theirs = np.asarray(registry.load(champion.release.digest).predict_table(holdout.rows), dtype=np.float64)
        except AirworthyError:
            theirs = None  # the verdict says why it could not be compared
    return draw(holdout.labels, scores, theirs)


def _to_mlflow(run_id: str, plots: list[Plot]) -> None:
    client = tracking.client()
    with tempfile.TemporaryDirectory() as folder:
        for plot in plots:
            (Path(folder) / f"{plot.name}.png").write_bytes(plot.png)
        client.log_artifacts(run_id, folder, artifact_path="plots")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>" for row in rows)
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table>{f'<thead><tr>{names}</tr></thead>' if names else ''}<tbody>{lines}</tbody></table>"
