"""The approval in ``platform.release``: silence is a no, and an answer of either kind reaches the task that writes it down."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tasks() -> Any:
    sys.path.insert(0, str(ROOT / "plugins"))
    spec = importlib.util.spec_from_file_location("release_of_the_pipeline", ROOT / "dags" / "release.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found.dag.task_dict


def test_silence_is_a_no_and_every_answer_reaches_the_switch(tasks: Any) -> None:
    approve = tasks["approve"]
    assert (approve.defaults, approve.retries, approve.response_timeout) == (["Reject"], 0, timedelta(days=1))
    assert approve.downstream_task_ids == {"switch"}
    assert tasks["outcome"].trigger_rule == "all_done"


@pytest.mark.parametrize("option", ["Approve", "Reject"])
def test_an_answer_is_handed_on_and_skips_nothing_by_itself(tasks: Any, option: str) -> None:
    event = {
        "chosen_options": [option], "params_input": {"why": "because"},
        "responded_at": datetime(2026, 1, 1, tzinfo=UTC), "responded_by_user": {"id": "1", "name": "ada"},
    }  # fmt: skip
    # Without a context: Airflow's own operator would need one to skip what follows a no.
    answer = tasks["approve"].execute_complete({}, event)
    assert (answer["chosen_options"], answer["responded_by_user"]["name"]) == ([option], "ada")
