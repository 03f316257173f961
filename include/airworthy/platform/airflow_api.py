"""A small client of Airflow's REST API, for the demo, the command line and the tests."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from airworthy.config import get_settings
from airworthy.errors import ConfigurationError, ServiceUnavailableError
from airworthy.intervals import utc
from airworthy.platform import credentials

PAGE = 100
ENDED = ("success", "failed")


class AirflowApi:
    """Airflow as an operator sees it.

    Args:
        url: Airflow's address; that of the settings by default.
        user, password: The login; the embedded platform's administrator by default.
        patience_s: So long a request is tried again while Airflow does not answer (it may be restarting). Only
            requests that read are: another may have arrived although its answer did not.
    """

    def __init__(
        self, url: str | None = None, user: str = "admin", password: str | None = None, *, patience_s: float = 30.0
    ) -> None:
        settings = get_settings()
        self._url = (url or settings.airflow_url).rstrip("/")
        self._user, self._password = user, password
        self._patience_s = patience_s
        self._client = httpx.Client(base_url=self._url, timeout=30.0, trust_env=False)
        self._token = ""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def health(self) -> dict[str, Any]:
        """State and last heartbeat of each of Airflow's parts; needs no login."""
        return self._send("GET", "/api/v2/monitor/health", login=False)

    def dags(self) -> list[dict[str, Any]]:
        """Every DAG."""
        return self._all("/api/v2/dags", "dags")

    def import_errors(self) -> list[dict[str, Any]]:
        """DAG files that cannot be imported, with the trace."""
        return self._all("/api/v2/importErrors", "import_errors")

    def pools(self) -> list[dict[str, Any]]:
        """Pools, with ``name`` and ``slots``."""
        return self._all("/api/v2/pools", "pools")

    def set_slots(self, pool: str, slots: int) -> None:
        """Give a pool so many slots; with 0 no task of it starts."""
        self._send("PATCH", f"/api/v2/pools/{_q(pool)}?update_mask=slots", {"pool": pool, "slots": slots})

    def running_tasks(self) -> list[str]:
        """Every task that runs or was handed to a worker, as ``dag.task``."""
        path = "/api/v2/dags/~/dagRuns/~/taskInstances"
        found = self._all(path, "task_instances", {"state": ["running", "queued", "restarting"]})
        return [f"{t['dag_id']}.{t['task_id']}" for t in found]

    def unpause(self, dag: str) -> None:
        """Let a DAG be scheduled."""
        self._send("PATCH", f"/api/v2/dags/{_q(dag)}", {"is_paused": False})

    def trigger(
        self, dag: str, conf: dict[str, Any] | None = None, *, partition_key: str | None = None, note: str | None = None
    ) -> str:
        """Start a run; returns its id.

        Raises:
            ConfigurationError: Airflow refuses it (an unknown DAG, parameters that its form does not allow).
        """
        body: dict[str, Any] = {"logical_date": None, "conf": conf or {}}
        body |= {k: v for k, v in {"partition_key": partition_key, "note": note}.items() if v is not None}
        return str(self._send("POST", f"/api/v2/dags/{_q(dag)}/dagRuns", body)["dag_run_id"])

    def backfill(
        self, dag: str, first: datetime, last: datetime, *, max_active_runs: int = 3, reprocess: str = "none"
    ) -> int:
        """Start a backfill from the day of ``first`` to the day of ``last``, both included; returns its id.

        Args:
            dag: A DAG that is scheduled by time. Paused, its runs would wait: unpause it first.
            first: Midnight UTC of the first day.
            last: Midnight UTC of the last day; with another hour that day would be lost.
            max_active_runs: Runs at a time; the DAG's own limit does not apply to a backfill.
            reprocess: For days that have a run: ``none`` leaves them, ``failed`` or ``completed`` runs them again.
        """
        body = {
            "dag_id": dag, "from_date": utc(first).isoformat(), "to_date": utc(last).isoformat(),
            "max_active_runs": max_active_runs, "reprocess_behavior": reprocess, "run_backwards": False,
            "dag_run_conf": {},
        }  # fmt: skip
        return int(self._send("POST", "/api/v2/backfills", body)["id"])

    def runs(self, dag: str, *, state: str | None = None) -> list[dict[str, Any]]:
        """Runs of a DAG, newest first; none of a DAG that Airflow does not know (yet).

        Each has ``dag_run_id``, ``state``, ``run_type``, ``partition_key``, ``note`` and dates.
        """
        return self._all(
            f"/api/v2/dags/{_q(dag)}/dagRuns", "dag_runs", {"order_by": "-id", "state": state}, absent_is_empty=True
        )

    def run(self, dag: str, run: str) -> dict[str, Any]:
        """One run."""
        return self._send("GET", f"/api/v2/dags/{_q(dag)}/dagRuns/{_q(run)}")

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """Task instances of a run, with ``task_id``, ``map_index``, ``state``, ``try_number``, and dates."""
        return self._all(f"/api/v2/dags/{_q(dag)}/dagRuns/{_q(run)}/taskInstances", "task_instances")

    def xcom(self, dag: str, run: str, task: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task left behind under a key; None when nothing."""
        path = f"/api/v2/dags/{_q(dag)}/dagRuns/{_q(run)}/taskInstances/{_q(task)}/xcomEntries/{_q(key)}"
        found = self._send(
            "GET", path, parameters={"map_index": map_index, "deserialize": "true"}, absent_is_empty=True
        )
        return found.get("value")

    def send_event(self, asset: str) -> None:
        """Send an event of an asset, by its name: what is scheduled on it wakes.

        Raises:
            ConfigurationError: Airflow knows no such asset (yet).
        """
        known = self._all("/api/v2/assets", "assets", {"name_pattern": asset})
        ids = [a["id"] for a in known if a["name"] == asset]
        if not ids:
            raise ConfigurationError(f"Airflow knows no asset {asset}", next_step="wait until its DAG files are parsed")
        self._send("POST", "/api/v2/assets/events", {"asset_id": ids[0], "extra": {}})

    def set_note(self, dag: str, run: str, note: str) -> None:
        """Write a run's note."""
        self._send("PATCH", f"/api/v2/dags/{_q(dag)}/dagRuns/{_q(run)}", {"note": note})

    def clear(self, dag: str, run: str, *, only_failed: bool = False) -> None:
        """Run a run's tasks again."""
        self._send(
            "POST", f"/api/v2/dags/{_q(dag)}/dagRuns/{_q(run)}/clear", {"dry_run": False, "only_failed": only_failed}
        )

    def wait(self, dag: str, run: str, *, timeout_s: float = 600.0) -> dict[str, Any]:
        """The run, once it has ended.

        Raises:
            ServiceUnavailableError: it has not after the time-out.
        """
        deadline = time.monotonic() + timeout_s
        while (found := self.run(dag, run))["state"] not in ENDED:
            if time.monotonic() > deadline:
                raise ServiceUnavailableError(
                    f"run {run} of {dag} is still {found['state']} after {timeout_s:.0f} s",
                    next_step=f"look at it in {self._url}, or see `airworthy logs scheduler`",
                )
            time.sleep(0.3)
        return found

    def _all(
        self, path: str, key: str, parameters: dict[str, Any] | None = None, *, absent_is_empty: bool = False
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        given = {k: v for k, v in (parameters or {}).items() if v is not None}
        while True:
            page = self._send(
                "GET", path, parameters=given | {"limit": PAGE, "offset": len(found)}, absent_is_empty=absent_is_empty
            )
            found += page.get(key, [])
            if len(page.get(key, [])) < PAGE:
                return found

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None = None, *,
        parameters: dict[str, Any] | None = None, login: bool = True, absent_is_empty: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        def send() -> httpx.Response:
            headers = {"Authorization": f"Bearer {self._token or self._log_in()}"} if login else {}
            return self._patiently(method, path, json=body, params=parameters, headers=headers)

        response = send()
        if response.status_code == httpx.codes.UNAUTHORIZED and login:
            self._token = ""  # it ran out, or Airflow was set up anew
            response = send()
        if response.status_code == httpx.codes.NOT_FOUND and absent_is_empty:
            return {}
        if response.is_success:
            return dict(response.json()) if response.content else {}
        words = f"Airflow answers {method} {path} with {response.status_code}: {response.text[:500]}"
        if response.is_server_error:
            raise ServiceUnavailableError(words, next_step="see `airworthy logs api-server`")
        raise ConfigurationError(words, next_step="correct what Airflow says there")

    def _log_in(self) -> str:
        password = self._password if self._password is not None else credentials.passwords(get_settings())[self._user]
        response = self._patiently(
            "POST", "/auth/token", repeatable=True, json={"username": self._user, "password": password}
        )
        if not response.is_success:
            raise ConfigurationError(
                f"Airflow at {self._url} refuses the login of {self._user} ({response.status_code})",
                next_step="is another Airflow on that address? AIRWORTHY_AIRFLOW_URL says which is asked",
            )
        self._token = str(response.json()["access_token"])
        return self._token

    def _patiently(self, method: str, path: str, *, repeatable: bool = False, **arguments: Any) -> httpx.Response:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                response = self._client.request(method, path, **arguments)
                if response.status_code < httpx.codes.INTERNAL_SERVER_ERROR or not (repeatable or method == "GET"):
                    return response
                if time.monotonic() > deadline:
                    return response
            except httpx.TransportError as error:
                # A refused connection brought nothing over; after any other fault the request may have been done.
                again = repeatable or method == "GET" or isinstance(error, httpx.ConnectError)
                if not again or time.monotonic() > deadline:
                    raise ServiceUnavailableError(
                        f"Airflow at {self._url} does not answer: {error!r}",
                        next_step="see `airworthy status` and `airworthy logs api-server`",
                    ) from error
            time.sleep(0.5)


def _q(part: str) -> str:
    return quote(part, safe="")
