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
        champion, before = promotions.champion(NAME), {run["dag_run_id"] for run in self.api.runs(DAG)}
        world.release(self.case, seed=seed, version=seed, against=champion.digest if champion else None)
        self.api.trigger(DAG)
        asked = self.question(before)
        decide(asked)
        return self.api.wait(DAG, asked["run"], timeout_s=300)

    def question(self, before: set[str]) -> dict[str, Any]:
        """The open question of a run that is new: of ours, or of another one that was woken and took the challenger first."""
        deadline = time.monotonic() + 300
        while True:
            new = [run for run in self.api.runs(DAG) if run["dag_run_id"] not in before]
            for each in new:
                run = each["dag_run_id"]
                found = self.api._send("GET", f"/api/v2/dags/{DAG}/dagRuns/{run}/hitlDetails")["hitl_details"]
                if found:
                    return self._asked(run, found[0], deadline)
            states = [(run["dag_run_id"], run["run_type"], run["state"], run["note"]) for run in new]
            assert not new or {run["state"] for run in new} - {"success", "failed"}, (
                f"they ended without a question: {states}"
            )
            assert time.monotonic() < deadline, f"no question yet: {states}"
            time.sleep(0.3)

    def _asked(self, run: str, question: dict[str, Any], deadline: float) -> dict[str, Any]:
        while "awaiting_input" not in {t["state"] for t in self.api.tasks(DAG, run) if t["task_id"] == "approve"}:
            assert time.monotonic() < deadline, self.api.tasks(DAG, run)
            time.sleep(0.3)
        return question | {"run": run}

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
        # It wakes deliveries of challengers that wait, and would ask in a run of its own.
        while HOUSEKEEPING not in {dag["dag_id"] for dag in made.api.dags()}:
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
