"""A push to ``main`` becomes what runs, once a person approved it: on a whole platform, from a git repository.

The platform runs from a clone, as a team has it; its releases are built, tried in staging, approved by a person over HTTP and
switched to by restarting everything.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from airworthy.config import get_settings
from airworthy.config.use_case import use_cases
from airworthy.errors import ServiceUnavailableError
from airworthy.ledger import audit, promotions, switches
from airworthy.ledger import database as ledger_database
from airworthy.ledger import pipeline_releases as ledger
from airworthy.platform import credentials, pg_tools, places, releasing
from airworthy.platform.airflow_api import AirflowApi
from airworthy.platform.staging import PREFIX
from airworthy.platform.staging_run import Staged
from airworthy.records import Release
from airworthy.training.folders import MANIFEST
from integration.serving import world
from pipeline_repository import USE_CASE, Repository
from ports import free_block

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

T = TypeVar("T")
DAG = "platform.release"


class Team:
    """People with a repository that they push to, and the platform that runs from a clone of it."""

    def __init__(self, folder: Path) -> None:
        self.work, self.origin, self.checkout = Repository(folder / "work"), folder / "origin.git", folder / "checkout"
        self.work.git("clone", "-q", "--bare", str(self.work.root), str(self.origin))
        self.work.git("clone", "-q", str(self.origin), str(self.checkout))
        port = free_block(10)
        names = {"AIRFLOW": 0, "MLFLOW": 5, "SERVICE": 6, "REPORTS": 7}
        self.environment = {f"AIRWORTHY_{n}_URL": f"http://127.0.0.1:{port + at}" for n, at in names.items()} | {
            "AIRWORTHY_VAR": str(folder / "var"),
            "AIRWORTHY_USE_CASES": USE_CASE,
            "AIRWORTHY_PIPELINE_REPOSITORY": f"file://{self.origin}",
            "AIRWORTHY_UV": releasing.find_uv(),
            "AIRWORTHY_DELIVERY_LOAD_REQUESTS": "40",
            "AIRWORTHY_READY_SECONDS": "900",
            # The clone's own code, with the libraries of this test.
            "AIRWORTHY_PROJECT_ROOT": str(self.checkout),
            "PYTHONPATH": str(self.checkout / "include"),
            "UV_COMPILE_BYTECODE": "0",  # a minute of both cores: what is imported is compiled then
        }

    def push(self, branch: str, revision: str) -> None:
        """What CI and people do: the tests of a revision passed, and it is on a branch."""
        self.work.attest(revision)
        self.work.git("push", "-q", str(self.origin), f"{revision}:refs/heads/{branch}", f"refs/tags/tested/{revision}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the platform's people, in the clone."""
        env = {n: v for n, v in os.environ.items() if not n.startswith(("AIRWORTHY_", "AIRFLOW"))} | self.environment
        command = [sys.executable, "-P", "-m", "airworthy.cli", *arguments]
        return subprocess.run(
            command, env=env | {"COLUMNS": "250"}, capture_output=True, text=True, check=False, timeout=1500,
            cwd=self.checkout,
        )  # fmt: skip

    def answer(self, run: str, option: str, why: str) -> httpx.Response:
        """An approver answers the question of a run."""
        settings = get_settings()
        # As nobody does within a second: Airflow would still take the end of the asking for the end of the task, and fail it.
        time.sleep(5)
        with httpx.Client(base_url=settings.airflow_url, timeout=60, trust_env=False) as client:
            who = {"username": "approver", "password": credentials.passwords(settings)["approver"]}
            token = client.post("/auth/token", json=who).json()["access_token"]
            return client.patch(
                f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails",
                json={"chosen_options": [option], "params_input": {"why": why}},
                headers={"Authorization": f"Bearer {token}"},
            )


