"""Commands about what was rejected: look at it, and let it in after a fix."""

from __future__ import annotations

from typing import Annotated

import typer

from airworthy.commands.output import (
    UseCaseName,
    actor,
    by_hand,
    run_name,
    say,
    show_json,
    show_record,
    show_table,
    use_case,
)

Day = Annotated[str, typer.Argument(help="The interval, such as 2013-01-31.")]
Source = Annotated[str, typer.Option("--source", help="Only this source.")]
First = Annotated[str, typer.Option("--from", help="First interval; from the beginning by default.")]
Last = Annotated[str, typer.Option("--to", help="Last interval, included; up to the end by default.")]


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    group = typer.Typer(help="What was rejected, with the reason; and its release after a fix.", no_args_is_help=True)
    group.command("list")(listed)
    group.command("show")(show)
    group.command("release")(release)
    app.add_typer(group, name="quarantine")


def listed(name: UseCaseName, first: First = "", last: Last = "", source: Source = "") -> None:
    """List rejected rows and refused files, by interval, source and reason."""
    from airworthy.ingest import entries
    from airworthy.intervals import Interval

    start, end = (Interval.of(day) if day else None for day in (first, last))
    rows = [
        (e.interval, e.source, f"{e.rows} rows" if e.rows else f"the file {e.file}", e.reason)
        for e in entries(use_case(name), start, end, _source(name, source))
    ]
    show_table("In quarantine", ("interval", "source", "what", "reason"), rows)


def show(
    name: UseCaseName,
    day: Day,
    source: Source = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many rows of each source.")] = 20,
) -> None:
    """Show what an interval has in quarantine, with the reasons, as JSON. Tagged columns are masked."""
    from airworthy.ingest import contents
    from airworthy.intervals import Interval

    show_json(contents(use_case(name), Interval.of(day), source=_source(name, source), limit=limit))


def release(
    name: UseCaseName,
    day: Day,
    why: Annotated[str, typer.Option("--why", help="What was corrected; kept in the ledger with your name.")],
) -> None:
    """Judge an interval again by today's suites and code; what passes is published as a correction."""
    from airworthy.features import catch_up
    from airworthy.ingest import release as release_stage
    from airworthy.intervals import Interval

    case = use_case(name)
    with by_hand("release quarantine", case.name, day, why) as act:
        outcome = release_stage(case, Interval.of(day), who=actor(), why=why)
        act.outcome = outcome.status
    show_record(outcome)
    if outcome.status == "released":
        say(catch_up(case, run=run_name()).reason)


def _source(name: str, source: str) -> str | None:
    from airworthy.errors import ConfigurationError

    known = use_case(name).sources
    if source and source not in known:
        raise ConfigurationError(f"{name} has no source {source!r}", next_step=f"choose one of {', '.join(known)}")
    return source or None
