"""Commands about who may change what clients get: the kill switch, and the log of what people did."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from airworthy.commands.output import actor, say, show_table, use_case

Name = Annotated[str, typer.Argument(metavar="[USE_CASE]", help="Name of the use case; every one by default.")]
Reason = Annotated[str, typer.Option("--why", help="The reason; it is kept with your name.")]


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for function in (pause, resume, audit):
        app.command(function.__name__)(function)


def pause(why: Reason, name: Name = "") -> None:
    """Pull the kill switch: no promotion, shadow or canary until `airworthy resume`. Rollback goes on."""
    from airworthy.ledger import switches

    found = switches.pause(_switch(name), actor(), why)
    say(f"promotions are paused by {found.who} since {found.at:%Y-%m-%d %H:%M:%S} UTC: {found.why}")


def resume(why: Reason, name: Name = "") -> None:
    """Let promotions go on; what waited meanwhile is delivered."""
    from airworthy.commands.waking import wake_delivery
    from airworthy.config import use_cases
    from airworthy.delivery import waiting
    from airworthy.ledger import switches

    held = switches.resume(_switch(name), actor(), why)
    say(f"still paused with every use case, by {held.who}: {held.why}" if held else "promotions go on")
    for case in [use_case(name)] if name else use_cases().values():
        if waiting(case):
            say(wake_delivery(case))


def audit(
    name: Annotated[str, typer.Argument(metavar="[USE_CASE]", help="Only this use case; all by default.")] = "",
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="UTC, wall time.")
    ] = None,
) -> None:
    """Show what people did by hand, oldest first: who, what, why, and what came of it."""
    from datetime import UTC

    from airworthy.ledger import audit as log

    found = log.actions(use_case(name).name if name else None, since.replace(tzinfo=UTC) if since else None)
    rows = [
        (
            f"{r.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", r.who, r.via, r.action, r.use_case or "platform", r.subject, r.why,
            r.outcome or "not known: it was not finished",
        )
        for r in found
    ]  # fmt: skip
    show_table("What people did", ("at (UTC)", "who", "via", "action", "use case", "subject", "why", "outcome"), rows)


def _switch(name: str) -> str:
    from airworthy.ledger.switches import EVERY

    return use_case(name).name if name else EVERY
