"""A person approves, rejects, or says nothing, through the real Airflow: what comes of it is on file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airworthy.config import UseCase
from airworthy.ledger import audit, deliveries, promotions
from airworthy.platform.airflow_api import AirflowApi
from whole_platform import CASES, whole_platform

from ..serving import world  # noqa: TID252 - one small world for both

pytestmark = pytest.mark.timeout(1800)

NAME, DAG, HOUSEKEEPING = "tiny_orders", "tiny_orders.deliver", "platform.housekeeping"
MANUAL = """  approval: manual
  approval_hours: 0.03 # 108 seconds
"""


class Desk:
    """The one who is asked."""

    def __init__(self, case: UseCase) -> None:
        self.case, self.api = case, AirflowApi()

    def delivered(self, seed: int, decide: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Trigger a delivery of a new challenger, decide when asked, and wait for the run's end."""
        champion = promotions.champion(NAME)
        world.release(self.case, seed=seed, version=seed, against=champion.digest if champion else None)
        run = self.api.trigger(DAG)
        decide(self.question(run))
        return self.api.wait(DAG, run, timeout_s=300)

    def question(self, run: str) -> dict[str, Any]:
        """The open question of a run."""
        deadline = time.monotonic() + 300
        path = f"/api/v2/dags/{DAG}/dagRuns/{run}"
        while "awaiting_input" not in {t["state"] for t in self.api.tasks(DAG, run) if t["task_id"] == "approve"}:
            found = self.api.run(DAG, run)
            assert found["state"] not in ("success", "failed"), f"ended without a question: {found['note']}"
            assert time.monotonic() < deadline, self.api.tasks(DAG, run)
            time.sleep(0.3)
        return dict(self.api._send("GET", f"{path}/hitlDetails")["hitl_details"][0]) | {"run": run}

    def answer(self, question: dict[str, Any], option: str, why: str) -> None:
        """Answer it over Airflow's API, as its page does."""
        # As nobody does within a second: Airflow would still take the end of the asking for the end of the task, and fail it.
        time.sleep(5)
        path = f"/api/v2/dags/{DAG}/dagRuns/{question['run']}/taskInstances/approve/-1/hitlDetails"
        self.api._send("PATCH", path, {"chosen_options": [option], "params_input": {"why": why}})


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The platform, up, with the tiny shop on it, whose deliveries ask a person."""
    cases = tmp_path_factory.mktemp("cases")
    shutil.copytree(CASES / NAME, cases / NAME)
    with (cases / NAME / "use_case.yaml").open("a") as file:
        file.write(MANUAL)
    with whole_platform(NAME, cases, AIRWORTHY_DELIVERY_LOAD_REQUESTS="20"):
        made = Desk(world.orders())
        # Airflow makes up for last night's housekeeping, which wakes deliveries of challengers that wait: not beside the tests.
        deadline = time.monotonic() + 300
        while not (states := {run["state"] for run in made.api.runs(HOUSEKEEPING)}) or states - {"success", "failed"}:
            assert time.monotonic() < deadline, made.api.runs(HOUSEKEEPING)
            time.sleep(0.3)
        made.api._send("PATCH", f"/api/v2/dags/{HOUSEKEEPING}", {"is_paused": True})
        made.api.unpause(DAG)
        yield made


def test_what_is_approved_is_delivered_and_says_by_whom(desk: Desk) -> None:
    asked: list[dict[str, Any]] = []

    def approve(question: dict[str, Any]) -> None:
        asked.append(question)
        desk.answer(question, "Approve", "I looked at the card")

    run = desk.delivered(1, approve)

    assert run["state"] == "success", run
    assert str(run["note"]).startswith("done: "), run["note"]
    assert "Deliver version 1" in asked[0]["subject"]
    assert "ROC AUC 0.800, at least 0.600" in asked[0]["body"]
    (row,) = promotions.promotion_log(NAME)
    assert (row.action, row.who) == ("promote", "admin")
    approval = [a for a in audit.actions(NAME) if a.action == "approve delivery"]
    assert [(a.who, a.why, a.via) for a in approval] == [("admin", "I looked at the card", "airflow")]


def test_what_is_rejected_is_refused_and_the_run_says_so(desk: Desk) -> None:
    champion = promotions.champion(NAME)
    run = desk.delivered(2, lambda question: desk.answer(question, "Reject", "not on a Friday"))
    assert run["state"] == "success", run
    assert "refused: rejected by admin: not on a Friday" in str(run["note"])
    assert deliveries.deliveries(NAME)[-1].state == "refused"
    assert promotions.champion(NAME) == champion
    states = {t["task_id"]: t["state"] for t in desk.api.tasks(DAG, run["dag_run_id"])}
    assert states == {
        "stage": "success",
        "approve": "success",
        "trial": "skipped",
        "promote": "skipped",
        "watch": "skipped",
    }


def test_nobody_answers_and_that_is_a_no(desk: Desk) -> None:
    champion = promotions.champion(NAME)
    run = desk.delivered(3, lambda question: None)
    assert "refused: nobody approved it" in str(run["note"])
    assert deliveries.deliveries(NAME)[-1].state == "refused"
    assert promotions.champion(NAME) == champion
