"""Monitoring of one window of data time: collect, measure, decide, write down; asked again, it finds the same."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import datetime

import pyarrow as pa

from airworthy import features, training
from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.evaluation.champion import ChampionRecord, champion_record
from airworthy.evaluation.documents import publish_document
from airworthy.ingest import clean_masks
from airworthy.intervals import Interval
from airworthy.lake.tables import INTERVAL
from airworthy.ledger import requests
from airworthy.ledger.clock import data_now
from airworthy.ledger.database import exclusive
from airworthy.monitoring import drift, policy, quality, records
from airworthy.monitoring.collect import as_judged, collect, predictions
from airworthy.monitoring.drift import DriftResult
from airworthy.monitoring.policy import WindowFacts
from airworthy.monitoring.skew_check import recorded
from airworthy.records import MonitorOutcome, SkewOutcome
from airworthy.training.training_set import part
from airworthy.validation import StageChecks

log = logging.getLogger(__name__)

# Fewer predictions say nothing about a distribution.
MIN_PREDICTIONS = 100
SHOWN = 5


class Findings:
    """What is gathered about a window before it is decided on."""

    def __init__(self, rows: pa.Table, first: Interval, last: Interval) -> None:
        self.rows, self.first, self.last = rows, first, last
        self.metrics: dict[str, float] = {}
        self.links: dict[str, str] = {}
        self.drift: DriftResult | None = None
        self.labelled = 0
        self.metric_loss: float | None = None
        self.skew = ""


def monitor(use_case: UseCase, last_day: Interval, days: int = 7, *, run: str) -> MonitorOutcome:
    """Look at a window's predictions, and ask for a training when the rules say so.

    Args:
        use_case: The use case.
        last_day: Last interval of the window.
        days: Intervals in the window.
        run: The Airflow run or the person; written into requests.

    Returns:
        What was found. A window without predictions is a result too: new data is counted all the same.

    Raises:
        DataRejectedError: the log's rows fail their suite.
    """
    if days < 1:
        raise ConfigurationError(f"a window of {days} days is none", next_step="give 1 day or more")
    collect(use_case)
    now, champion = data_now(use_case), champion_record(use_case.name)
    first = last_day.shift(1 - days)
    found = Findings(predictions(use_case, first, last_day), first, last_day)
    if found.rows.num_rows:
        _validate(use_case, found, run)
        _quality(use_case, found, champion, now)
        _drift(use_case, found, champion)
    facts = WindowFacts(
        first=first.key, last=last_day.key, champion=champion.release.digest if champion else None,
        drift_share=found.drift.share if found.drift else None, metric_loss=found.metric_loss,
    )  # fmt: skip
    _skew(found, recorded(use_case.name, facts.key))
    outcome = _decide(use_case, found, facts, champion, now, run)
    log.info("monitoring of %s %s: %s", use_case.name, facts.key, outcome.reason)
    return outcome


def _validate(use_case: UseCase, found: Findings, run: str) -> None:
    """The suite ``log/predictions``: figures over a damaged log would be worth nothing."""
    window = f"{found.first}_{found.last}"
    checks = StageChecks(use_case, f"predictions/{window}/{hashlib.sha256(run.encode()).hexdigest()[:12]}")
    checks.check(
        "log", "predictions", as_judged(found.rows.drop_columns([INTERVAL])), found.first, found.last,
        masks=_masks(use_case), thorough=True,
        next_step="find out what wrote these rows: the prediction service, or a spool file that was altered",
    )  # fmt: skip
    found.links |= checks.keep()


def _masks(use_case: UseCase) -> dict[str, str]:
    """Of the log's columns that are JSON: one is masked as a whole when a value in it is tagged."""
    asked, tagged = use_case.prediction, clean_masks(use_case, use_case.prediction.source)
    inside = {
        "id": [tagged[name] for name in asked.id if name in tagged],
        "request": [tagged[name] for name in asked.request if name in tagged],
        "features": list(features.masks(use_case).values()),
    }
    return {column: max(masks) for column, masks in inside.items() if masks}


def _quality(use_case: UseCase, found: Findings, champion: ChampionRecord | None, now: datetime) -> None:
    outcomes = quality.outcomes(use_case, found.rows, first=found.first, now=now)
    found.labelled = int(outcomes.known.sum())
    found.metrics |= {"pending": outcomes.pending, "without_label": outcomes.without_label}
    found.metrics |= quality.figures(use_case, found.rows, outcomes)
    if champion is None or champion.verdict is None:
        return
    own, own_outcomes = quality.served_by(found.rows, outcomes, champion.release.digest)
    measured = quality.figures(use_case, own, own_outcomes).get(use_case.problem.metric)
    promised = champion.verdict.metrics.get(use_case.problem.metric)
    if measured is not None and promised is not None:
        found.metric_loss = promised - measured
        found.metrics |= {"champion_roc_auc": measured, "verdict_roc_auc": promised, "metric_loss": found.metric_loss}


