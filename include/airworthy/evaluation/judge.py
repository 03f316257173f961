"""A verdict on a candidate: both models on one later, frozen holdout, and the evidence on file."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import replace
from typing import Any

from airworthy import registry, training
from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.evaluation import gate, metrics, report
from airworthy.evaluation.attribution_plot import shap_plot
from airworthy.evaluation.catalogue import Checker
from airworthy.evaluation.champion import ChampionRecord, champion_record
from airworthy.evaluation.champion_rows import opponent_of
from airworthy.evaluation.documents import link, publish_document
from airworthy.evaluation.examine import Examination, examine
from airworthy.evaluation.records import Evidence
from airworthy.evaluation.subject import Holdout, Subject
from airworthy.ledger import promotions
from airworthy.ledger.clock import data_now
from airworthy.records import CandidateRef, Verdict
from airworthy.training import model_files, tracking
from airworthy.training.training_set import part

log = logging.getLogger(__name__)

SVG = "http://www.w3.org/2000/svg"  # a file needs it, a page does not


def judge(use_case: UseCase, candidate: CandidateRef, *, causes: dict[str, Any]) -> Verdict:
    """Judge a candidate against the champion on the holdout of the candidate's training set.

    The same candidate, champion, training set and gate give the same verdict, which is computed and kept once: a retry
    returns it. The ledger's row is written last, so that a verdict on record has its report and its MLflow entries.

    Args:
        use_case: The use case.
        candidate: A fitted model that no gate has judged.
        causes: Why it was trained, kept with the verdict.

    Returns:
        The verdict; ``decision`` is ``pass`` only when every check passed.

    Raises:
        ConfigurationError: the candidate is of another use case, or a check has no bound.
        ReleaseError: the candidate's or the champion's files, or the training set, are missing or altered.
        ServiceUnavailableError: MLflow does not answer.
    """
    if candidate.use_case != use_case.name:
        raise ConfigurationError(
            f"candidate {candidate.model_digest[:12]} is of {candidate.use_case}, not of {use_case.name}",
            next_step="judge it with its own use case",
        )
    Checker(use_case.gate)  # a missing bound is found before anything is measured
    champion = champion_record(use_case.name)
    identity = verdict_id(use_case, candidate, champion.release.digest if champion else None)
    known = promotions.get_verdict(identity)
    if known is not None:
        return known
    found = _examine(use_case, candidate, champion)
    evidence = found.evidence
    verdict = _to_verdict(use_case, candidate, evidence, identity)
    curves = report.Curves.of(found.labels, found.candidate, found.champion)
    swarm = shap_plot(found.explained) if found.explained else ""
    html = report.render(use_case, candidate, verdict, evidence, curves, swarm)
    publish_document(report_path(use_case.name, identity), html)
    _log_to_mlflow(candidate, verdict, evidence, html, swarm)
    promotions.record_verdict(verdict, causes)
    log.info("verdict %s on %s: %s: %s", identity, candidate.model_digest[:12], verdict.decision, verdict.summary)
    return verdict


def verdict_id(use_case: UseCase, candidate: CandidateRef, champion_digest: str | None) -> str:
    """The id of a verdict: a digest of all that it depends on, the gate's bounds included."""
    parts = [
        use_case.name,
        candidate.model_digest,
        champion_digest,
        candidate.training_set.digest,
        use_case.gate.model_dump(mode="json"),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def report_path(use_case: str, identity: str) -> str:
    """Where a verdict's report is, below ``docs_url``."""
    return f"verdicts/{use_case}/{identity}.html"


def report_link(verdict: Verdict) -> str:
    """The link to a verdict's report."""
    return link(report_path(verdict.use_case, verdict.id))


def _examine(use_case: UseCase, candidate: CandidateRef, champion: ChampionRecord | None) -> Examination:
    ref = candidate.training_set
    rows = training.read_training_set(ref)
    subject = Subject(
        model=model_files.load(candidate.folder, candidate.model_digest, recorded=True),
        estimator=model_files.load_estimator(candidate.folder, candidate.model_digest),
        folder=candidate.folder,
        train=part(rows, "train"),
        holdout=Holdout.of(part(rows, "holdout")),
        seed=use_case.training.seed,
    )
    opponent = None
    if champion is not None:
        model = registry.load(champion.release.digest)
        opponent = opponent_of(use_case, champion, model, ref, subject.holdout)
    found = examine(use_case, subject, ref, opponent, asked=candidate.model_digest)
    # Read again, now that scoring is done: a champion that changed meanwhile makes this evidence stale.
    newest = champion_record(use_case.name)
    evidence = found.evidence.model_copy(
        update={
            "champion_asked": newest.release.model_digest if newest else None,
            "champion_in_log": newest.release.digest if newest else None,
        }
    )
    return replace(found, evidence=evidence)


def _to_verdict(use_case: UseCase, candidate: CandidateRef, evidence: Evidence, identity: str) -> Verdict:
    decision, checks, summary = gate.decide(use_case.gate, evidence)
    return Verdict(
        id=identity,
        use_case=use_case.name,
        model_digest=candidate.model_digest,
        champion_digest=evidence.champion_release,
        decision=decision,
        mode=use_case.gate.mode,
        checks=checks,
        metrics=_finite(evidence.candidate.metrics),
        champion_metrics=_finite(evidence.champion.metrics) if evidence.champion else {},
        holdout_rows=evidence.holdout_rows,
        training_set_digest=candidate.training_set.digest,
        summary=summary,
        data_time=data_now(use_case),
        notes=gate.notes(use_case.gate, evidence),
        worth=evidence.worth,
        intervals=evidence.intervals,
        confidence=use_case.gate.confidence,
        calibration=evidence.calibration,
        groups=evidence.groups,
    )


def _log_to_mlflow(candidate: CandidateRef, verdict: Verdict, evidence: Evidence, html: str, swarm: str) -> None:
    from mlflow.entities import Metric, RunTag

    figures = {f"holdout_{n}": v for n, v in verdict.metrics.items()}
    figures |= {f"holdout_champion_{n}": v for n, v in verdict.champion_metrics.items()}
    figures |= {f"holdout_prior_{n}": v for n, v in _finite(evidence.prior).items()}
    figures |= {f"holdout_rule_{n}": v for n, v in _finite(evidence.rule).items()}
    figures |= {f"holdout_linear_{n}": v for n, v in _finite(evidence.linear).items()}
    figures |= {f"importance_{i.column}": i.mean for i in evidence.importance if math.isfinite(i.mean)}
    if evidence.worth and evidence.worth.measure == "shap":
        figures |= {f"shap_{name}": value for name, value in evidence.worth.features}
    tags = {
        "verdict": verdict.decision, "verdict_id": verdict.id, "verdict_summary": tracking.clip(verdict.summary),
        "verdict_report": report_link(verdict), "champion_digest": verdict.champion_digest or "none",
        "verdict_notes": tracking.clip("; ".join(verdict.notes) or "none"),
    }  # fmt: skip
    client = tracking.client()
    client.log_batch(
        candidate.run_id,
        metrics=[Metric(name, value, timestamp=0, step=0) for name, value in figures.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    client.log_dict(
        candidate.run_id, {"verdict": verdict.to_json(), "evidence": _plain(evidence.to_json())}, "verdict.json"
    )
    client.log_text(candidate.run_id, html, "verdict.html")
    if swarm:
        client.log_text(candidate.run_id, swarm.replace("<svg ", f'<svg xmlns="{SVG}" ', 1), "shap.svg")


def _finite(values: metrics.Metrics) -> dict[str, float]:
    return {n: v for n, v in values.items() if v is not None and math.isfinite(v)}


def _plain(value: Any) -> Any:
    """JSON values without NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
