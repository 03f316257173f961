"""Files and sockets of the platform."""

from __future__ import annotations

import configparser
import json
import stat
from pathlib import Path

import pytest

from airworthy.config import Settings
from airworthy.errors import ConfigurationError
from airworthy.platform import credentials, supervisor
from airworthy.platform.layout import SOCKET_LIMIT, Layout, port_of
from airworthy.platform.programs import PROGRAMS


@pytest.mark.parametrize(
    ("url", "port"), [("http://127.0.0.1:8580", 8580), ("http://localhost", 80), ("https://airflow.example.com/x", 443)]
)
def test_port_of_an_address(url: str, port: int) -> None:
    assert port_of(url) == port


def test_the_control_socket_stays_short_however_long_the_path() -> None:
    short, long = Layout(Settings(var=Path("/tmp/v"))), Layout(Settings(var=Path("/tmp") / ("x" * 120)))

    assert short.supervisor_socket == Path("/tmp/v/run/supervisor.sock")
    assert len(str(long.supervisor_socket)) <= SOCKET_LIMIT
    assert long.supervisor_socket != Layout(Settings(var=Path("/tmp") / ("y" * 120))).supervisor_socket


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_for_the_owner_only_and_are_kept(tmp_path: Path) -> None:
    settings = Settings(var=tmp_path / "var")
    credentials.ensure(settings)
    folder = Layout(settings).secrets
    first = {p.name: p.read_text() for p in folder.iterdir()}

    credentials.ensure(settings)

    assert mode(folder) == 0o700
    assert {mode(p) for p in folder.iterdir()} == {0o600}
    assert {p.name: p.read_text() for p in folder.iterdir()} == first
    assert set(credentials.passwords(settings)) == {"admin", "approver", "operator", "viewer"}
    assert len(set(credentials.passwords(settings).values())) == 4
    assert len(credentials.airflow_secrets(settings)["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64


def test_a_platform_from_before_gets_the_users_that_it_lacks_and_keeps_the_others(tmp_path: Path) -> None:
    settings = Settings(var=tmp_path / "var")
    Layout(settings).create()
    Layout(settings).passwords.write_text('{"admin": "mine", "op": "theirs"}')

    credentials.ensure(settings)

    known = credentials.passwords(settings)
    assert (known["admin"], known["op"]) == ("mine", "theirs")
    assert len(known["approver"]) >= 12
    assert mode(Layout(settings).passwords) == 0o600


def test_two_platforms_have_different_secrets(tmp_path: Path) -> None:
    one, other = Settings(var=tmp_path / "a"), Settings(var=tmp_path / "b")
    for settings in (one, other):
        credentials.ensure(settings)

    assert not set(credentials.airflow_secrets(one).values()) & set(credentials.airflow_secrets(other).values())


def test_damaged_or_missing_passwords_are_named(tmp_path: Path) -> None:
    settings = Settings(var=tmp_path / "var")
    with pytest.raises(ConfigurationError, match=r"airflow_passwords\.json"):
        credentials.passwords(settings)
    credentials.ensure(settings)
    Layout(settings).passwords.write_text("not json")

    with pytest.raises(ConfigurationError, match="not JSON"):
        credentials.passwords(settings)


def parsed(settings: Settings) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(supervisor.configuration(settings))
    return parser


def test_the_supervisor_restarts_everything_and_stops_postgres_last(tmp_path: Path) -> None:
    config = parsed(Settings(var=tmp_path / "var"))

    assert {f"program:{p}" for p in PROGRAMS} <= set(config)
    assert all(config[f"program:{p}"]["autorestart"] == "true" for p in PROGRAMS)
    # It stops in descending order of priority.
    priority = {p: int(config[f"program:{p}"]["priority"]) for p in PROGRAMS}
    assert all(priority["postgres"] < priority[p] for p in PROGRAMS if p != "postgres")
    assert priority["scheduler"] > priority["api-server"]
    # What holds PostgreSQL may be killed; the server itself must not be killed with it.
    assert config["program:postgres"]["killasgroup"] == "false"


def test_the_configuration_has_no_secret_and_takes_any_path(tmp_path: Path) -> None:
    settings = Settings(var=tmp_path / "100% odd")
    credentials.ensure(settings)
    text = supervisor.configuration(settings)

    secrets = [
        *credentials.airflow_secrets(settings).values(),
        *json.loads(Layout(settings).passwords.read_text()).values(),
    ]
    assert not [s for s in secrets if s in text]
    assert "100%% odd" in text