def _drift(use_case: UseCase, found: Findings, champion: ChampionRecord | None) -> None:
    if champion is None or champion.training_set is None or found.rows.num_rows < MIN_PREDICTIONS:
        return
    spec, ref = use_case.monitoring, champion.training_set
    reference = part(training.read_training_set(ref), "train")
    result = drift.measure(
        reference, drift.feature_table(found.rows, ref.columns), ref.columns, threshold=spec.drift_threshold,
        drift_share=spec.drift_share, rows=spec.reference_rows, seed=use_case.training.seed, hidden=features.masks(use_case),
    )  # fmt: skip
    found.drift = result
    found.metrics |= {"features_drifted": len(result.drifted), "features_without_data": len(result.no_data)}
    path = f"drift/{use_case.name}/{found.first}_{found.last}"
    summary = {
        "use_case": use_case.name, "window": [found.first.key, found.last.key], "predictions": found.rows.num_rows,
        "champion": champion.release.digest, "training_set": ref.digest, "share": result.share,
        "features": [f.to_json() for f in result.features],
    }  # fmt: skip
    found.links["drift figures"] = publish_document(f"{path}.json", json.dumps(summary, indent=1))
    if result.html:
        found.links["Drift report"] = publish_document(f"{path}.html", result.html)


def _skew(found: Findings, outcome: SkewOutcome | None) -> None:
    """What recomputing the served vectors has found: a fault to mend, and no reason for a training."""
    if outcome is not None:
        found.skew = outcome.reason
        found.links |= outcome.links
        found.metrics |= {"skew_vectors": outcome.vectors, "skewed_features": len(outcome.mismatches)}


def _decide(
    use_case: UseCase, found: Findings, facts: WindowFacts, champion: ChampionRecord | None, now: datetime, run: str
) -> MonitorOutcome:
    # Two windows that are judged at the same time must not both find that nobody has asked yet.
    with exclusive("collect", use_case.name):
        data = records.data_facts(use_case, champion, facts, now)
        spec = use_case.monitoring
        wanted = policy.causes(facts, records.earlier_windows(use_case.name, facts), data, spec, use_case.training)
        held = policy.hold(data, use_case.training) if not data.asked else "this window has asked before"
        if wanted and held is None:
            for cause, evidence in wanted.items():
                requests.request_retraining(
                    use_case.name, cause, {**evidence, "window": facts.key}, by=run, data_time=now
                )
        requested = records.asked_by(use_case.name, facts.key)
        outcome = MonitorOutcome(
            use_case=use_case.name,
            window_start=found.first.start,
            window_end=found.last.end,
            predictions=found.rows.num_rows,
            labelled=found.labelled,
            drifted=found.drift.drifted if found.drift else (),
            drift_share=facts.drift_share,
            metrics={**found.metrics, "published_intervals": data.published},
            requested=requested,
            links=found.links,
            reason="; ".join(
                filter(None, [found.skew, *_seen(use_case, found, champion), _asked(wanted, requested, held)])
            ),
        )
        records.record_window(outcome, facts, violates=facts.violates(spec))
    return outcome


def _seen(use_case: UseCase, found: Findings, champion: ChampionRecord | None) -> list[str]:
    if not found.rows.num_rows:
        return ["no predictions in this window"]
    words = [f"{found.rows.num_rows:,} predictions, {found.labelled:,} labelled"]
    if "roc_auc" in found.metrics:
        against = f" (verdict {found.metrics['verdict_roc_auc']:.3f})" if "verdict_roc_auc" in found.metrics else ""
        words.append(f"ROC AUC {found.metrics['roc_auc']:.3f}{against}, label rate {found.metrics['label_rate']:.1%}")
    else:
        words.append(f"no quality figure below {use_case.monitoring.min_labelled} labels")
    return [*words, *_drift_words(found, champion)]


def _drift_words(found: Findings, champion: ChampionRecord | None) -> list[str]:
    if found.drift is None:
        why = "no champion to compare with" if champion is None else f"fewer than {MIN_PREDICTIONS} predictions"
        return [f"drift not measured: {why if champion is None or champion.training_set else 'training set unknown'}"]
    names = found.drift.drifted
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    measured = len(found.drift.features) - len(found.drift.no_data)
    words = [f"{len(names)} of {measured} features drifted" + (f": {shown}" if names else "")]
    if found.drift.no_data:
        words.append(f"no data in {', '.join(found.drift.no_data[:SHOWN])}")
    return words


def _asked(wanted: dict[str, dict[str, object]], requested: tuple[str, ...], held: str | None) -> str:
    if requested:
        return f"asked for a training: {', '.join(requested)}"
    if wanted:
        return f"no training asked for in spite of {', '.join(wanted)}: {held}"
    return "no reason for a training"
