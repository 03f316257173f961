"""Commands about the platform itself: up, down, status, doctor, logs, migrate, demo, schema, check-config."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from airworthy.commands.output import say, show_json, show_table

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for name, function in {
        "up": up, "down": down, "status": status, "doctor": doctor, "logs": logs, "migrate": migrate, "demo": demo,
        "schema": schema, "check-config": check_config,
    }.items():  # fmt: skip
        app.command(name)(function)


def up() -> None:
    """Start the embedded platform and wait until it does its work."""
    from airworthy.config import get_settings
    from airworthy.platform import services

    start = time.monotonic()
    seconds = services.up(lambda words: say(f"{time.monotonic() - start:6.1f} s  {words}"))
    settings, (user, passwords) = get_settings(), services.airflow_login()
    say(f"up in {seconds['total']} s")
    say(f"  Airflow      {settings.airflow_url}  (user {user}, password in {passwords})")
    say(f"  MLflow       {settings.mlflow_url}")
    say(f"  Predictions  {settings.service_url}/docs")
    say(f"  Reports      {settings.reports_url}")


def down() -> None:
    """Stop the embedded platform, all of it."""
    from airworthy.platform import services

    services.down(say)
    say("down")


def status(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show each program of the platform. Exit code 1 unless all do their work."""
    from dataclasses import asdict

    from rich.text import Text

    from airworthy.platform import services

    found = services.status()
    if as_json:
        show_json([asdict(s) for s in found])
    else:
        rows = [
            (
                s.name,
                Text(s.state.lower(), STYLES["error" if s.problem else "ok"]),
                s.pid or "",
                _duration(s.uptime_s),
                s.url,
                s.problem,
            )
            for s in found
        ]
        show_table("The embedded platform", ("program", "state", "pid", "up for", "address", "problem"), rows)
    raise typer.Exit(int(any(s.problem for s in found)))


def doctor(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Check this machine, and say what to do about each finding. Exit code 1 when something must be done."""
    from dataclasses import asdict

    from rich.text import Text

    from airworthy.platform.doctor import examine

    findings = examine()
    if as_json:
        show_json([asdict(f) for f in findings])
    else:
        rows = [(Text(f.level, STYLES[f.level]), f.subject, f.words, f.advice) for f in findings]
        show_table("What the doctor found", ("", "about", "found", "what to do"), rows)
    raise typer.Exit(int(any(f.level == "error" for f in findings)))


def logs(
    service: Annotated[
        str, typer.Argument(metavar="[PROGRAM]", help="A program of `airworthy status`; all by default.")
    ] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="So many of the last lines.")] = 40,
) -> None:
    """Show the end of the programs' logs."""
    from airworthy.config import get_settings
    from airworthy.platform import services
    from airworthy.platform.layout import Layout
    from airworthy.platform.programs import PROGRAMS

    for name in [service] if service else [*PROGRAMS, "supervisor"]:
        found = services.log_tail(name, lines)
        say(f"==> {Layout(get_settings()).log_file(name)}" + ("" if found else " (nothing yet)"))
        for line in found:
            say(line)


def migrate(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="databases, mlflow, airflow or tables; may be repeated.")
    ] = None,
) -> None:
    """Bring every schema to this version: databases, ledger, MLflow, Airflow, tables, feature definitions."""
    from airworthy.platform import migrations

    migrations.run(only or (), say)


def demo() -> None:
    """Play a year of real flights against the platform, and tell what it decided."""
    os.environ.setdefault("AIRWORTHY_OVERLAY", "demo")  # steps of seconds, see use_cases/flight_delays/demo.yaml
    from airworthy.platform import demo as story

    raise typer.Exit(story.run())


def schema() -> None:
    """Print the JSON schema of use_case.yaml."""
    from airworthy.config import UseCase

    show_json(UseCase.model_json_schema())


def check_config() -> None:
    """Read the settings and every use case; say what is wrong with the first that cannot be used."""
    from airworthy.config import get_settings
    from airworthy.config.use_case import use_cases

    settings = get_settings()
    say(f"settings: environment {settings.env}, {settings.clock} clock, everything under {settings.var}")
    for case in use_cases().values():
        case.source_module()
        case.features_module()
        say(f"use case {case.name}: {case.title} ({', '.join(case.sources)}; {case.data.first} to {case.data.last})")


def _duration(seconds: float) -> str:
    if not seconds:
        return ""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
