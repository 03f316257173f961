"""The tracking server: a client with bounded waiting, experiments, runs found again by a tag."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

from airworthy.config import UseCase, get_settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_TEXT = 500
DIRTY = "-dirty"
REPOSITORY = PROJECT_ROOT
# What a training depends on; a changed document does not make its revision another.
CODE = ("include", "great_expectations", "pyproject.toml", "uv.lock")


def client() -> MlflowClient:
    """A client of the tracking server, after a look whether it answers.

    Raises:
        ServiceUnavailableError: it does not answer within ``mlflow_timeout``.
    """
    settings = get_settings()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, int(settings.mlflow_timeout))))
    # Airflow retries whole tasks; long chains of retries below it would only hide what is down.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    _answers(settings.mlflow_url, settings.mlflow_timeout)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.mlflow_url, registry_uri=settings.mlflow_url)


def _answers(url: str, timeout: float) -> None:
    if not url.startswith(("http://", "https://")):
        return
    try:
        with urlopen(f"{url.rstrip('/')}/health", timeout=timeout):  # noqa: S310 - the scheme was looked at above
            return
    except (URLError, OSError) as error:
        raise ServiceUnavailableError(
            f"MLflow at {url} does not answer: {error}",
            next_step="start it (`airworthy up`), or correct AIRWORTHY_MLFLOW_URL",
        ) from error


def experiment_id(mlflow: MlflowClient, use_case: UseCase) -> str:
    """The experiment of a use case, created when it is not there."""
    from mlflow.exceptions import MlflowException

    name = get_settings().model_name(use_case.name)
    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(mlflow.create_experiment(name))
    except MlflowException:
        # Somebody else created it between the two calls.
        found = mlflow.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def find_run(mlflow: MlflowClient, experiment: str, tag: str, value: str) -> Any | None:
    """The oldest run with this tag; None when there is none."""
    runs = mlflow.search_runs(
        [experiment], filter_string=f"tags.`{tag}` = '{value}'", order_by=["attributes.start_time ASC"], max_results=1
    )
    return runs[0] if runs else None


def clip(value: object) -> str:
    """A parameter or tag as text that MLflow takes."""
    return str(value)[:MAX_TEXT]


def revision() -> str:
    """The code's git revision, with ``-dirty`` behind it when files that matter differ.

    A release of the pipeline names it in its manifest, and so does an image; ``unknown`` without one and without a checkout.
    """
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads((REPOSITORY / "manifest.json").read_text())["revision"])
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=normal", "--", *CODE)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{head}{DIRTY}" if changed else head


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, timeout=20, check=True
    )
    return answer.stdout.strip()
