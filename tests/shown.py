"""All that people may come to see of a platform, and where in it a value is that nobody should see."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg

from airworthy.config import get_settings

# What the data itself is kept in, and the secrets' own place.
DATA = {"secrets", "pg", "lake", "landing", "spool", "backups"}
DATABASES = ("airflow", "ledger", "mlflow")


def shown() -> dict[str, bytes]:
    """Files (logs, reports, artefacts, settings of programs) and every row of the databases, by place."""
    found = dict(_files(get_settings().var))
    return found | {f"database {name}": _content(name) for name in DATABASES}


def _files(var: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(var.rglob("*")):
        place = path.relative_to(var)
        data = place.parts[0] in DATA or place.parts[:2] == ("releases", "training_sets")
        if path.is_file() and not path.is_symlink() and not data:
            yield str(place), path.read_bytes()


def _content(database: str) -> bytes:
    """Every row of a database, as text."""
    parts = []
    with psycopg.connect(f"host={get_settings().socket_dir} user=postgres dbname={database}") as connection:
        names = connection.execute(
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        for (name,) in names:
            parts += [f"{name} {row}" for (row,) in connection.execute(f"SELECT row_to_json(t)::text FROM {name} t")]
    return "\n".join(parts).encode()


def secrets() -> dict[str, str]:
    """The platform's own secrets, by name."""
    folder = get_settings().var / "secrets"
    found = {path.name: path.read_text().strip() for path in folder.iterdir() if path.name != "airflow_passwords.json"}
    return found | {
        f"password of {user}": p for user, p in json.loads((folder / "airflow_passwords.json").read_text()).items()
    }


def where(found: Mapping[str, bytes], values: Mapping[str, str]) -> list[str]:
    """Where which of these values is."""
    return [
        f"{name} is in {place}"
        for name, value in values.items()
        for place, text in found.items()
        if value.encode() in text
    ]
