"""The whole platform, switched to a release of its own code by its own DAG; and back, interrupted at every step."""

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
from typing import Any

import pytest

from airworthy.config import get_settings
from airworthy.ledger import pipeline_releases as ledger
from airworthy.ledger.database import engine
from airworthy.platform import processes, releasing, switching
from airworthy.platform.airflow_api import ENDED, AirflowApi
from airworthy.platform.releasing import PipelineRelease
from pipeline_repository import Repository
from ports import free_block

pytestmark = pytest.mark.timeout(2400)
RELEASE, HOUSEKEEPING = "platform.release", "platform.housekeeping"


class Platform:
    """A platform that runs from this checkout, and the repository that its releases come from."""

    def __init__(self, folder: Path) -> None:
        port = free_block(20)
        names = {"AIRFLOW": port, "MLFLOW": port + 10, "SERVICE": port + 11, "REPORTS": port + 12}
        self.environment = {f"AIRWORTHY_{n}_URL": f"http://127.0.0.1:{p}" for n, p in names.items()} | {
            "AIRWORTHY_VAR": str(folder / "var"),
            "AIRWORTHY_PIPELINE_REPOSITORY": str(folder / "repository"),
            "AIRWORTHY_DRAIN_SECONDS": "400",
            "UV_COMPILE_BYTECODE": "0",  # a minute that no test needs
            "AIRWORTHY_DELIVERY_LOAD_REQUESTS": "40",
            "AIRWORTHY_USE_CASES": "tiny_orders",
            "PYTHONPATH": str(folder / "use_cases"),
        }
        self.repository = Repository(folder / "repository")
        # Its small use case, found from the checkout and from every release.
        small = self.repository.root / "include" / "use_cases" / "tiny_orders"
        shutil.copytree(small, folder / "use_cases" / "tiny_orders")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        env = {n: v for n, v in os.environ.items() if not n.startswith(("AIRWORTHY_", "AIRFLOW"))} | self.environment
        command = [sys.executable, "-P", "-m", "airworthy.cli", *arguments]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        words, _ = process.communicate(timeout=900)
        return process.returncode, words

    def release(self, revision: str) -> PipelineRelease:
        """A release of a revision; that it passed its staging run is only said here (``test_releasing`` runs it)."""
        self.repository.attest(revision)
        made = releasing.build(revision)
        ledger.record_staged(made.digest, {})
        return made

    def roots(self) -> set[str]:
        """Where the programs run from."""
        found = [p.environ() for p in processes.belonging(get_settings())]
        return {e["AIRWORTHY_PROJECT_ROOT"] for e in found if e.get(processes.PROGRAM)}


