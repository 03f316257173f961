"""Fitting a candidate: from a training set to model files and an MLflow run. The same run twice is one candidate."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError, ReleaseError
from airworthy.ledger.database import exclusive, transaction
from airworthy.ledger.models import RetrainingRequest
from airworthy.records import CandidateRef, TrainingSetRef
from airworthy.training import model_files, tracking
from airworthy.training.algorithm import find_algorithm
from airworthy.training.building import build_model, label_note
from airworthy.training.candidates import record_candidate
from airworthy.training.folders import read_folder, sha256
from airworthy.training.training_set import part, read_training_set

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from airworthy.training.search import SearchResult

log = logging.getLogger(__name__)

FIT_TAG = "airworthy.fit"
DIGEST_TAG = "airworthy.model_digest"
ARTIFACTS = "model"


def fit(
    use_case: UseCase,
    ref: TrainingSetRef,
    *,
    run: str,
    flip_labels: float = 0.0,
    algorithm: str | None = None,
    parameters: dict[str, Any] | None = None,
    search: SearchResult | None = None,
) -> CandidateRef:
    """Fit a candidate on the training part, stage its files and log an MLflow run.

    A retry of the same run finds what the first try made. The holdout is never looked at.

    Args:
        use_case: The use case.
        ref: The training set.
        run: The Airflow run, or a command.
        flip_labels: Share of training labels to flip, to show a refusal.
        algorithm: Import path; by default the use case's.
        parameters: Arguments of the algorithm; by default the use case's (none, for another algorithm).
        search: What was searched before: its algorithm and parameters are used, its trials are logged.

    Raises:
        ConfigurationError: no such algorithm or argument, or a share outside 0 to 1.
        DataRejectedError: the training set cannot be encoded.
        ReleaseError: the training set was altered, or the model holds types that nobody may load.
        ServiceUnavailableError: MLflow does not answer.
    """  # fmt: skip
    if not 0 <= flip_labels <= 1:
        raise ConfigurationError(f"flip_labels is {flip_labels}", next_step="give a share between 0 and 1")
    if search is not None:
        algorithm, parameters = search.algorithm, search.parameters
    path = algorithm or use_case.training.algorithm
    if parameters is None:
        parameters = use_case.training.parameters if path == use_case.training.algorithm else {}
    find_algorithm(path)
    recipe = {
        "algorithm": path, "parameters": parameters, "seed": use_case.training.seed, "flip_labels": flip_labels,
        "training_set": ref.digest, "feature_digest": ref.feature_digest,
    }  # fmt: skip
    key = hashlib.sha256(json.dumps([run, recipe], sort_keys=True, default=str).encode()).hexdigest()
    # A duplicate of this task waits here, and then finds the candidate.
    with exclusive("train", use_case.name):
        mlflow = tracking.client()
        experiment = tracking.experiment_id(mlflow, use_case)
        mlflow_run = tracking.find_run(mlflow, experiment, FIT_TAG, key)
        if mlflow_run is not None and (done := _finished(mlflow_run, use_case, ref, recipe)):
            return done
        run_id = mlflow_run.info.run_id if mlflow_run else _start(mlflow, experiment, use_case, ref, run, recipe, key)
        try:
            return _fit(mlflow, run_id, use_case, ref, run, recipe, search)
        except Exception:
            try:
                mlflow.set_terminated(run_id, "FAILED")
            except Exception:  # MLflow is what failed: the error that is told is the first one, and a retry goes on
                log.warning("MLflow run %s could not be marked as failed", run_id)
            raise


def _finished(mlflow_run: Any, use_case: UseCase, ref: TrainingSetRef, recipe: dict[str, Any]) -> CandidateRef | None:
    """The candidate of an earlier try, if it came to its end and its files are whole."""
    digest = mlflow_run.data.tags.get(DIGEST_TAG)
    if mlflow_run.info.status != "FINISHED" or not digest:
        return None
    candidate = _candidate(
        use_case, ref, recipe, mlflow_run.info.run_id, digest, f"{model_files.models_url()}/{digest}"
    )
    try:
        read_folder(candidate.folder, digest)
    except ReleaseError:
        return None
    return candidate


def _candidate(
    use_case: UseCase, ref: TrainingSetRef, recipe: dict[str, Any], run_id: str, digest: str, folder: str
) -> CandidateRef:
    return CandidateRef(
        use_case=use_case.name, run_id=run_id, model_digest=digest, folder=folder, training_set=ref,
        algorithm=recipe["algorithm"], label_note=label_note(recipe["flip_labels"]),
    )  # fmt: skip


def _fit(
    mlflow: MlflowClient,
    run_id: str,
    use_case: UseCase,
    ref: TrainingSetRef,
    run: str,
    recipe: dict[str, Any],
    search: SearchResult | None,
) -> CandidateRef:
    built = build_model(use_case, ref, recipe, part(read_training_set(ref), "train"), model_files.models_url())
    for name, value in {**built.metrics, "fit_seconds": built.seconds}.items():
        mlflow.log_metric(run_id, name, value)
    digest, folder = built.digest, built.folder
    _upload(mlflow, run_id, folder, digest)
    from airworthy.training.search_report import log_making  # it imports this module

    log_making(mlflow, run_id, ref, search)
    candidate = _candidate(use_case, ref, recipe, run_id, digest, folder)
    # Before the run is marked as finished: a retry finds finished runs and would never write it.
    record_candidate(
        candidate, run=run, recipe=recipe, revision=tracking.revision(), lock=lock_digest(),
        metrics=built.metrics, probabilities=built.probabilities,
    )  # fmt: skip
    mlflow.set_tag(run_id, DIGEST_TAG, digest)
    mlflow.set_terminated(run_id, "FINISHED")
    log.info("%s: candidate %s in %.1f s, MLflow run %s", use_case.name, digest[:12], built.seconds, run_id)
    return candidate


def _start(
    mlflow: MlflowClient,
    experiment: str,
    use_case: UseCase,
    ref: TrainingSetRef,
    run: str,
    recipe: dict[str, Any],
    key: str,
) -> str:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    tags = {
        FIT_TAG: key,
        "airworthy.run": run,
        "airworthy.use_case": use_case.name,
        "airworthy.training_set": ref.digest,
        "airworthy.feature_service": ref.feature_service,
        "airworthy.feature_digest": ref.feature_digest,
        "airworthy.data_versions": json.dumps(ref.data_versions, sort_keys=True),
        "airworthy.data_time": ref.data_time.isoformat(),
        "airworthy.causes": _causes(use_case, run),
        "airworthy.lock": lock_digest(),
        "airworthy.revision": tracking.revision(),
        "airworthy.label_note": label_note(recipe["flip_labels"]) or "none",
        "mlflow.user": get_settings().who,
    }
    started = mlflow.create_run(experiment, tags={k: tracking.clip(v) for k, v in tags.items()}, run_name=run)
    run_id = str(started.info.run_id)
    params = {
        **{k: v for k, v in recipe.items() if k != "parameters"},
        **{f"parameters.{k}": v for k, v in recipe["parameters"].items()},
    }
    mlflow.log_batch(run_id, params=[Param(k, tracking.clip(v)) for k, v in params.items()])
    profile = {"train_rows": ref.train_rows, "holdout_rows": ref.holdout_rows, "label_rate": ref.label_rate}
    dataset = Dataset(
        name=f"{use_case.name} training set",
        digest=ref.digest[:32],
        source_type="url",
        source=json.dumps({"url": ref.url}),
        profile=json.dumps(profile),
    )
    mlflow.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    return run_id


def _causes(use_case: UseCase, run: str) -> str:
    with transaction() as session:
        causes = session.scalars(
            select(RetrainingRequest.cause).where(
                RetrainingRequest.use_case == use_case.name, RetrainingRequest.claimed_by == run
            )
        ).all()
    return ", ".join(sorted(set(causes))) or "on_demand"


def lock_digest() -> str:
    """Digest of the lock file: what was installed."""
    lock = get_settings().lock_file
    return sha256(lock.read_bytes()) if lock.is_file() else "no lock file"


def _upload(mlflow: MlflowClient, run_id: str, folder: str, digest: str) -> None:
    _, files = read_folder(folder, digest)
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)
        mlflow.log_artifacts(run_id, name, artifact_path=ARTIFACTS)
