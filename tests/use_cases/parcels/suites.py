"""Suites and rows made for one test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airworthy.config import UseCase, load_use_case
from airworthy.ingest.schemas import raw_schema


def with_suite(tmp_path: Path, expectations: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the parcels' source have these expectations."""
    path = tmp_path / "suite.json"
    path.write_text(json.dumps({"name": "test", "expectations": expectations}))
    monkeypatch.setattr(UseCase, "suite_path", lambda self, table: path)


def one(name: str, /, severity: str = "warning", **kwargs: Any) -> dict[str, Any]:
    """One expectation as it stands in a suite file."""
    return {"type": name, "kwargs": kwargs, "severity": severity, "meta": {}}


def raw(**columns: list[object]) -> pa.Table:
    """Rows of the parcels' raw table, unnamed columns empty."""
    schema = raw_schema(load_use_case("parcels").sources["parcels"])
    size = len(next(iter(columns.values())))
    return pa.table([pa.array(columns.get(f.name, [None] * size), f.type) for f in schema], schema=schema)
