"""One page for each use case: every training and experiment, what was tried, what came of it, what it cost.

It is made from the ledger alone and may be made again at any time.
"""

from __future__ import annotations

from html import escape
from typing import Any

from airworthy.config import UseCase, get_settings
from airworthy.evaluation.documents import brief, link, publish_document
from airworthy.ledger import attempts, promotions, usage
from airworthy.ledger.database import exclusive
from airworthy.ledger.models import Attempt, TaskUsage
from airworthy.records import Record

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:96rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.4rem}table{border-collapse:collapse;width:100%}
td,th{padding:.4rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
th{position:sticky;top:0;background:#f6f6f6}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td small{display:block;color:#555}.pass{color:#13703a}.refuse{color:#b3261e}
"""
HEAD = (
    "When", "What and why", "Algorithm", "Features", "Trained on", "ROC AUC", "Champion's", "What came of it", "Cost",
    "Look",
)  # fmt: skip
NUMERIC = {5, 6}


class Tried(Record):
    """One attempt in plain words.

    Attributes:
        at: Wall time of its start, UTC; ``data_time`` is the data clock.
        kind: ``train`` or ``experiment``.
        why: Causes, or the reason in the form.
        trained_on: Days and rows of the training part.
        roc_auc, champion: On the holdout.
        decision: ``pass`` or ``refuse``; empty when nothing was judged.
        became: What the verdict says, and what became of the release.
        links: Name to URL.
    """

    run: str
    at: str
    data_time: str
    kind: str
    who: str
    why: str
    algorithm: str
    features: str
    trained_on: str
    trials: int | None
    roc_auc: float | None
    champion: float | None
    decision: str
    became: str
    cost: str
    links: dict[str, str]


def page_path(use_case: str) -> str:
    """Where the page is, below ``docs_url``."""
    return f"experiments/{use_case}/index.html"


def page_link(use_case: str) -> str:
    """The link to the page."""
    return link(page_path(use_case))


def tried(use_case: UseCase) -> list[Tried]:
    """Every attempt of a use case, newest first."""
    states = {row.verdict_id: row.state for row in promotions.releases(use_case.name)}
    used: dict[str, list[TaskUsage]] = {}
    for row in usage.usages(use_case.name):
        used.setdefault(row.run, []).append(row)
    return [_tried(row, used.get(row.run, []), states) for row in attempts.attempts(use_case.name)]


def publish_tried(use_case: UseCase) -> str:
    """Write the page; returns its link.

    Who writes holds a lock from reading on, so that the last writer has seen everything that any other has.
    """
    with exclusive("tried", use_case.name):
        return publish_document(page_path(use_case.name), render(use_case, tried(use_case)))


def render(use_case: UseCase, rows: list[Tried]) -> str:
    """The page; self-contained, nothing is fetched from anywhere."""
    head = "".join(_cell("th", i, name) for i, name in enumerate(HEAD))
    lines = "".join(_line(row) for row in rows) or f'<tr><td colspan="{len(HEAD)}">nothing was tried yet</td></tr>'
    rates = get_settings()
    costs = (
        f"Costs by the settings: {rates.cost_per_cpu_hour} {rates.cost_currency} a CPU-hour, {rates.cost_per_gb_hour} a "
        f"GB-hour of memory, {rates.cost_per_gb_written} a GB written."
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(use_case.title)}: what was tried'
        f"</title><style>{STYLE}</style></head><body><h1>{escape(use_case.title)}: what was tried, and what came of it</h1>"
        f"<p>{len(rows)} trainings and experiments, newest first. {escape(costs)}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></body></html>"
    )


def _line(row: Tried) -> str:
    def small(*words: str) -> str:
        return "".join(f"<small>{escape(w)}</small>" for w in words if w)

    trials = f"{row.trials} trials" if row.trials else ""
    decision = f'<span class="{row.decision}">{escape(row.became)}</span>' if row.decision else escape(row.became)
    cells = (
        f"{escape(row.at)}{small(f'data time {row.data_time}' if row.data_time else '')}",
        f"{escape(row.kind)}{small(row.why, row.who)}",
        f"{escape(row.algorithm.rpartition('.')[2])}{small(trials)}",
        escape(row.features),
        escape(row.trained_on),
        "" if row.roc_auc is None else f"{row.roc_auc:.4f}",
        "" if row.champion is None else f"{row.champion:.4f}",
        decision,
        escape(row.cost),
        "<br>".join(f'<a href="{escape(url, quote=True)}">{escape(name)}</a>' for name, url in row.links.items()),
    )
    return f"<tr>{''.join(_cell('td', i, cell) for i, cell in enumerate(cells))}</tr>"


def _cell(tag: str, place: int, content: str) -> str:
    return f"<{tag}{' class=n' if place in NUMERIC else ''}>{content}</{tag}>"


def _tried(row: Attempt, used: list[TaskUsage], states: dict[str, str]) -> Tried:
    found = row.record
    ref, verdict, metrics = found.get("training_set") or {}, found.get("verdict") or {}, found.get("metrics") or {}
    return Tried(
        run=row.run, at=f"{row.started_at:%Y-%m-%d %H:%M:%S}", data_time=str(ref.get("data_time") or "")[:16].replace("T", " "),
        kind=row.kind, who=str(found.get("who") or ""), why=_why(found),
        algorithm=str(found.get("algorithm") or found.get("asked", {}).get("algorithm") or ""),
        features=_features(found), trained_on=_trained_on(ref), trials=found.get("trials"),
        roc_auc=metrics.get("holdout", {}).get("roc_auc"), champion=metrics.get("champion", {}).get("roc_auc"),
        decision=str(verdict.get("decision") or ""), became=_became(found, verdict, states),
        cost=usage.price(usage.cost(used).amount) if used else "", links=_links(row, found, verdict),
    )  # fmt: skip


def _why(found: dict[str, Any]) -> str:
    causes = [c for c in (found.get("causes") or {}).values() if isinstance(c, dict)]
    names = sorted({str(c.get("cause")) for c in causes} - {"experiment"})
    reasons = sorted({str(c["evidence"]["reason"]) for c in causes if (c.get("evidence") or {}).get("reason")})
    asked = str(found.get("asked", {}).get("reason") or "")
    return "; ".join(dict.fromkeys(w for w in (", ".join(names), *reasons[:3], asked) if w))


def _features(found: dict[str, Any]) -> str:
    chosen, offered = found.get("features") or [], found.get("features_offered")
    if not chosen:
        return ""
    if not offered or offered == len(chosen):
        return f"all {len(chosen)}"
    return f"{len(chosen)} of {offered}: {', '.join(chosen[:8])}{', ...' if len(chosen) > 8 else ''}"


def _trained_on(ref: dict[str, Any]) -> str:
    if not ref:
        return ""
    return f"{ref['train_start'][:10]} to before {ref['train_end'][:10]}, {ref['train_rows']:,} rows"


def _became(found: dict[str, Any], verdict: dict[str, Any], states: dict[str, str]) -> str:
    if not verdict:
        return str(found.get("outcome") or "not judged")
    state = states.get(str(verdict.get("id")))
    words = "passed" if verdict["decision"] == "pass" else "refused"
    note = f" ({found['label_note']})" if found.get("label_note") else ""
    return f"{words}{f', {state}' if state else ''}{note}: {brief(verdict['summary'])}"


def _links(row: Attempt, found: dict[str, Any], verdict: dict[str, Any]) -> dict[str, str]:
    links: dict[str, str] = {}
    if verdict.get("id"):
        links["verdict"] = link(f"verdicts/{row.use_case}/{verdict['id']}.html")
    if found.get("report"):
        links["report"] = str(found["report"])
    if mlflow_run := (found.get("artefacts") or {}).get("mlflow_run"):
        links["MLflow run"] = f"{get_settings().mlflow_public_url}/#/runs/{mlflow_run}"
    dag, _, run = row.run.partition("/")
    if "." in dag:
        links["Airflow run"] = f"{get_settings().airflow_url}/dags/{dag}/runs/{run}"
    return links
