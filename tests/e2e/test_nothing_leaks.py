"""After the story: no secret, and nothing of a wrong request, is in a log, XCom, artefact, report, metric or error body."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from airworthy.config import UseCase, get_settings
from airworthy.config.use_case import use_cases
from airworthy.platform import credentials
from shown import secrets, shown, where

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]  # the story takes six minutes, and far more on a busy machine

PLANTED, ASKED = "pl4nted-passw0rd-of-a-connection", "pl4nted-customer-zq7"


@pytest.fixture(scope="module")
def case(played: Any) -> UseCase:
    return next(iter(use_cases().values()))


@pytest.fixture(scope="module")
def found(case: UseCase) -> dict[str, bytes]:
    """All that people may come to see: files, rows of databases, metrics, answers to wrong requests."""
    settings = get_settings()
    with httpx.Client(base_url=settings.airflow_url, timeout=60, trust_env=False) as admin:
        password = credentials.passwords(settings)["admin"]
        token = admin.post("/auth/token", json={"username": "admin", "password": password}).json()["access_token"]
        admin.headers["Authorization"] = f"Bearer {token}"
        made = admin.post(
            "/api/v2/connections",
            json={"connection_id": "planted", "conn_type": "postgres", "host": "db", "password": PLANTED},
        )
        assert made.status_code in (201, 409), made.text
        found = {"connections": admin.get("/api/v2/connections").content}
    example = case.prediction.example
    with httpx.Client(base_url=settings.service_url, timeout=60, trust_env=False) as client:
        for number, body in enumerate([
            {**example, "unknown": ASKED}, {**example, next(iter(example)): {"is": ASKED}}, {"requests": ASKED},
            {"requests": [{ASKED[:5]: ASKED}]}, {**example, **dict.fromkeys(example, ASKED)},
        ]):  # fmt: skip
            answer = client.post("/predict", json=body)
            assert 400 <= answer.status_code < 500, answer.text
            found[f"error {number}"] = answer.content
        found["metrics"] = client.get("/metrics").content
    return found | shown()


def test_no_secret_is_anywhere_but_in_its_own_file(found: dict[str, bytes]) -> None:
    values = secrets() | {"a connection's password": PLANTED}
    assert len(values) >= 8
    assert all(len(value) >= 12 for value in values.values())
    assert where(found, values) == []
    # The search finds what is there: what is no secret of the same request is.
    assert where(found, {"the connection": "planted"}) != []
    assert any(place.startswith("logs/") for place in found)


def test_what_a_wrong_request_holds_is_not_said_back_and_not_logged(found: dict[str, bytes]) -> None:
    assert where(found, {"the value": ASKED}) == []
