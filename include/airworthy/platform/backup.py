"""Backup: ledger, registries, lake, releases and MLflow's artifacts, as of one moment of the ledger.

The ledger comes first, in one snapshot. A commit's data are in the lake before its ledger row is written, so every row
of that snapshot finds its data in a copy that is made afterwards; and what was committed after it is left out, table by
table, by the version that the snapshot knows. Not in a backup: the landing zone (upstream's), reports and logs
(derived), the online store (published again from the feature tables), secrets.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airworthy.config import Settings, get_settings
from airworthy.config.use_case import use_cases
from airworthy.errors import ConfigurationError
from airworthy.lake import tables
from airworthy.lake.landing import filesystem
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import exclusive
from airworthy.platform import environment, forgotten_journal, pg_tools, postgres
from airworthy.platform.every_table import table_schemas
from airworthy.records import Record

MANIFEST = "backup.json"
CHUNK = 1 << 22
KEEP = 7
LOG_ENTRY = re.compile(r"/_delta_log/(\d{20})\.(json|checkpoint.*\.parquet)$")
Say = Callable[[str], None]


class Backup(Record):
    """What one backup holds.

    Attributes:
        at: Wall time of the snapshot of the ledger: the recovery point.
        counts: Rows by database and table.
        versions: Newest Delta version of each table in the copy.
        files: Size and SHA-256 of each file, by its path in the backup.
        release_url: Where releases and training sets were, for the addresses in the ledger.
    """

    at: datetime
    counts: dict[str, dict[str, int]]
    versions: dict[str, int]
    files: dict[str, tuple[int, str]]
    release_url: str
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Name of its folder: the moment."""
        return f"{self.at:%Y%m%dT%H%M%S.%fZ}"


