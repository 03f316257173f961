"""A task's entry: with another package than its DAG's nothing runs, and it is tried again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.context import set_current_context

from airworthy.config import Settings
from airworthy.errors import StaleVerdictError
from airworthy.ledger.audit import actions
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


def test_what_a_person_asked_for_and_others_forestalled_is_red_and_a_stage_is_skipped(platform_env: Settings) -> None:
    from airworthy_tasks import action, outcomes

    said: dict[str, str] = {}
    task = SimpleNamespace(xcom_push=lambda key, value: said.update({key: value}))
    run = SimpleNamespace(
        run_type="asset_triggered", dag_id="orders.rollback", run_id="manual__1", triggering_user_name="ada",
    )  # fmt: skip
    file = Path(__file__).resolve().parents[2] / "dags" / "rollback.py"
    context = {"dag": SimpleNamespace(fileloc=str(file)), "dag_run": run, "ti": task}
    stale = StaleVerdictError("another release became champion", next_step="look")
    with set_current_context(context):
        with pytest.raises(AirflowFailException), action("rollback", "orders", "the one before", "why not"):
            raise stale
        assert said == {"note": "another release became champion"}
        with pytest.raises(AirflowSkipException), outcomes():
            raise stale
    (kept,) = actions("orders")
    assert (kept.who, kept.action) == ("ada", "rollback")
