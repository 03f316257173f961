"""Restore: a backup put back, in place of an empty platform or into a scratch place; and the drill that tries it.

A restore is believed when it was compared: rows of every database with the snapshot's counts, every file with its
digest, every interval of the lake with its newest ledger row, every release with its manifest.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from airworthy.config import get_settings
from airworthy.errors import CheckFailure as Failure
from airworthy.errors import ConfigurationError, DataRejectedError
from airworthy.lake.landing import filesystem
from airworthy.ledger import audit
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import migrate, transaction
from airworthy.ledger.models import RecoveryDrill
from airworthy.platform import backup as backups
from airworthy.platform import forgotten_journal, pg_tools, postgres
from airworthy.platform.backup import Backup, Say
from airworthy.records import Record


class Restored(Record):
    """What a restore gave.

    Attributes:
        environment: Variables that point a process at it.
        seconds: Wall time that it took: the recovery time, without the start of the services.
        checked: What was compared: databases, rows, files, partitions, releases.
    """

    backup: str
    environment: dict[str, str]
    seconds: float
    checked: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it


def restore(url: str, *, into: str = "", who: str = "", say: Say = lambda _: None) -> Restored:
    """Put a backup back, whole, and compare it.

    Args:
        url: The backup.
        into: A folder that does not exist, for a scratch copy with databases of its own; without it the platform of the
            settings is filled, which must be empty.
        who: The person, for the restored ledger; a scratch copy is nobody's doing.
        say: Told what happens.

    Raises:
        ConfigurationError: no such backup, or the place is not empty: nothing of it was touched.
        DataRejectedError: what was restored is not what was saved; the message names each difference.
        ServiceUnavailableError: a database does not answer.
    """
    with _server():
        restored = _restore(url, into, say)
        if who and not into:
            migrate()  # the saved ledger may be older than this code
            words = (
                f"in {restored.seconds} s, compared: {restored.checked['rows']} rows, {restored.checked['files']} files"
            )
            audit.record_action(who, "restore", audit.PLATFORM, url, "", "shell", words)
        return restored


@contextmanager
def _server() -> Iterator[None]:
    """The embedded PostgreSQL runs meanwhile: it may be down, since a platform is restored while it is down."""
    settings = get_settings()
    if not postgres.is_embedded(settings) or postgres.answers(settings.socket_dir):
        yield
        return
    postgres.start(settings)
    try:
        yield
    finally:
        postgres.stop(settings)


def _restore(url: str, into: str, say: Say) -> Restored:
    started = wall_now()
    saved = backups.read_manifest(url)
    databases, folders = _place(saved, into)
    for dsn in databases.values():
        pg_tools.create_database(dsn)
    with tempfile.TemporaryDirectory() as scratch:
        _fetch(url, "databases", scratch, saved)
        for name, dsn in databases.items():
            pg_tools.restore(dsn, Path(scratch) / f"{name}.dump")
            say(f"restored database {name}")
    for name, folder in folders.items():
        say(f"restored {name}: {_fetch(url, name, folder, saved)} files")
    # The online store is not in a backup: the next catch-up publishes everything again.
    with pg_tools.connect(databases["ledger"]) as connection:
        connection.execute("DELETE FROM online_watermark")
    environment = {
        "AIRWORTHY_LEDGER_DSN": databases["ledger"], "AIRWORTHY_LAKE_URL": folders["lake"],
        "AIRWORTHY_RELEASE_URL": folders["releases"], "AIRWORTHY_FEAST_REGISTRY_DSN": databases["feast"],
        "AIRWORTHY_SPOOL": folders["spool"],
    }  # fmt: skip
    checked = _compare(saved, databases, environment)
    if not into and (forgotten := forgotten_journal.carry_over(url.rstrip("/").rpartition("/")[0])):
        say(
            f"{forgotten} forgotten keys are noted beside the backups: `airworthy up` (or `migrate`) forgets them again"
        )
    return Restored(
        backup=url, environment=environment, seconds=round((wall_now() - started).total_seconds(), 1), checked=checked
    )


def drill(url: str = "", *, say: Say = lambda _: None) -> Restored:
    """Restore the newest backup (or the given one) into a scratch place, compare it, remove it, and note the result.

    Where there is no backup yet, one is made.

    Raises:
        ConfigurationError: the given one is no backup.
        DataRejectedError: the restored platform is not what was saved; the note in the ledger says how it differs.
    """
    found = [url] if url else backups.backups() or [backups.backup(say=say)[0]]
    saved = backups.read_manifest(found[-1])
    scratch = Path(tempfile.gettempdir()) / f"airworthy-drill-{secrets.token_hex(4)}"
    started, words = wall_now(), "failed before the comparison"
    try:
        restored = restore(found[-1], into=str(scratch), say=say)
        words = ""
        return restored
    except DataRejectedError as error:
        words = str(error)
        raise
    finally:
        for dsn in _scratch_databases(saved, scratch).values():
            pg_tools.drop_database(dsn)
        shutil.rmtree(scratch, ignore_errors=True)
        seconds = (wall_now() - started).total_seconds()
        with transaction() as session:
            session.add(
                RecoveryDrill(
                    backup=found[-1], recovery_point=saved.at, seconds=seconds, passed=not words, words=words[:2000]
                )
            )


def _scratch_databases(saved: Backup, into: Path) -> dict[str, str]:
    prefix = f"scratch_{hashlib.sha256(str(into).encode()).hexdigest()[:10]}"
    server = get_settings().ledger_dsn
    return {name: pg_tools.sibling(server, f"{prefix}_{name}") for name in saved.counts}


def _place(saved: Backup, into: str) -> tuple[dict[str, str], dict[str, str]]:
    """Databases and folders to fill. Raises ConfigurationError unless all of them are empty."""
    settings = get_settings()
    if into:
        folders = {name: f"{into.rstrip('/')}/{name}" for name in backups.folders(settings)}
        databases = _scratch_databases(saved, Path(into))
    else:
        folders = backups.folders(settings)
        known = backups.databases(settings, with_airflow=True)
        databases = {name: known[name] for name in saved.counts if name in known}
        for name in saved.counts.keys() - known.keys():
            raise ConfigurationError(
                f"nothing says where database {name} is", next_step="see docs/runbooks/recovery.md"
            )
        for name, dsn in databases.items():
            pg_tools.drop_empty(dsn, name)
    for name, url in folders.items():
        fs, path = filesystem(url)
        if fs.exists(path) and fs.find(path):
            raise ConfigurationError(
                f"{url} is not empty: a restore never overwrites {name}",
                next_step="stop the platform and move that folder away, or restore with --into a new folder",
            )
    return databases, folders


def _fetch(url: str, prefix: str, target: str, saved: Backup) -> int:
    """Copy one folder of a backup; every file is compared with its digest."""
    src, root = filesystem(url.rstrip("/"))
    dst, base = filesystem(target)
    names = [name for name in saved.files if name.startswith(f"{prefix}/")]
    places = {name: f"{base}/{name.removeprefix(f'{prefix}/')}" for name in names}
    dst.makedirs(base, exist_ok=True)
    for folder in {place.rpartition("/")[0] for place in places.values()}:
        dst.makedirs(folder, exist_ok=True)

    def one(name: str) -> str | None:
        digest = hashlib.sha256()
        try:
            with src.open(f"{root}/{name}", "rb") as reading, dst.open(places[name], "wb") as writing:
                while chunk := reading.read(backups.CHUNK):
                    digest.update(chunk)
                    writing.write(chunk)
        except FileNotFoundError:
            return name
        return None if digest.hexdigest() == saved.files[name][1] else name

    with ThreadPoolExecutor(4) as pool:
        damaged = tuple(name for name in pool.map(one, names) if name)
    if damaged:
        raise DataRejectedError(
            f"the backup {url}",
            [Failure("file is missing or altered", None, len(damaged), damaged)],
            next_step="use an older backup (`airworthy backup --list`), and find out who wrote there",
        )
    return len(names)


def _compare(saved: Backup, databases: dict[str, str], environment: dict[str, str]) -> dict[str, int]:
    """Compare what was restored with what was saved; returns what was looked at."""
    failures, rows = [], 0
    for name, dsn in databases.items():
        with pg_tools.connect(dsn) as connection:
            now = pg_tools.counts(connection)
        for table, count in saved.counts[name].items():
            rows += count
            if table != "online_watermark" and now.get(table) != count:
                failures.append(Failure(f"{now.get(table)} rows, {count} were saved", f"{name}.{table}"))
    # By a process of its own, whose settings point at the copy.
    done = subprocess.run(
        [sys.executable, "-m", "airworthy.platform.comparing"], env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        failures.append(Failure(f"it cannot be read: {done.stderr.strip()[-500:]}"))
        lines = ["0 0 0"]
    partitions, releases, training_sets = (int(n) for n in lines[-1].split())
    failures += [Failure(line) for line in lines[:-1]]
    if failures:
        raise DataRejectedError(
            "the restored platform", failures, next_step="use an older backup, and see docs/runbooks/recovery.md"
        )
    return {
        "databases": len(databases), "rows": rows, "files": len(saved.files), "partitions": partitions,
        "releases": releases, "training_sets": training_sets,
    }  # fmt: skip
