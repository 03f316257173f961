"""MLflow is killed before, during and after a training: nothing is lost, and on its return there is one version."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.errors import AirworthyError, ServiceUnavailableError
from airworthy.evaluation import judge
from airworthy.ledger import promotions
from airworthy.records import TrainingSetRef
from airworthy.training import fit, model_files, tracking
from ports import free_port

Make = Callable[..., TrainingSetRef]


class Server:
    """A real MLflow server on the session's database, which can be killed and started again."""

    def __init__(self, postgres: Path, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = (folder / "server.log").open("w")
        self.command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"postgresql+psycopg2://postgres@/mlflow?host={postgres}",
            "--artifacts-destination", str(folder / "artifacts"),
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(self.command, env=env, stdout=self.log, stderr=self.log, start_new_session=True)
        deadline = time.monotonic() + 120
        while True:
            try:
                return urlopen(f"{self.url}/health", timeout=2).close()
            except OSError:
                assert time.monotonic() < deadline, "MLflow does not start"
                time.sleep(0.2)

    def kill(self) -> None:
        """With its workers, at once."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
            self.process = None


@pytest.fixture
def server(mlflow_server: str, postgres: Path, tmp_path: Path) -> Iterator[Server]:
    """Not running yet; ``mlflow_server`` has made the database's schema."""
    made = Server(postgres, tmp_path)
    yield made
    made.kill()
    made.log.close()


def test_nothing_is_lost_and_one_version_is_made(
    tiny: UseCase, training_set: Make, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", server.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    get_settings.cache_clear()
    gate = tiny.gate.model_copy(update={"min_holdout_rows": 100, "max_calibration_error": 0.9, "slices": []})
    tiny, ref = tiny.model_copy(update={"gate": gate}), training_set()

    # Before the training: a clear error, which Airflow tries again; nothing was begun.
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        fit(tiny, ref, run="train__1")

    # In the middle of it: the model is fitted and written when MLflow dies.
    server.start()
    real = model_files.write_model

    def written_then_killed(*arguments: object, **options: object) -> tuple[str, str]:
        made = real(*arguments, **options)
        server.kill()
        return made

    monkeypatch.setattr(model_files, "write_model", written_then_killed)
    with pytest.raises(Exception) as caught:
        fit(tiny, ref, run="train__1")
    assert not isinstance(caught.value, AirworthyError) or isinstance(caught.value, ServiceUnavailableError)
    monkeypatch.setattr(model_files, "write_model", real)

    server.start()
    candidate = fit(tiny, ref, run="train__1")

    experiment = tracking.experiment_id(tracking.client(), tiny)
    runs = tracking.client().search_runs([experiment])
    assert [(r.info.run_id, r.info.status) for r in runs] == [(candidate.run_id, "FINISHED")]
    verdict = judge(tiny, candidate, causes={"1": {"cause": "drift"}})
    assert verdict.decision == "pass", verdict.summary

    # After it: the verdict is on file, the registration waits. A verdict that is not on file is not half written.
    server.kill()
    assert judge(tiny, candidate, causes={}) == verdict
    stricter = tiny.model_copy(update={"gate": gate.model_copy(update={"min_roc_auc": 0.55})})
    with pytest.raises(ServiceUnavailableError):
        judge(stricter, candidate, causes={})
    with pytest.raises(ServiceUnavailableError):
        registry.register(tiny, candidate, verdict)
    assert [row.id for row in promotions.verdicts(tiny.name)] == [verdict.id]
    assert promotions.releases(tiny.name) == []

    # On its return, with a retry and its duplicate at once: one version, one release, the alias in its place.
    server.start()
    with ThreadPoolExecutor(2) as pool:
        releases = list(pool.map(lambda _: registry.register(tiny, candidate, verdict), range(2)))
    assert releases[0] == releases[1]
    name = get_settings().model_name(tiny.name)
    versions = tracking.client().search_model_versions(f"name = '{name}'")
    assert [int(v.version) for v in versions] == [releases[0].version]
    assert registry.reconcile_aliases(tiny) == {"challenger": releases[0].version}
    assert [row.state for row in promotions.releases(tiny.name)] == ["challenger"]
