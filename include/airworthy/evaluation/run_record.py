"""What is known of a run in one record: versions, times, executor, parameters, pointers, metrics, usage and cost."""

from __future__ import annotations

import logging
import platform
from importlib.metadata import version
from typing import Any

from airworthy.config import get_settings
from airworthy.errors import ConfigurationError
from airworthy.ledger import attempts, promotions, usage
from airworthy.ledger.models import TaskUsage
from airworthy.records import CandidateRef, Verdict
from airworthy.training import tracking
from airworthy.training.candidates import find_candidate

log = logging.getLogger(__name__)

FILE = "run.json"
VERSIONS = (
    "airworthy",
    "apache-airflow",
    "feast",
    "mlflow",
    "scikit-learn",
    "numpy",
    "pyarrow",
    "deltalake",
    "treelite",
)


def run_record(run: str) -> dict[str, Any]:
    """The record of a run, as JSON values.

    Args:
        run: ``<dag_id>/<run_id>``.

    Raises:
        ConfigurationError: nothing is known of this run.
    """
    attempt, rows = attempts.attempt_of(run), usage.usage_of(run)
    if attempt is None and not rows:
        raise ConfigurationError(
            f"nothing is known of run {run!r}", next_step="`airworthy runs` lists those that were measured"
        )
    rates, total = get_settings(), usage.cost(rows)
    return {
        "run": run,
        "started_at": min(r.started_at for r in rows).isoformat() if rows else None,
        "ended_at": max(r.ended_at for r in rows).isoformat() if rows else None,
        "executor": sorted({r.executor for r in rows}),
        "steps": [step(r) for r in rows],
        "cost": {
            "amount": total.amount, "currency": rates.cost_currency, "cpu_seconds": total.cpu_seconds,
            "gb_seconds": total.gb_seconds, "bytes_written": total.bytes_written,
            "rates": {
                "per_cpu_hour": rates.cost_per_cpu_hour, "per_gb_hour": rates.cost_per_gb_hour,
                "per_gb_written": rates.cost_per_gb_written,
            },
        },
        **(attempt.record if attempt else {}),
    }  # fmt: skip


def step(row: TaskUsage) -> dict[str, Any]:
    """One try of a task: what it used, and its price."""
    return {
        "task": row.task, "map_index": row.map_index, "try": row.try_number, "outcome": row.outcome,
        "started_at": row.started_at.isoformat(), "ended_at": row.ended_at.isoformat(),
        "seconds": (row.ended_at - row.started_at).total_seconds(), "host": row.host, "executor": row.executor,
        "cpu_seconds": row.cpu_seconds, "peak_memory_bytes": row.peak_memory_bytes,
        "bytes_written": row.bytes_written, "amount": usage.cost([row]).amount,
    }  # fmt: skip


def note_judged(run: str, kind: str, candidate: CandidateRef, verdict: Verdict, causes: dict[str, Any]) -> None:
    """Write into the run's attempt what was fitted and what the gate said.

    Args:
        run: ``<dag_id>/<run_id>``.
        kind: ``train`` or ``experiment``.
        candidate, verdict: What was judged.
        causes: Why it was trained.
    """
    ref, previous = candidate.training_set, None
    kept = find_candidate(candidate.model_digest, candidate.run_id)
    if verdict.champion_digest:
        previous = promotions.get_release(verdict.champion_digest)
    attempts.note_attempt(
        ref.use_case, run, kind,
        causes=causes,
        versions={"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
        revision=tracking.revision(),
        algorithm=candidate.algorithm,
        parameters=kept.recipe if kept else {},
        label_note=candidate.label_note,
        features=list(ref.columns),
        training_set=ref.to_json(),
        artefacts={
            "model": candidate.folder, "training_set": ref.url, "mlflow_run": candidate.run_id,
            "model_digest": candidate.model_digest,
        },
        previous_model=previous.to_json() if previous else None,
        metrics={
            "train": kept.metrics if kept else {}, "holdout": verdict.metrics, "champion": verdict.champion_metrics,
        },
        verdict={"id": verdict.id, "decision": verdict.decision, "mode": verdict.mode, "summary": verdict.summary},
    )  # fmt: skip


def publish_record(run: str, mlflow_run: str) -> None:
    """Put the record into the MLflow run as ``run.json``.

    Raises:
        ServiceUnavailableError: MLflow does not answer.
    """
    tracking.client().log_dict(mlflow_run, run_record(run), FILE)
