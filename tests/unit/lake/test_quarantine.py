"""Quarantine keeps rejected rows and files whole, with the reason."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from airworthy.config import get_settings, load_use_case
from airworthy.intervals import Interval
from airworthy.lake import quarantine

DAY = Interval.of("2013-11-05")


def test_rows_are_kept_as_json_with_reason_file_and_digest() -> None:
    at = datetime(2013, 11, 5, 4, 30, tzinfo=UTC)
    rows = pa.table({"name": ["Zoë", "b"], "n": [None, 3], "at": pa.array([at, None], pa.timestamp("us", "UTC"))})
    kept = quarantine.keep_rows(rows, ["no n", "gap"], file="f.csv", texts=[{}, {"at": "2013-03-10 02:30"}])
    assert kept.schema == quarantine.SCHEMA
    first, second = kept.to_pylist()
    assert json.loads(first["row"]) == {"name": "Zoë", "n": None, "at": "2013-11-05T04:30:00Z"}
    assert json.loads(second["row"])["at"] == "2013-03-10 02:30"
    assert (first["reason"], second["reason"], first["file"]) == ("no n", "gap", "f.csv")
    assert first["digest"] == hashlib.sha256(json.dumps(json.loads(first["row"]), sort_keys=True).encode()).hexdigest()


def test_no_rejected_rows_are_an_empty_table() -> None:
    assert quarantine.keep_rows(pa.table({"a": pa.array([], pa.string())}), [], file="f").schema == quarantine.SCHEMA


def test_a_file_is_read_back_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRWORTHY_VAR", str(tmp_path))
    get_settings.cache_clear()
    use_case = load_use_case("parcels")
    where = quarantine.keep_file(
        use_case, DAY, "ab" * 32, "parcels", file="p.csv", content=b"\xff\x00", record={"x": 1}
    )
    quarantine.keep_file(use_case, DAY, "ab" * 32, "depots", file="d.jsonl", content=None, record={})
    assert where.startswith(quarantine.files_folder(use_case, DAY, "ab" * 32))
    assert quarantine.read_file(use_case, DAY, "ab" * 32, "parcels") == b"\xff\x00"
    assert quarantine.read_reason(use_case, DAY, "ab" * 32, "parcels") == {"file": "p.csv", "x": 1}
    assert quarantine.read_file(use_case, DAY, "ab" * 32, "depots") is None
    assert quarantine.read_reason(use_case, DAY, "cd" * 32, "parcels") is None
    get_settings.cache_clear()
