"""Commands that look at data."""

from __future__ import annotations

from typing import Annotated

import typer

from airworthy.commands.output import UseCaseName, show_table, use_case


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("profile")(profile)


def profile(
    name: UseCaseName,
    table: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A source; with --layer features a view, scores: batch."),
    ],
    first: Annotated[str, typer.Option("--from", help="First interval; from the beginning by default.")] = "",
    last: Annotated[str, typer.Option("--to", help="Last interval, included; up to the end by default.")] = "",
    layer: Annotated[str, typer.Option("--layer", help="raw, clean, features or scores.")] = "clean",
) -> None:
    """Show what the rows of a table look like: types, empty values, ranges, distinct values, label rate."""
    from airworthy.features.inspect import profile_table
    from airworthy.intervals import Interval

    start, end = (Interval.of(day) if day else None for day in (first, last))
    found = profile_table(use_case(name), layer, table, start, end)
    rate = f", label rate of {found.label} {found.label_rate:.3f}" if found.label else ""
    rows = [
        (c.name, c.type, c.nulls, c.distinct, c.low or "", c.high or "", "" if c.mean is None else f"{c.mean:.4g}",
         ", ".join(f"{value} {count}" for value, count in c.most))
        for c in found.columns
    ]  # fmt: skip
    columns = ("column", "type", "empty", "distinct", "from", "to", "mean", "most frequent")
    show_table(f"{found.title}: {found.rows:,} rows{rate}", columns, rows)
