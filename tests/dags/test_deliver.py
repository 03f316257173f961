"""The approval in ``.deliver``: asked of a person or of nobody, never twice, and its answer is always written down."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airworthy.config import UseCase, load_use_case

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def module() -> Any:
    sys.path.insert(0, str(ROOT / "plugins"))
    spec = importlib.util.spec_from_file_location("deliver_of_orders", ROOT / "dags" / "deliver.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def case(approval: str) -> UseCase:
    orders = load_use_case("tiny_orders")
    wanted = {"approval": approval, "approval_hours": 2.0}
    return orders.model_copy(update={"delivery": orders.delivery.model_copy(update=wanted)})


def test_silence_is_a_no_a_question_is_asked_once_and_every_answer_reaches_the_trial(module: Any) -> None:
    tasks = module.build(case("manual")).task_dict
    approve = tasks["approve"]
    assert (approve.defaults, approve.retries, approve.response_timeout) == (["Reject"], 0, timedelta(hours=2))
    # With another rule a rejection, a time-out or a failure of the question would end silently.
    assert tasks["trial"].trigger_rule == "all_done"
    order = ["stage", "approve", "trial", "promote", "watch"]
    assert all(later in tasks[earlier].downstream_task_ids for earlier, later in itertools.pairwise(order))


def test_by_policy_auto_nobody_is_asked(module: Any) -> None:
    assert module.build(case("auto")).task_dict["approve"].execute({}) is None


@pytest.mark.parametrize("option", ["Approve", "Reject"])
def test_an_answer_is_handed_on_and_skips_nothing_by_itself(module: Any, option: str) -> None:
    approve = module.build(case("manual")).task_dict["approve"]
    event = {
        "chosen_options": [option], "params_input": {"why": "because"},
        "responded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "responded_by_user": {"id": "1", "name": "ada"},
    }  # fmt: skip
    answer = approve.execute_complete({}, event)
    assert (answer["chosen_options"], answer["responded_by_user"]["name"]) == ([option], "ada")
