"""After the story: no secret, and nothing of a wrong request, is in a log, XCom, artefact, report, metric or error body."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from airworthy.config import UseCase, get_settings
from airworthy.config.use_case import use_cases
from airworthy.platform import credentials

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]  # the story takes six minutes, and far more on a busy machine

# What the data itself is kept in, and the secrets' own place.
DATA = {"secrets", "pg", "lake", "landing", "spool", "backups"}
DATABASES = ("airflow", "ledger", "mlflow")
PLANTED, ASKED = "pl4nted-passw0rd-of-a-connection", "pl4nted-customer-zq7"


@pytest.fixture(scope="module")
def case(played: Any) -> UseCase:
    return next(iter(use_cases().values()))


@pytest.fixture(scope="module")
def shown(case: UseCase) -> dict[str, bytes]:
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
    found.update(files(settings.var))
    found.update((f"database {name}", rows) for name in DATABASES for rows in [content(name)])
    return found


def files(var: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(var.rglob("*")):
        place = path.relative_to(var)
        data = place.parts[0] in DATA or place.parts[:2] == ("releases", "training_sets")
        if path.is_file() and not path.is_symlink() and not data:
            yield str(place), path.read_bytes()


def content(database: str) -> bytes:
    """Every row of a database, as text."""
    parts = []
    with psycopg.connect(f"host={get_settings().socket_dir} user=postgres dbname={database}") as connection:
        names = connection.execute(
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        for (name,) in names:
            parts += [f"{name} {row}" for (row,) in connection.execute(f"SELECT row_to_json(t)::text FROM {name} t")]
    return "\n".join(parts).encode()


def secrets(folder: Path) -> dict[str, str]:
    found = {path.name: path.read_text().strip() for path in folder.iterdir() if path.name != "airflow_passwords.json"}
    return found | {
        f"password of {user}": p for user, p in json.loads((folder / "airflow_passwords.json").read_text()).items()
    }


def where(shown: dict[str, bytes], values: dict[str, str]) -> list[str]:
    return [
        f"{name} is in {place}"
        for name, value in values.items()
        for place, text in shown.items()
        if value.encode() in text
    ]


def test_no_secret_is_anywhere_but_in_its_own_file(shown: dict[str, bytes]) -> None:
    values = secrets(get_settings().var / "secrets") | {"a connection's password": PLANTED}
    assert len(values) >= 8
    assert all(len(value) >= 12 for value in values.values())
    assert where(shown, values) == []
    # The search finds what is there: what is no secret of the same request is.
    assert where(shown, {"the connection": "planted"}) != []
    assert any(place.startswith("logs/") for place in shown)


def test_what_a_wrong_request_holds_is_not_said_back_and_not_logged(shown: dict[str, bytes]) -> None:
    assert where(shown, {"the value": ASKED}) == []
