"""The reports' server: files of one folder, and nothing outside of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from airworthy.config import Settings
from airworthy.errors import ConfigurationError
from airworthy.platform import reports


@pytest.fixture
def client(tmp_path: Path) -> Any:
    root = tmp_path / "reports"
    (root / "docs" / "day").mkdir(parents=True)
    (root / "docs" / "index.html").write_text("<h1>Data Docs</h1>")
    (root / "docs" / "day" / "<b>.html").write_text("bold")
    (root / "drift 1.html").write_text("drift")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "way-out").symlink_to(tmp_path / "secret.txt")
    return TestClient(reports.create_app(root))  # type: ignore[arg-type]


def test_files_index_pages_and_listings(client: Any) -> None:
    assert client.get("/drift%201.html").text == "drift"
    assert "Data Docs" in client.get("/docs/").text
    assert "./drift%201.html" in client.get("/").text
    assert client.get("/docs/day", follow_redirects=False).headers["location"].endswith("/docs/day/")


def test_a_file_name_cannot_become_markup(client: Any) -> None:
    page = client.get("/docs/day/").text

    assert "<b>" not in page
    assert "&lt;b&gt;" in page


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/docs/%2e%2e/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "//etc/passwd",
        "/way-out",
        "/docs/%00",
        "/nothing",
    ],
)
def test_nothing_outside_is_served(client: Any, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 404
    assert "secret" not in answer.text.replace("secret.txt", "")


def test_it_only_reads(client: Any) -> None:
    assert client.post("/drift%201.html").status_code == 405
    assert client.delete("/drift%201.html").status_code == 405


def test_reports_on_an_object_store_are_not_served_here(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no local folder"):
        reports.folder(Settings(var=tmp_path, docs_url="s3://bucket/reports"))
