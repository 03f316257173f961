"""Secrets of the embedded platform: generated once, kept in files that only the owner can read."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

from airworthy.config import Settings
from airworthy.errors import ConfigurationError
from airworthy.platform.layout import Layout

# Name and role: viewer < operator < approver < admin, see airflow/airworthy_auth.py and docs/reference/access.md.
USERS = {"admin": "admin", "approver": "approver", "operator": "operator", "viewer": "viewer"}


def _kept(path: Path, content: str) -> str:
    """The content of a secret file; written with ``content`` when it is not there yet."""
    try:
        # Exclusive creation with the final mode: there is no moment at which others could read it.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text()
    with os.fdopen(handle, "w") as file:
        file.write(content)
    return content


def ensure(settings: Settings) -> None:
    """Generate what is missing; existing secrets are kept."""
    layout = Layout(settings)
    layout.create()
    _kept(layout.secrets / "jwt_secret", secrets.token_urlsafe(64))
    _kept(layout.secrets / "api_secret_key", secrets.token_urlsafe(32))
    _kept(layout.secrets / "fernet_key", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    _kept(layout.passwords, "{}\n")
    # A user without a password is not left to Airflow, which would print the one that it makes.
    known = passwords(settings)
    lacking = {user: secrets.token_urlsafe(12) for user in USERS if user not in known}
    if lacking:
        _replace(layout.passwords, json.dumps(known | lacking) + "\n")


def _replace(path: Path, content: str) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    _kept(new, content)
    new.replace(path)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ConfigurationError(
            f"secret {path} cannot be read: {error}", next_step="run `airworthy up`, which generates it"
        ) from error


def airflow_secrets(settings: Settings) -> dict[str, str]:
    """The secret variables of Airflow, equal in each of its components."""
    folder = Layout(settings).secrets
    return {
        "AIRFLOW__API_AUTH__JWT_SECRET": _read(folder / "jwt_secret"),
        "AIRFLOW__API__SECRET_KEY": _read(folder / "api_secret_key"),
        "AIRFLOW__CORE__FERNET_KEY": _read(folder / "fernet_key"),
    }


def passwords(settings: Settings) -> dict[str, str]:
    """Airflow's users and their passwords.

    Raises:
        ConfigurationError: the file is not there or is not JSON.
    """
    path = Layout(settings).passwords
    try:
        return dict(json.loads(_read(path)))
    except ValueError as error:
        raise ConfigurationError(
            f"{path} is not JSON: {error}", next_step="delete it: `airworthy up` writes a new one"
        ) from error
