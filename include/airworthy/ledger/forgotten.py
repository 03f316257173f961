"""Keys that are to be forgotten, as keyed digests: who reads the ledger cannot tell whose they are."""

from __future__ import annotations

import hmac
import os
import secrets
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from airworthy.config import get_settings
from airworthy.errors import ConfigurationError
from airworthy.ledger.database import transaction
from airworthy.ledger.models import ForgottenKey


def key_digest(use_case: str, column: str, value: object, *, create: bool = False) -> str:
    """The keyed digest of a key.

    Args:
        use_case: The use case.
        column: The column that bears it.
        value: The key; a whole number counts as its text.
        create: Make the platform's secret when there is none yet.

    Raises:
        ConfigurationError: the secret is missing.
    """
    return hmac.new(_secret(create), f"{use_case}\0{column}\0{value}".encode(), "sha256").hexdigest()


def forgotten(use_case: str) -> dict[str, set[str]]:
    """Digests of the forgotten keys, by column."""
    with transaction() as session:
        rows = session.scalars(select(ForgottenKey).where(ForgottenKey.use_case == use_case)).all()
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.column_name, set()).add(row.key_digest)
    return found


def remember_to_forget(use_case: str, column: str, digest: str, who: str, removed: dict[str, Any]) -> None:
    """Note that a key is forgotten, by whom, and what was removed; a second time replaces the first note's figures."""
    values = {"use_case": use_case, "column_name": column, "key_digest": digest, "who": who, "removed": removed}
    statement = insert(ForgottenKey).values(**values)
    with transaction() as session:
        session.execute(
            statement.on_conflict_do_update(constraint="uq_forgotten_key", set_={"removed": removed, "who": who})
        )


def _secret(create: bool) -> bytes:
    settings = get_settings()
    if settings.forget_key is not None:
        return settings.forget_key.get_secret_value().encode()
    path = settings.var / "secrets" / "forget.key"
    if create:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"the secret {path} of forgotten keys cannot be read: {error}",
            next_step="put it back, or set AIRWORTHY_FORGET_KEY: without it a forgotten key could come back",
        ) from error
