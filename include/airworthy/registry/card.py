"""The model card: what a release is for, what it learned from, how good it is where, what it must not be used for.

Made once, at registration, of what is on record; kept in the release, so that the digest covers it. Nothing of the wall
clock is in it: the same registration gives the same card. Sections follow Mitchell et al., "Model Cards for Model
Reporting" (2019).
"""

from __future__ import annotations

import json
from typing import Any

from airworthy.config import UseCase, get_settings
from airworthy.config.training_spec import CALIBRATED, VOTING, inner_models
from airworthy.ledger.database import transaction
from airworthy.ledger.models import VerdictRow
from airworthy.records import CandidateRef, Check, Verdict
from airworthy.registry.card_page import page
from airworthy.training.candidates import find_candidate
from airworthy.training.folders import put
from airworthy.training.model_files import LoadedModel

Card = dict[str, Any]


def build_card(
    use_case: UseCase, candidate: CandidateRef, verdict: Verdict, model: LoadedModel, *, version: int
) -> Card:
    """The card of a release, as JSON values.

    Args:
        use_case: The use case.
        candidate: What was fitted and judged.
        verdict: The verdict that lets it serve.
        model: The candidate, loaded.
        version: Version of the registered model.
    """
    problem, ref = use_case.problem, candidate.training_set
    kept = find_candidate(candidate.model_digest, candidate.run_id)
    recipe = kept.recipe if kept else model.card.get("recipe", {})
    parts = _parts(verdict.checks)
    return {
        "model": get_settings().model_name(use_case.name),
        "version": version,
        "title": use_case.title,
        "owner": use_case.owner,
        "intended_use": {
            "decision": " ".join(problem.decision.split()),
            "users": " ".join(problem.users.split()),
            "label": " ".join(problem.label.split()),
            "request": list(use_case.prediction.request),
        },
        "costs": {
            "false_alarm": problem.cost_false_alarm, "miss": problem.cost_miss, "threshold": round(problem.threshold, 6),
        },
        "data": {
            "trained_on": [ref.train_start.isoformat(), ref.train_end.isoformat()], "train_rows": ref.train_rows,
            "judged_on": [ref.holdout_start.isoformat(), ref.holdout_end.isoformat()], "holdout_rows": ref.holdout_rows,
            "label_rate": ref.label_rate, "label_note": candidate.label_note, "data_time": ref.data_time.isoformat(),
            "data_versions": dict(sorted(ref.data_versions.items())), "training_set": ref.digest,
            "feature_service": ref.feature_service, "feature_digest": ref.feature_digest,
        },
        "model_steps": _steps(model, recipe),
        "metrics": {
            "train": kept.metrics if kept else {}, "holdout": verdict.metrics, "champion_on_holdout": verdict.champion_metrics,
        },
        "intervals": {"confidence": verdict.confidence, "holdout": verdict.intervals},
        "calibration": [
            {"probability": probability, "rate": rate, "rows": rows} for probability, rate, rows in verdict.calibration
        ],
        "checks": parts["checks"],
        "worth": verdict.worth.to_json() if verdict.worth else None,
        "slices": parts["slices"],
        "fairness": {"groups": [group.to_json() for group in verdict.groups], "checks": parts["fairness"]},
        "limits": _limits(use_case, candidate, verdict),
        "cause": _causes(verdict.id),
        "lineage": {
            "model_digest": candidate.model_digest, "mlflow_run": candidate.run_id, "verdict": verdict.id,
            "verdict_words": verdict.summary, "champion_before": verdict.champion_digest,
            "code_revision": kept.revision if kept else "unknown", "lock_file": kept.lock if kept else "unknown",
            "run": kept.run if kept else "unknown", "requirements": list(model.requirements),
        },
        "rollback": f'airworthy rollback {use_case.name} --why "..."',
        "reproduce": f"airworthy reproduce {use_case.name}/{version}",
    }  # fmt: skip


def card_bytes(card: Card) -> bytes:
    """The card as it is kept in the release."""
    return json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False, default=str).encode()


