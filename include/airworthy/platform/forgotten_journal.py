"""Forgotten keys, noted beside the backups: a restore of an older one must not bring a key back.

A note has the keyed digest of a key, as the ledger does; without the platform's secret it tells nothing.
"""

from __future__ import annotations

import json

import pyarrow.compute as pc
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from airworthy.config import UseCase, get_settings
from airworthy.lake import tables
from airworthy.lake.landing import filesystem, write_file
from airworthy.ledger.database import transaction
from airworthy.ledger.forgotten import key_digest
from airworthy.ledger.models import ForgottenKey

FOLDER = "forgotten"


def note(use_case: str, column: str, digest: str, who: str, root: str = "") -> None:
    """Note a forgotten key beside the backups of ``root`` (``AIRWORTHY_BACKUP_URL`` by default); again is harmless."""
    record = {"use_case": use_case, "column_name": column, "key_digest": digest, "who": who}
    write_file(_folder(root), f"{use_case}-{digest}.json", json.dumps(record).encode())


def note_all(root: str) -> None:
    """Note every key that the ledger knows beside other backups."""
    with transaction() as session:
        rows = session.scalars(select(ForgottenKey)).all()
    for row in rows:
        note(row.use_case, row.column_name, row.key_digest, row.who, root)


def noted(root: str = "") -> list[dict[str, str]]:
    """The notes, beside the backups of ``root`` and of ``AIRWORTHY_BACKUP_URL``."""
    found: dict[str, dict[str, str]] = {}
    for place in {_folder(root), _folder("")}:
        fs, path = filesystem(place)
        for name in map(str, fs.ls(path, detail=False)) if fs.exists(path) else ():
            if name.endswith(".json"):
                found[name.rpartition("/")[2]] = json.loads(fs.cat_file(name))
    return list(found.values())


def carry_over(root: str) -> int:
    """Note the keys of other backups beside our own too, after a restore from there; returns how many are noted now."""
    for one in noted(root):
        note(one["use_case"], one["column_name"], one["key_digest"], one["who"])
    return len(noted())


def unfinished(use_case: UseCase) -> list[ForgottenKey]:
    """Keys that were noted and not removed everywhere: an interrupted forgetting, or one that a restore undid."""
    with transaction() as session:
        for one in noted():
            if one["use_case"] == use_case.name:  # a ledger that was restored may not know it
                session.execute(insert(ForgottenKey).values(**one, removed={}).on_conflict_do_nothing())
        rows = session.scalars(select(ForgottenKey).where(ForgottenKey.use_case == use_case.name)).all()
    return [row for row in rows if not row.removed]


def finish(use_case: UseCase) -> int:
    """Forget again what is unfinished; returns how many keys were found and removed. Run by ``airworthy migrate`` and ``up``.

    The keys themselves are known to nobody: each value of the column is tried.

    Raises:
        ConfigurationError: the secret is missing, by which keys are recognised.
    """
    from airworthy.ledger.forgotten import remember_to_forget
    from airworthy.platform.forgetting import forget

    done = 0
    for row in unfinished(use_case):
        values = [v for v in _values(use_case, row.column_name) if _is(use_case, row, v)]
        for value in values:
            forget(use_case, row.column_name, value, who=row.who)
            done += 1
        if not values:
            remember_to_forget(use_case.name, row.column_name, row.key_digest, row.who, {"rows": {}})
    return done


def _is(use_case: UseCase, row: ForgottenKey, value: str) -> bool:
    return key_digest(use_case.name, row.column_name, value) == row.key_digest


def _values(use_case: UseCase, column: str) -> set[str]:
    """Every value of a column that any table of the use case holds, as text."""
    from airworthy.platform.every_table import table_schemas

    found: set[str] = set()
    for name, schema in table_schemas(use_case).items():
        if column in schema.names:
            found.update(str(v) for v in pc.unique(tables.read(name, columns=[column])[column]).to_pylist())
        elif "row" in schema.names or "request" in schema.names:
            texts = tables.read(name, columns=["row" if "row" in schema.names else "request"]).column(0).to_pylist()
            found.update(str(json.loads(text).get(column)) for text in texts)
    return found


def _folder(root: str) -> str:
    return f"{(root or get_settings().backup_url).rstrip('/')}/{FOLDER}"
