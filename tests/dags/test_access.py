"""The table of docs/reference/access.md, rule by rule; over HTTP on a whole platform it is tests/e2e/test_who_may_do_what.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity as Entity
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

LADDER = ("viewer", "operator", "approver", "admin")
# (method, DAG, what of it) and the least role.
RULES = [
    (("GET", "x.deliver", Entity.RUN), "viewer"),
    (("GET", "x.rollback", Entity.XCOM), "viewer"),
    (("MENU", None, None), "viewer"),
    (("POST", "x.train", Entity.RUN), "operator"),
    (("POST", "x.deliver", Entity.RUN), "operator"),
    (("POST", "x.rollback", Entity.RUN), "operator"),
    (("POST", "platform.pause", Entity.RUN), "operator"),
    (("PUT", "x.train", None), "operator"),
    (("PUT", "x.ingest", Entity.TASK_INSTANCE), "operator"),
    (("POST", "platform.resume", Entity.RUN), "approver"),
    (("POST", "x.quarantine", Entity.RUN), "approver"),
    (("POST", "x.quarantine", Entity.TASK_INSTANCE), "approver"),
    (("PUT", "x.quarantine", Entity.RUN), "approver"),
    (("PUT", "x.deliver", Entity.HITL_DETAIL), "approver"),
    (("PUT", "x.train", Entity.HITL_DETAIL), "approver"),
    (("PUT", "x.deliver", Entity.RUN), "approver"),
    (("PUT", "x.deliver", Entity.TASK_INSTANCE), "approver"),
    (("PUT", "platform.release", Entity.TASK_INSTANCE), "approver"),
    (("POST", None, Entity.RUN), "approver"),
    (("PUT", None, Entity.TASK_INSTANCE), "approver"),
    (("POST", "x.deliver", Entity.XCOM), "admin"),
    (("PUT", "x.train", Entity.XCOM), "admin"),
    (("DELETE", "x.train", Entity.RUN), "admin"),
    (("DELETE", "x.train", None), "admin"),
    (("DELETE", "x.deliver", Entity.HITL_DETAIL), "admin"),
]


@pytest.fixture(scope="module")
def auth() -> Any:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "airflow"))
    import airworthy_auth

    yield airworthy_auth
    sys.path.pop(0)


@pytest.mark.parametrize(("asked", "least"), RULES, ids=str)
def test_who_has_less_than_the_role_of_the_table_is_refused(auth: Any, asked: Any, least: str) -> None:
    assert auth.needed(*asked).name.lower() == least
    allowed = [name for name in LADDER if auth.AirworthyAuthManager._has(_user(name), auth.needed(*asked))]
    assert allowed == list(LADDER[LADDER.index(least) :])


@pytest.mark.parametrize("role", [None, "", "nobody", "Admin "])
def test_a_role_that_there_is_not_may_not_even_look(auth: Any, role: str | None) -> None:
    assert not auth.AirworthyAuthManager._has(_user(role), auth.Role.VIEWER)


def _user(role: str | None) -> SimpleAuthManagerUser:
    return SimpleAuthManagerUser(username="u", role=role)