def publish_card(use_case: str, card: Card) -> str:
    """Write the card's page and its JSON below ``docs_url``; returns the page's link."""
    settings, path = get_settings(), f"cards/{use_case}/{card['version']}"
    put(f"{settings.docs_url}/{path}.json", card_bytes(card))
    put(f"{settings.docs_url}/{path}.html", page(card).encode())
    return card_link(use_case, card["version"])


def card_link(use_case: str, version: int | None) -> str:
    """The link to a version's card."""
    return f"{get_settings().reports_url.rstrip('/')}/cards/{use_case}/{version}.html"


def _steps(model: LoadedModel, recipe: dict[str, Any]) -> list[str]:
    """What happens to a request, step by step, as the files say."""
    codes = "a category is its number, nothing known stays unknown"
    dense = "one column for each category, numbers standardised, nothing known becomes the mean"
    style = {"codes": codes, "dense": dense, "both": f"trees read codes: {codes}; linear models read the rest: {dense}"}
    columns = ", ".join(f"{name} ({kind})" for name, kind in model.columns.items())
    parameters = recipe.get("parameters", {})
    algorithm = str(recipe.get("algorithm", "unknown"))
    inner = inner_models(algorithm, parameters)
    own = _arguments({name: value for name, value in parameters.items() if name not in (*inner, "members")})
    seed = f", seed {recipe.get('seed', 'unknown')}"
    made = f"{algorithm} with " + (f"the {len(inner)} members below" if algorithm == VOTING else own) + seed
    if algorithm == VOTING:
        last = ["the members' probabilities are averaged by their weights"]
    elif algorithm == CALIBRATED:
        last = [f"what it says is calibrated: {own}; each fold's curve is fitted on rows that its model did not see"]
    else:
        last = ["no calibration is applied: the probabilities are the algorithm's own"]
    return [
        f"{len(model.columns)} features in this order: {columns}",
        f"encoder `{model.encoder.style}`: {style[model.encoder.style]}; {model.encoder.width} columns",
        made,
        *(_inner_words(algorithm, name, part) for name, part in sorted(inner.items())),
        *last,
        "probability of a positive label; the decision is made at the threshold of the costs",
    ]


def _inner_words(algorithm: str, name: str, part: dict[str, Any]) -> str:
    what = "the model inside" if algorithm == CALIBRATED else f"member {name}, weight {part.get('weight', 1.0):g}"
    return f"{what}: {part['algorithm']} with {_arguments(part.get('parameters', {}))}"


def _arguments(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items()) or "its defaults"


def _parts(checks: tuple[Check, ...]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"checks": [], "slices": [], "fairness": []}
    for check in checks:
        content = {
            "name": check.name,
            "value": check.value,
            "bound": check.bound,
            "words": check.words,
            "why": check.reason,
        }
        kind = check.name.split(" ", 1)[0]
        found[{"slice": "slices", "fairness": "fairness", "groups": "fairness"}.get(kind, "checks")].append(content)
    return found


def _limits(use_case: UseCase, candidate: CandidateRef, verdict: Verdict) -> list[str]:
    ref = candidate.training_set
    limits = [
        f"It learned from predictions of {ref.train_start:%Y-%m-%d} to {ref.train_end:%Y-%m-%d} and was judged on "
        f"{ref.holdout_start:%Y-%m-%d} to {ref.holdout_end:%Y-%m-%d}: seasons outside are unknown to it.",
        "Rows without a label were left out of training and judgement; the model answers for them all the same.",
        f"Slices with fewer than {use_case.gate.min_slice_rows} rows of the holdout were reported, not judged.",
        "The probabilities hold for the costs and the label above; another decision needs its own threshold.",
    ]
    if candidate.label_note:
        limits.append(candidate.label_note[:1].upper() + candidate.label_note[1:] + ".")
    if verdict.champion_digest is None:
        limits.append("It was the first of its kind: judged by absolute bounds and baselines, against no champion.")
    return limits


def _causes(verdict_id: str) -> dict[str, Any]:
    with transaction() as session:
        row = session.get(VerdictRow, verdict_id)
    return dict(row.causes) if row else {}
