"""Whether a program of the platform does its work, which is more than that its process runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import httpx

from airworthy.config import Settings
from airworthy.platform import postgres
from airworthy.platform.supervisor import State

TIMEOUT_S = 15.0
Check = Callable[[Settings, State], str]


def problem(settings: Settings, state: State) -> str:
    """Why a program is not ready; empty when it is."""
    if state.state not in ("RUNNING", "STARTING"):
        return f"{state.state.lower()}: {state.detail}"
    try:
        return _CHECKS[state.name](settings, state)
    except (httpx.HTTPError, OSError, KeyError, ValueError) as error:
        return f"does not answer yet ({type(error).__name__})"


def _get(url: str) -> httpx.Response:
    # Straight to the address: a proxy of the shell does not know this machine's services.
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        return client.get(url)


def _answers(path: str, url: Callable[[Settings], str]) -> Check:
    def check(settings: Settings, state: State) -> str:
        status = _get(f"{url(settings).rstrip('/')}{path}").status_code
        return "" if status == httpx.codes.OK else f"answers with {status}"

    return check


def _postgres(_: Settings, __: State) -> str:
    # The holder may just have written where the socket is.
    return "" if postgres.answers(Settings().socket_dir) else "does not answer yet"


def _airflow(part: str) -> Check:
    def check(settings: Settings, state: State) -> str:
        health = _get(f"{settings.airflow_url.rstrip('/')}/api/v2/monitor/health").json()
        said = health[part]
        if said["status"] != "healthy":
            return f"Airflow says {said['status']}"
        if part == "metadatabase":
            return ""
        # An earlier scheduler's heartbeat looks healthy for half a minute.
        beat = datetime.fromisoformat(said[f"latest_{part}_heartbeat"].replace("Z", "+00:00"))
        return "" if beat.timestamp() >= state.started else "no heartbeat since its start"

    return check


_CHECKS: dict[str, Check] = {
    "postgres": _postgres,
    "mlflow": _answers("/health", lambda s: s.mlflow_url),
    "service": _answers("/health", lambda s: s.service_url),
    "reports": _answers("/", lambda s: s.reports_url),
    "api-server": _airflow("metadatabase"),
    "scheduler": _airflow("scheduler"),
    "dag-processor": _airflow("dag_processor"),
    "triggerer": _airflow("triggerer"),
}