def until(look: Callable[[], T | None], words: str, seconds: float = 1200) -> T:
    """What a look finds in the end; Airflow may be away meanwhile."""
    deadline, found = time.monotonic() + seconds, None
    while not (found := look()):
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s: {words}"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    # Not below pytest's own folder: another session of pytest closes that to others, and PostgreSQL is another user.
    folder = Path(tempfile.mkdtemp(prefix="aw-rel-", dir="/tmp"))
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_")]:
        del os.environ[name]
    built = Team(folder)
    os.environ |= {n: v for n, v in built.environment.items() if n not in ("PYTHONPATH", "AIRWORTHY_PROJECT_ROOT")}
    get_settings.cache_clear()
    use_cases.cache_clear()
    done = built.run("up")
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        get_settings.cache_clear()
        yield built
    finally:
        built.run("down")
        ledger_database.engine().dispose()
        os.environ.clear()
        os.environ.update(before)
        get_settings.cache_clear()
        use_cases.cache_clear()
        shutil.rmtree(folder / "var" / "pipeline" / "environments", ignore_errors=True)  # a gigabyte
        shutil.move(folder, tmp_path_factory.mktemp("release"))  # logs, for whoever looks into a failure


def asked(revision: str) -> str:
    """The run that took a revision, once it asks for approval."""

    def look() -> str | None:
        mine = [r for r in ledger.requests() if r.revision == revision]
        if not mine:
            return None
        run = mine[0].run.partition("/")[2]
        states = {t["task_id"]: t["state"] for t in AirflowApi().tasks(DAG, run)}
        assert "failed" not in states.values(), (states, AirflowApi().run(DAG, run)["note"])
        return run if states["approve"] == "awaiting_input" else None

    return until(look, f"revision {revision[:8]} asks for approval")


def ended(run: str) -> dict[str, Any]:
    """The run when it has ended, with its note; Airflow restarts meanwhile."""

    def look() -> dict[str, Any] | None:
        try:
            found = AirflowApi().run(DAG, run)
        except ServiceUnavailableError:
            return None
        return found if found["state"] in ("success", "failed") and found["note"] else None

    return until(look, f"{run} has ended")


@pytest.fixture(scope="module")
def pushed(team: Team) -> str:
    """A tested revision on ``main``, which makes a package of its own; the platform sees it by itself."""
    pyproject = (team.work.root / "pyproject.toml").read_text()
    revision = team.work.change("pyproject.toml", pyproject.replace('version = "0.1.0"', 'version = "0.2.0"', 1))
    team.push("main", revision)
    return revision


@pytest.fixture(scope="module")
def copied(team: Team, pushed: str) -> Release:
    """A model's release of another environment, taken in and delivered while the pipeline's is built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRWORTHY_RELEASE_URL", str(team.work.root.parent / "elsewhere"))
        patch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
        get_settings.cache_clear()
        use_cases.cache_clear()
        release = world.release(world.orders(), seed=1, version=7, known=False)
        folder = f"{get_settings().release_url}/releases/{release.digest}"
    get_settings.cache_clear()
    use_cases.cache_clear()
    done = team.run("import-release", "tiny_orders", folder)
    assert "tiny_orders.deliver was woken" in done.stdout
    until(lambda: promotions.champion("tiny_orders"), "the copied release is champion")
    return release


@pytest.fixture(scope="module")
def released(team: Team, pushed: str, copied: Release) -> str:
    """The push to ``main``, approved and switched to; the digest of its release."""
    run = asked(pushed)
    # It waits for a person: nothing was switched.
    assert (ledger.current(), ledger.switches()) == (None, [])
    answer = team.answer(run, "Approve", "it mends what the shop asked for")
    assert answer.status_code == 200, answer.text
    found = ended(run)
    assert found["state"] == "success", found["note"]
    (row,) = ledger.built()
    assert row.revision == pushed
    return row.digest


def assert_it_runs(digest: str, model: Release) -> None:
    """Every program runs from the release's folder, tasks start again, and the same model answers."""
    present = places.pointer().present
    assert (present.digest, places.strangers(present)) == (digest, "")
    assert {pool["slots"] > 0 for pool in AirflowApi().pools()} == {True}
    answer = httpx.post(f"{get_settings().service_url}/predict", json=world.ORDER, timeout=60, trust_env=False)
    assert (answer.status_code, model.digest[:12] in answer.text) == (200, True), answer.text


def test_a_copied_release_is_delivered_without_anybody_starting_it(team: Team, copied: Release) -> None:
    champion = promotions.champion("tiny_orders")
    assert champion is not None
    assert champion.digest == copied.digest
    (run,) = AirflowApi().runs("tiny_orders.deliver")
    run = AirflowApi().wait("tiny_orders.deliver", run["dag_run_id"])
    assert (run["run_type"], run["state"]) == ("asset_triggered", "success")


