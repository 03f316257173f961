"""The staging check: the same service in a clean process serves the release, before anyone is switched to it."""

from __future__ import annotations

import importlib
import math
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx

from airworthy import features, registry
from airworthy.config import Settings, UseCase, get_settings
from airworthy.delivery import load
from airworthy.delivery.golden import TOLERANCE, GoldenError, check_golden, infer, invocations
from airworthy.errors import AirworthyError, ServiceUnavailableError
from airworthy.serving import spool
from airworthy.serving.contract import Prediction, example
from airworthy.training.model_files import LoadedModel

START_SECONDS = 240.0
PORTS = range(30_000, 32_768)


class StagingError(AirworthyError):
    """Raised when a release does not pass the staging check: it must not be promoted."""


def check(use_case: UseCase, digest: str) -> dict[str, float]:
    """Start the service for a release, hold it against the contract, load it, compare its answers.

    Args:
        use_case: The use case.
        digest: The release.

    Returns:
        Figures: ``requests``, ``errors``, ``p50_ms``, ``p99_ms``, ``qps``.

    Raises:
        StagingError: it did not start, broke the contract, failed or was slow under load, or answered with something
            else than the model does.
    """
    settings = get_settings()
    model = registry.load(digest)
    if model.schema.feature_digest != features.feature_digest(use_case):
        raise _refused("it was trained on other feature definitions than the ones that are deployed")
    with (
        tempfile.TemporaryDirectory(prefix="airworthy-staging-") as scratch,
        service(use_case, digest, Path(scratch)) as staged,
    ):
        url = staged.url
        with httpx.Client(base_url=url, headers=headers(settings), timeout=load.TIMEOUT_S, trust_env=False) as client:
            _contract(use_case, digest, client)
            try:
                check_golden(client, use_case.name, model, invocations, infer)
            except GoldenError as error:
                raise _refused(error.what) from error
        requests = use_case.delivery.load_requests or settings.delivery_load_requests
        measured = load.run(url, example(use_case), requests, headers=headers(settings))
        if words := load.beyond(use_case.delivery, measured):
            raise _refused(words)
        _same_answers(use_case, model, measured, Path(scratch) / "spool")
    return measured.figures()


@dataclass(frozen=True)
class StagedService:
    """A service that follows a file instead of the promotion log.

    Attributes:
        url: Where it answers.
        follows: The file, with the digest of the release that it is to serve.
    """

    url: str
    follows: Path

    def switch(self, digest: str) -> None:
        """Have it serve another release; it follows as it would follow the log."""
        written = self.follows.with_suffix(".new")
        written.write_text(digest)
        written.replace(self.follows)


@contextmanager
def service(use_case: UseCase, digest: str, scratch: Path) -> Iterator[StagedService]:
    """A release served by a clean process of its own, apart from the ledger; yields it once it is ready."""
    port = _free_port()
    staged = StagedService(f"http://127.0.0.1:{port}", scratch / "release")
    staged.switch(digest)
    log = scratch / "service.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "airworthy.serving"], env=_environment(use_case, staged, scratch, port), cwd=scratch,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            _wait_ready(process, staged.url, log)
            yield staged
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment(use_case: UseCase, staged: StagedService, scratch: Path, port: int) -> dict[str, str]:
    # The package that this process imported is the one that the staged service must import.
    package_file = importlib.import_module(use_case.package).__file__
    root = str(Path(str(package_file)).parents[len(use_case.package.split("."))])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "AIRWORTHY_SERVING_STAGE": str(staged.follows),
        "AIRWORTHY_USE_CASES": use_case.package,
        "AIRWORTHY_SERVICE_HOST": "127.0.0.1",
        "AIRWORTHY_SERVICE_PORT": str(port),
        "AIRWORTHY_SERVICE_WORKERS": "1",
        "AIRWORTHY_SERVICE_INSTANCE": "staging",
        "AIRWORTHY_SPOOL": str(scratch / "spool"),
    }


def _free_port() -> int:
    """A port that nobody has, drawn from below those that systems give to outgoing connections.

    One of these might have it by the time the service listens, seconds later, and the release would be refused for it.
    """
    for _ in range(100):
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServiceUnavailableError(
        f"no free port among {PORTS.start} to {PORTS.stop - 1}",
        next_step="see what listens on this machine, and run it again",
    )


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    reason = "it never answered"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _refused(f"the service ended with status {process.returncode}: {_tail(log)}")
        try:
            answer = httpx.get(f"{url}/ready", timeout=5, trust_env=False)
            if answer.status_code == 200:
                return
            (state,) = answer.json()["use_cases"].values()
            reason = state["reason"]
            if "cannot serve" in reason:
                break
        except (httpx.HTTPError, ValueError, KeyError):
            pass
        time.sleep(0.1)
    raise _refused(f"the service was not ready in time: {reason}")


def _contract(use_case: UseCase, digest: str, client: httpx.Client) -> None:
    served = client.get("/model").json().get("release")
    if served != digest:
        raise _refused(f"it serves {served}, not {digest}")
    good = example(use_case)
    answer = client.post("/predict", json=good)
    if answer.status_code != 200:
        raise _refused(f"the use case's example was answered with {answer.status_code}: {answer.text[:300]}")
    (prediction,) = answer.json()["predictions"]
    lacking = sorted({field.name for field in fields(Prediction)} - set(prediction))
    if lacking:
        raise _refused(f"the answer lacks {', '.join(lacking)}")
    if not math.isfinite(prediction["probability"]) or not 0 <= prediction["probability"] <= 1:
        raise _refused(f"the answer's probability is {prediction['probability']}")
    required = next(iter(set(use_case.prediction.request) - set(use_case.prediction.optional)), None)
    bad = [{**good, "no_such_field": 1}, {"requests": []}] + (
        [{k: v for k, v in good.items() if k != required}] if required else []
    )
    for body in bad:
        status = client.post("/predict", json=body).status_code
        if status != 422:
            raise _refused(f"a bad request was answered with {status} instead of 422: {sorted(body)}")


def _same_answers(use_case: UseCase, model: LoadedModel, measured: load.Load, root: Path) -> None:
    """What was answered must be what the model says offline of the logged feature vectors."""
    logged: dict[str, dict[str, Any]] = {
        record["prediction_id"]: record for file in spool.files(root, use_case.name) for record, _ in spool.read(file)
    }
    answered = {a["prediction_id"]: a["probability"] for a in measured.answers}
    unlogged = set(answered) - set(logged)
    if unlogged or not answered:
        raise _refused(f"{len(unlogged)} of {len(answered)} answers are not in the prediction log")
    offline = model.predict([logged[i]["features"] for i in answered])
    worst = max(abs(float(a) - float(b)) for a, b in zip(offline, answered.values(), strict=True))
    if not worst <= TOLERANCE:
        raise _refused(f"served probabilities differ from the model's own by up to {worst:.3g}")


def headers(settings: Settings) -> dict[str, str]:
    """What a request to the service needs."""
    key = settings.service_api_key.get_secret_value() if settings.service_api_key else ""
    return {"X-API-Key": key} if key else {}


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:].strip()


def _refused(why: str) -> StagingError:
    return StagingError(f"staging check: {why}", next_step="see the release's card and the service's log; train again")