def eventually(check: Callable[[], Any], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    top = Path(tempfile.mkdtemp(prefix="aw", dir="/tmp"))
    patch = pytest.MonkeyPatch()
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_")]:
        patch.delenv(name)
    built = Platform(top)
    for name, value in built.environment.items():
        patch.setenv(name, value)
    get_settings.cache_clear()
    status, words = built.run("up")
    if status:  # a machine with other work to do: what is missing yet is started
        status, words = built.run("up")
    if status:
        built.run("down")
        pytest.fail(words)
    get_settings.cache_clear()
    yield built
    engine().dispose()
    built.run("down")
    patch.undo()
    get_settings.cache_clear()
    shutil.rmtree(top, ignore_errors=True)


def test_a_push_to_main_is_tried_approved_and_runs(platform: Platform) -> None:
    """A task that runs meanwhile ends as if nothing happened; one that is asked for meanwhile runs on the new release."""
    api, approver = AirflowApi(), AirflowApi(user="approver")
    eventually(lambda: {RELEASE, HOUSEKEEPING} <= {d["dag_id"] for d in api.dags()})
    pools = {p["name"]: p["slots"] for p in api.pools()}
    for dag in (RELEASE, HOUSEKEEPING):
        api.unpause(dag)
    team = platform.repository
    revision = team.git("rev-parse", "HEAD")
    team.git("branch", "-m", "develop", "main")

    team.attest(revision)

    eventually(lambda: api.runs(RELEASE), 120)
    (run,) = api.runs(RELEASE)
    eventually(lambda: state_of(api, run, "approve") == "awaiting_input" or failed(api, run), 900)
    assert state_of(api, run, "approve") == "awaiting_input", ledger.requests()[-1].reason
    assert ledger.switches() == []  # nothing without a person's word
    meanwhile = api.trigger(HOUSEKEEPING)
    eventually(api.running_tasks)
    approver.answer(RELEASE, run["dag_run_id"], "approve", "Approve")
    ended = api.wait(RELEASE, run["dag_run_id"], timeout_s=600)

    log = (get_settings().var / "logs" / "switch.log").read_text()
    assert ended["state"] == "success", log
    assert ended["note"].startswith("released: release ")
    (switch,) = ledger.switches()
    (made,) = ledger.built()
    assert (switch.state, switch.to_digest, switch.who) == ("switched", made.digest, "approver")
    assert (made.revision, ledger.current()) == (revision, made.digest)
    assert [(r.target, r.state) for r in ledger.requests()] == [("production", "released")]
    assert platform.roots() == {str(releasing.read(made.digest).folder)}
    assert {p["name"]: p["slots"] for p in api.pools()} == pools
    assert api.wait(HOUSEKEEPING, meanwhile)["state"] == "success"
    tries = {t["try_number"] for t in api.tasks(HOUSEKEEPING, meanwhile) if t["state"] == "success"}
    assert tries == {1}
    # The DAGs and the package of the release work together: no task refuses.
    assert api.wait(HOUSEKEEPING, api.trigger(HOUSEKEEPING))["state"] == "success"


def state_of(api: AirflowApi, run: dict[str, Any], task: str) -> str | None:
    return {t["task_id"]: t["state"] for t in api.tasks(RELEASE, run["dag_run_id"])}.get(task)


def failed(api: AirflowApi, run: dict[str, Any]) -> bool:
    return bool(api.run(RELEASE, run["dag_run_id"])["state"] in ENDED)


def test_while_a_switch_goes_on_nobody_else_starts_or_stops_the_platform(platform: Platform) -> None:
    with switching._alone() as lock:
        assert lock is not None
        for name in ("up", "down"):
            status, words = platform.run(name)
            assert status == 1
            assert "being switched" in words


def test_a_switch_that_is_killed_at_every_step_is_finished_and_falls_back_when_unhealthy(platform: Platform) -> None:
    before = ledger.current()
    assert before
    path = "include/airworthy/platform/migrations.py"
    text = (platform.repository.root / path).read_text()
    broken = text.replace("    migrate()\n", '    raise RuntimeError("a broken migration")\n', 1)
    assert broken != text
    bad = platform.release(platform.repository.change(path, broken))
    generation = switching.ask(bad, who="t", why="a test")

    reached = [kill_at(platform, step) for step in ("drain", "stop", "start", "back")]
    status, words = platform.run("up")

    assert reached == ["drain", "stop", "start", "back"]
    assert status == 0, words
    assert "a switch of the release was interrupted" in words
    row = ledger.find_switch(generation)
    assert row is not None
    assert row.state == "fell_back"
    assert "a broken migration" in row.reason
    assert ledger.current() == before
    assert switching.journal() is None
    assert platform.roots() == {str(releasing.read(before).folder)}
    status, words = platform.run("release", "status")
    assert status == 0
    assert json.loads(words)["runs"]["digest"] == before


def kill_at(platform: Platform, step: str) -> str:
    """Carry the switch on until it is at a step, then end the process that does it; returns the step that it died at."""
    eventually(lambda: not switching.is_going_on())  # a command that an earlier one began may still run
    process = platform.start("release", "resume")

    def there() -> bool:
        now = switching.journal()
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        return now is not None and now.step == step

    try:
        eventually(there, 400)
    finally:
        process.kill()
        process.wait()
    now = switching.journal()
    return now.step if now else ""