def test_its_staging_run_went_from_landed_files_to_an_answer_and_left_nothing(released: str) -> None:
    row = ledger.find_built(released)
    assert row is not None
    staged = Staged.model_validate(row.staged)
    case = staged.cases["tiny_orders"]
    assert staged.revision == row.revision
    assert case.decision == "pass", case.summary
    assert case.metrics["roc_auc"].low < case.metrics["roc_auc"].value < case.metrics["roc_auc"].high
    assert case.served["requests"] >= 40
    assert case.served["errors"] == 0
    assert list((get_settings().var / "pipeline" / "staging").iterdir()) == []
    with pg_tools.connect(get_settings().ledger_dsn) as connection:
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database")]
    assert [n for n in names if n.startswith(PREFIX)] == []


def test_a_push_to_main_is_what_runs_after_a_person_approved_it(team: Team, released: str, copied: Release) -> None:
    (request,) = ledger.requests()
    assert (request.state, request.target, request.digest) == ("released", "production", released)
    (switch,) = ledger.switches()
    assert (switch.state, switch.who, switch.from_digest, switch.to_digest) == ("switched", "approver", None, released)
    assert ledger.current() == released
    assert_it_runs(released, copied)
    # And it is told to people.
    assert "approver" in team.run("audit").stdout
    assert released[:12] in team.run("release", "list").stdout
    assert json.loads(team.run("release", "status").stdout)["runs"]["digest"] == released


def test_a_task_refuses_to_run_with_another_wheel_than_its_dags(released: str) -> None:
    # Given DAGs that were released with another wheel than the one that the worker imported.
    manifest = Path(places.pointer().present.root) / MANIFEST
    whole, api = manifest.read_text(), AirflowApi()
    form = {"use_case": "tiny_orders", "why": "the pager rings"}
    manifest.write_text(json.dumps(json.loads(whole) | {"code": "0" * 64}))
    try:
        run = api.trigger("platform.pause", form)
        found = api.wait("platform.pause", run)
    finally:
        manifest.write_text(whole)

    # Then the task is red, says what to do, and has done nothing.
    (task,) = api.tasks("platform.pause", run)
    assert (found["state"], task["state"]) == ("failed", "failed")
    log = api._send("GET", f"/api/v2/dags/platform.pause/dagRuns/{run}/taskInstances/pause/logs/1")
    assert "restart this worker on the release" in json.dumps(log)
    assert switches.paused("tiny_orders") is None
    # With its own it runs.
    assert api.wait("platform.pause", api.trigger("platform.pause", form))["state"] == "success"
    assert switches.paused("tiny_orders") is not None
    switches.resume("tiny_orders", "t", "it is over")


def test_a_release_whose_service_does_not_start_falls_back_by_itself(
    team: Team, released: str, copied: Release
) -> None:
    # Given a revision whose service starts in staging alone; the supervisor tries once, which takes seconds and not minutes.
    place = "include/airworthy/platform/supervisor.py"
    supervisor = (team.work.root / place).read_text()
    team.work.change(place, supervisor.replace("startretries=20", "startretries=0"))
    place = "include/airworthy/serving/__main__.py"
    service = (team.work.root / place).read_text()
    dead = 'if "AIRWORTHY_SERVING_STAGE" not in os.environ:\n    sys.exit("it is sick")\n'
    revision = team.work.change(place, service.replace("import uvicorn", f"{dead}import uvicorn", 1))
    team.push("other", revision)  # no branch that is watched: a person takes it
    done = team.run("release", "build", revision)
    assert done.returncode == 0, done.stdout + done.stderr
    (sick,) = [row.digest for row in ledger.built() if row.revision == revision]
    ledger.record_staged(sick, {})  # it would pass: the good push above shows such a run

    done = team.run("release", "switch", sick, "--why", "a bad day")

    # Then the switch says so, and what ran before runs.
    assert done.returncode == 1, done.stdout + done.stderr
    switch = ledger.switches()[-1]
    assert (switch.state, switch.from_digest, switch.to_digest) == ("fell_back", released, sick)
    for words in ("it is sick", "see `airworthy logs service`"):
        assert words in switch.reason
    assert ledger.current() == released
    assert_it_runs(released, copied)
    acts = [(row.action, row.subject, row.outcome) for row in audit.actions() if row.via == "shell"][-2:]
    assert acts == [
        ("build pipeline release", revision, f"release {sick[:12]}"),
        ("switch pipeline", sick, f"generation {switch.generation} did not get to run"),
    ]
