"""Quarantine: rejected rows in a table beside the clean one, rejected files as they came, each with the reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from airworthy.config import UseCase, get_settings
from airworthy.intervals import Interval
from airworthy.lake import landing, tables

FILES = "_quarantine_files"
REASON = "reason.json"

SCHEMA = pa.schema(
    [
        pa.field("row", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("file", pa.string()),
        pa.field("digest", pa.string()),
    ]
)
"""Columns of a quarantine table: the row as JSON, why it is here, the landed file, SHA-256 of the row."""


def keep_rows(
    rows: pa.Table, reasons: Sequence[str], *, file: str, texts: Sequence[Mapping[str, str]] | None = None
) -> pa.Table:
    """Rejected rows in the form of a quarantine table.

    Args:
        rows: The rows, typed as raw.
        reasons: Why, for each row.
        file: Name of the landed file.
        texts: For each row the fields that could not be typed, as they stand in the file.

    Returns:
        A table of ``SCHEMA`` with one row for each row given.
    """
    kept = []
    for number, values in enumerate(rows.to_pylist()):
        plain = {name: _plain(value) for name, value in values.items()}
        plain.update(texts[number] if texts else {})
        text = json.dumps(plain, ensure_ascii=False)
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
        kept.append({"row": text, "reason": reasons[number], "file": file, "digest": digest})
    return pa.Table.from_pylist(kept, schema=SCHEMA)


def read_rows(use_case: UseCase, source: str, first: Interval | None = None, last: Interval | None = None) -> pa.Table:
    """Rows in quarantine of a source from the first to the last interval (all when not given)."""
    return tables.read(use_case.table("quarantine", source), first, last)


def keep_file(
    use_case: UseCase,
    interval: Interval,
    landed_digest: str,
    source: str,
    *,
    file: str,
    content: bytes | None,
    record: Mapping[str, Any],
) -> str:
    """Keep a rejected file with the reason beside it; returns the URL of the folder.

    Args:
        use_case: The use case.
        interval: The interval.
        landed_digest: Digest of the delivery that was rejected.
        source: The source.
        file: Name of the file, a plain name.
        content: Its bytes; None when there was none.
        record: Why, as JSON values.
    """
    where = _folder(use_case, interval, landed_digest, source)
    if content is not None:
        landing.write_file(where, file, content)
    landing.write_file(where, REASON, json.dumps({"file": file, **record}, indent=1, default=str).encode())
    return where


def read_reason(use_case: UseCase, interval: Interval, landed_digest: str, source: str) -> dict[str, Any] | None:
    """Why a source's file of a delivery was rejected, as kept; None when it was not."""
    content = landing.read_bytes(f"{_folder(use_case, interval, landed_digest, source)}/{REASON}")
    return None if content is None else json.loads(content)


def read_file(use_case: UseCase, interval: Interval, landed_digest: str, source: str) -> bytes | None:
    """The bytes of a rejected file, as they were landed; None when none is kept."""
    reason = read_reason(use_case, interval, landed_digest, source)
    return (
        landing.read_bytes(f"{_folder(use_case, interval, landed_digest, source)}/{reason['file']}") if reason else None
    )


def files_folder(use_case: UseCase, interval: Interval, landed_digest: str) -> str:
    """URL of the folder that keeps the rejected files of a delivery, a folder for each source."""
    return f"{get_settings().lake_url}/{FILES}/{use_case.name}/{interval.key}/{landed_digest[:12]}"


def _folder(use_case: UseCase, interval: Interval, landed_digest: str, source: str) -> str:
    return f"{files_folder(use_case, interval, landed_digest)}/{source}"


def _plain(value: object) -> object:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
