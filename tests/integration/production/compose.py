"""docker-compose.yaml and the Dockerfile, read as Docker would read them (there is no engine here)."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
OUR_IMAGE = "airworthy:"
VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^{}]*))?\}|(?P<bad>.|$))")


class RefusedError(Exception):
    """A variable that is needed is not set: Compose would start nothing."""


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """``$$``, ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}``, as Compose replaces them; no other form."""

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["bad"] is not None:
            raise ValueError(f"not a form that this file may use: {text!r}")
        found = variables.get(match["name"], "")
        if found:
            return found
        if match["kind"] == "?":
            raise RefusedError(f"{match['name']}: {match['text']}")
        if match["kind"] == "-":
            return match["text"]
        raise ValueError(f"{match['name']} has neither a default nor a message")

    return VARIABLE.sub(value, text)


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """The compose file with its variables filled in.

    Raises:
        RefusedError: a secret is not set.
    """

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return interpolated(value, variables) if isinstance(value, str) else value

    content = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    return {key: filled(value) for key, value in content.items() if not key.startswith("x-")}


def secret_names() -> list[str]:
    """Names in .env.example: all that an operator must fill in."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return [line.removesuffix("=") for line in lines if line and not line.startswith("#")]


def dotenv(**chosen: str) -> dict[str, str]:
    """A complete .env: every secret has a value."""
    return {name: f"value-of-{name}" for name in secret_names()} | chosen


def ours(compose: Mapping[str, Any]) -> dict[str, Any]:
    """The services that run our image."""
    return {name: service for name, service in compose["services"].items() if service["image"].startswith(OUR_IMAGE)}


def ignored(source: str) -> bool:
    """Whether .dockerignore keeps a top-level file or folder out of the build."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    return lines[0] == "*" and f"!{source.removeprefix('./')}" not in lines


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (INSTRUCTION, arguments), continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest) for word, rest in found]


def image_environment() -> dict[str, str]:
    """What ENV sets in the image; ``$PATH`` is left as it stands."""
    result: dict[str, str] = {}
    for word, rest in instructions():
        if word == "ENV":
            result |= dict(pair.split("=", 1) for pair in shlex.split(rest))
    return result


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a service, as text."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def programs(command: list[str]) -> list[list[str]]:
    """The programs that a command or a health check starts: itself, or those of its shell line."""
    if command[0] in ("CMD", "CMD-SHELL"):
        kind, command = command[0], command[1:]
        if kind == "CMD":
            return programs(command)
        command = ["sh", "-c", command[0]]
    if command[:2] != ["sh", "-c"]:
        return [command]
    (line,) = command[2:]
    parts = [shlex.split(part) for part in line.split("&&")]
    return [part[1:] if part[0] == "exec" else part for part in parts]


class Native:
    """The same commands and variables on this machine: host names are loopback, ports are free, paths are here.

    Args:
        folder: Takes the place of the volumes.
        ports: A free port for each port of the compose file.
        passwords: File that takes the place of the secret.
    """

    def __init__(self, folder: Path, ports: Mapping[int, int], passwords: Path) -> None:
        self.folder, self.ports = folder, dict(ports)
        self._paths = {
            "/opt/airworthy": str(ROOT),
            "/var/lib/airworthy": str(folder),
            "/run/secrets/airflow_passwords": str(passwords),
        }
        self._hosts: set[str] = set()

    def know(self, hosts: set[str]) -> None:
        """Names of services, which are host names in the compose network."""
        self._hosts = hosts

    def text(self, value: str) -> str:
        """One value or argument."""
        if value == "0.0.0.0":
            return "127.0.0.1"
        if value.isdigit() and int(value) in self.ports:
            return str(self.ports[int(value)])
        for there, here in self._paths.items():
            value = value.replace(there, here)
        names = "|".join(sorted(map(re.escape, {*self._hosts, "127.0.0.1", "localhost"})))
        return re.sub(rf"\b({names}):(\d+)\b", lambda m: f"127.0.0.1:{self.ports[int(m[2])]}", value)

    def command(self, command: list[str]) -> list[str]:
        """A command or a health check."""
        if command[0] == "CMD":
            command = command[1:]
        elif command[0] == "CMD-SHELL":
            command = ["sh", "-c", command[1]]
        return [self.text(argument) for argument in command]

    def environment(self, service: Mapping[str, Any], more: Mapping[str, str]) -> dict[str, str]:
        """The image's variables, the service's, and what a test adds. Nothing of this shell comes through but PATH."""
        values = image_environment() | environment(service)
        own = {n: self.text(value) for n, value in values.items() if n != "PATH" and not n.startswith("UV_")}
        # A bare word may be a host's name only where a host is asked for.
        own |= {n: "127.0.0.1" for n, value in own.items() if n.endswith("_HOST") and value in self._hosts}
        python_path = os.pathsep.join(filter(None, [own.get("PYTHONPATH"), more.get("PYTHONPATH")]))
        return {"LANG": "C.UTF-8", "HOME": str(self.folder), **own, **more, "PYTHONPATH": python_path}


def passwords_json() -> str:
    """Content of the secret: a password for each of Airflow's users."""
    return json.dumps({user: f"{user}-password" for user in ("admin", "approver", "operator", "viewer")})
