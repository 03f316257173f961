"""A task's entry: with another package than its DAG's nothing runs, and it is tried again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time.context import set_current_context

from airworthy.platform.code_identity import OtherWheelError


def enter(dag_file: Path) -> list[str]:
    from airworthy_tasks import outcomes

    ran = []
    run = SimpleNamespace(run_type="scheduled")
    context = {"dag": SimpleNamespace(fileloc=str(dag_file)), "dag_run": run}
    with set_current_context(context), outcomes():
        ran.append("the body")
    return ran


def test_the_dags_of_this_checkout_run() -> None:
    assert enter(Path(__file__).resolve().parents[2] / "dags" / "train.py") == ["the body"]


@pytest.mark.parametrize("code", ["0" * 64, ""])
def test_dags_that_were_released_with_another_wheel_do_not(tmp_path: Path, code: str) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps({"code": code}))

    with pytest.raises(OtherWheelError, match="restart this worker"):
        enter(tmp_path / "dags" / "train.py")


def test_an_action_by_hand_is_refused_too_and_leaves_no_row(tmp_path: Path) -> None:
    from airworthy_tasks import action

    (tmp_path / "dags").mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps({"code": "0" * 64}))
    context = {"dag": SimpleNamespace(fileloc=str(tmp_path / "dags" / "rollback.py")), "dag_run": None}
    with (
        set_current_context(context),
        pytest.raises(OtherWheelError),
        action("rollback", "flights", "a release", "why"),
    ):
        pytest.fail("the body ran")