def databases(settings: Settings, *, with_airflow: bool = False) -> dict[str, str]:
    """The databases of a backup, name to URL; MLflow's and Airflow's of another server are in their own variables."""
    found = {"ledger": settings.ledger_dsn, "feast": settings.feast_registry_dsn}
    others = {"mlflow": "MLFLOW_BACKEND_STORE_URI"} | (
        {"airflow": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"} if with_airflow else {}
    )
    for name, variable in others.items():
        if given := os.environ.get(variable):
            found[name] = given
        elif postgres.is_embedded(settings):
            found[name] = environment.database_url(settings, name, "psycopg")
    return found


def folders(settings: Settings) -> dict[str, str]:
    """The folders of a backup, name in the backup to URL."""
    return {
        "spool": str(settings.spool), "lake": settings.lake_url, "releases": settings.release_url,
        "mlartifacts": os.environ.get("MLFLOW_ARTIFACTS_DESTINATION", str(settings.var / "mlartifacts")),
    }  # fmt: skip


def backup(
    to: str = "", *, with_airflow: bool = False, keep: int = KEEP, say: Say = lambda _: None
) -> tuple[str, Backup]:
    """Make a backup beside those that are there, then drop the oldest ones.

    Args:
        to: Folder or object-store URL of the backups; ``AIRWORTHY_BACKUP_URL`` by default.
        with_airflow: Airflow's database too.
        keep: So many backups stay, none of them longer than ``AIRWORTHY_KEEP_DAYS`` but for the newest.
        say: Told what happens.

    Returns:
        URL of the backup, and what it holds.

    Raises:
        ServiceUnavailableError: a database does not answer, or the disk is full; a backup without its manifest is none.
    """
    settings = get_settings()
    root = (to or settings.backup_url).rstrip("/")
    started = wall_now()
    # Nobody removes files of old versions while they are copied.
    with exclusive("housekeeping", ""), tempfile.TemporaryDirectory() as scratch:
        counts: dict[str, dict[str, int]] = {}
        pins: dict[str, int] = {}
        for name, dsn in databases(settings, with_airflow=with_airflow).items():
            with pg_tools.snapshot(dsn) as (snapshot, connection):
                counts[name] = pg_tools.counts(connection)
                if name == "ledger":
                    at = wall_now()
                    pins = _versions(connection)
                pg_tools.dump(dsn, snapshot, Path(scratch) / f"{name}.dump")
            say(f"dumped {name}: {sum(counts[name].values())} rows")
        made = Backup(at=at, counts=counts, versions={}, files={}, release_url=settings.release_url)
        target = f"{root}/{made.name}"
        files = _copy(scratch, f"{target}/databases", "databases")
        for name, url in folders(settings).items():
            copied = _copy(url, f"{target}/{name}", name, pins if name == "lake" else {})
            files |= copied
            say(f"copied {name}: {len(copied)} files, {sum(size for size, _ in copied.values()) / 1e6:.1f} MB")
    seconds = (wall_now() - started).total_seconds()
    made = made.model_copy(update={"files": files, "versions": pins, "seconds": seconds})
    fs, path = filesystem(target)
    fs.pipe_file(f"{path}/{MANIFEST}", json.dumps(made.to_json()).encode())
    forgotten_journal.note_all(root)
    for old in _expired(root, keep):
        fs.rm(filesystem(old)[1], recursive=True)
        say(f"removed {old}")
    return target, made


def _expired(root: str, keep: int) -> list[str]:
    """All but the newest ``keep``, and those older than ``AIRWORTHY_KEEP_DAYS``; the newest always stays."""
    found = backups(root)
    oldest = wall_now() - timedelta(days=get_settings().keep_days)
    return [
        url for number, url in enumerate(found[:-1]) if number < len(found) - keep or read_manifest(url).at < oldest
    ]


def kept_until(root: str = "") -> str:
    """When the newest backup of now will have gone, UTC, as long as one is made each day; empty without a backup."""
    found = backups(root)
    if not found:
        return ""
    return (read_manifest(found[-1]).at + timedelta(days=get_settings().keep_days)).isoformat(timespec="minutes")


def _versions(connection: Any) -> dict[str, int]:
    """Delta version of each table that belongs to a snapshot of the ledger.

    A table whose commits are not in the ledger (the prediction log keeps its own account) counts as it is now.
    """
    known = dict(connection.execute("SELECT table_name, max(data_version) FROM table_commit GROUP BY 1").fetchall())
    for use_case in use_cases().values():
        for name in table_schemas(use_case):
            if name not in known:
                known[name] = int(tables.open_table(name).version())
    return known


def backups(root: str = "") -> list[str]:
    """URLs of the complete backups, oldest first."""
    fs, path = filesystem((root or get_settings().backup_url).rstrip("/"))
    if not fs.exists(path):
        return []
    names = sorted(str(found).rstrip("/") for found in fs.ls(path, detail=False))
    return [str(fs.unstrip_protocol(name)).removeprefix("file://") for name in names if fs.exists(f"{name}/{MANIFEST}")]


def read_manifest(url: str) -> Backup:
    """What a backup holds. Raises ConfigurationError when there is no complete backup."""
    fs, path = filesystem(url.rstrip("/"))
    try:
        return Backup.model_validate_json(fs.cat_file(f"{path}/{MANIFEST}"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{url} is no complete backup: it has no {MANIFEST}",
            next_step="choose one of `airworthy backup --list`",
        ) from error


def _copy(source: str, target: str, prefix: str, pins: dict[str, int] | None = None) -> dict[str, tuple[int, str]]:
    """Copy every file below a URL; returns size and SHA-256 by path in the backup."""
    src, root = filesystem(source)
    dst, base = filesystem(target)
    if not src.exists(root):
        return {}
    names = [name[len(root) :].lstrip("/") for name in map(str, src.find(root))]
    wanted = [name for name in names if _wanted(name, pins or {})]
    for folder in {f"{base}/{name}".rpartition("/")[0] for name in wanted}:
        dst.makedirs(folder, exist_ok=True)

    def one(name: str) -> tuple[str, tuple[int, str]] | None:
        digest, size = hashlib.sha256(), 0
        try:
            with src.open(f"{root}/{name}", "rb") as reading, dst.open(f"{base}/{name}", "wb") as writing:
                while chunk := reading.read(CHUNK):
                    writing.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
        except FileNotFoundError:
            return None  # it was a temporary file of somebody who is writing
        return f"{prefix}/{name}", (size, digest.hexdigest())

    with ThreadPoolExecutor(4) as pool:
        return dict(found for found in pool.map(one, wanted) if found)


def _wanted(name: str, pins: dict[str, int]) -> bool:
    """Whether a file belongs to the copy: not a temporary one, and of a table's log no later version than its pin."""
    file = name.rpartition("/")[2]
    if file.startswith(".") or file.endswith(".tmp") or "#" in file:
        return False
    table = name.partition("/_delta_log/")[0]
    if table == name or table not in pins:
        return True
    entry = LOG_ENTRY.search(f"/{name}")
    # ``_last_checkpoint`` may point to a later one; readers find the right one without it.
    return entry is not None and int(entry.group(1)) <= pins[table]
