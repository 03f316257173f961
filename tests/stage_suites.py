"""Suites of later stages, given to a use case for one test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airworthy.config import UseCase


def give_suite(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, *expectations: dict[str, Any]) -> None:
    """Let a table, such as ``features/<view>``, have a suite; the others keep theirs."""
    own, path = UseCase.suite_path, folder / f"{name.replace('/', '-')}.json"
    path.write_text(json.dumps({"name": name, "expectations": expectations}))
    monkeypatch.setattr(UseCase, "suite_path", lambda case, table: path if table == name else own(case, table))


def between(column: str, low: float, high: float, severity: str = "critical") -> dict[str, Any]:
    """One expectation about a column's range."""
    kwargs = {"column": column, "min_value": low, "max_value": high}
    return {"type": "expect_column_values_to_be_between", "kwargs": kwargs, "severity": severity}


def matches(column: str, regex: str, severity: str = "critical") -> dict[str, Any]:
    """One expectation about a column's words."""
    kwargs = {"column": column, "regex": regex}
    return {"type": "expect_column_values_to_match_regex", "kwargs": kwargs, "severity": severity}
