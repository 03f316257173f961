"""Commands about where things come from and what was said about them: lineage, why, feedback, reproduce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from airworthy.commands.output import UseCaseName, say, show_json, show_table

if TYPE_CHECKING:
    from airworthy.platform.lineage import Node

What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help="A prediction's id; a version (3, flight_delays/3); first digits of a digest; a landed file; a table's interval.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for function in (lineage, why, feedback, reproduce):
        app.command(function.__name__)(function)


def lineage(
    what: What,
    up: Annotated[bool, typer.Option("--up", help="Only where it comes from.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what came of it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show where a thing comes from, down to the landed files, and what came of it, down to the predictions."""
    from airworthy.platform import lineage as trees
    from airworthy.platform.lineage_things import find

    thing, both = find(what), up == down
    found = {}
    if up or both:
        found["comes from"] = trees.up(thing)
    if down or both:
        found["went into"] = trees.down(thing)
    if as_json:
        show_json({name: node.to_json() for name, node in found.items()})
        return
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    for name, node in found.items():
        tree = Tree(Text(name, "bold"))
        _grow(tree, node)
        Console(soft_wrap=True).print(tree)


def _grow(tree: Any, node: Node) -> None:
    from rich.text import Text

    name = node.name if len(node.name) <= 60 else f"{node.name[:12]}..."
    branch = tree.add(Text.assemble((f"{node.kind} ", "dim"), (name, "bold"), f"  {node.words}" if node.words else ""))
    for child in node.children:
        _grow(branch, child)


def why(what: What, as_json: AsJson = False) -> None:
    """Say in plain words why a prediction was what it was, or a version what it is: who decided, on what evidence."""
    from airworthy.platform.lineage_things import find
    from airworthy.platform.why import why as explain

    found = explain(find(what))
    if as_json:
        show_json(found.to_json())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=found.title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for heading, words in found.parts:
        table.add_row(heading, Text(words))
    Console().print(table)


def feedback(
    name: UseCaseName,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show what clients said about predictions, beside what was predicted: labels, disputes and comments, newest first."""
    from airworthy.config import get_use_case
    from airworthy.platform.said import said

    rows = said(get_use_case(name), limit)
    if as_json:
        show_json([row.to_json() for row in rows])
        return
    show_table(
        f"Feedback on {name}", ("at (UTC)", "prediction", "said", "predicted", "by release"),
        [(f"{r.at:%Y-%m-%d %H:%M}", r.prediction_id, r.words, r.predicted, r.release[:12]) for r in rows],
    )  # fmt: skip


def reproduce(
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="Such as 3, flight_delays/3, or a release's digest.")
    ],
    dirty: Annotated[
        bool, typer.Option("--dirty", help="Go on although files differed from the revision when it was trained.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a version again from its recorded code, data and recipe, and compare. Exit code 1 when it is not the same."""
    from airworthy.platform.lineage_things import find, release_of
    from airworthy.platform.reproducing import reproduce as again
    from airworthy.records import Release

    thing = find(version)
    release = Release.model_validate(release_of(thing).record)
    outcome = again(thing.use_case, release, dirty=dirty, say=(lambda _: None) if as_json else say)
    if as_json:
        show_json(outcome.to_json())
    else:
        rows = [
            ("training set", outcome.data[0][:16], outcome.data[1][:16]),
            ("model files", outcome.model[0][:16], outcome.model[1][:16]),
            *((name, *("" if v is None else f"{v:.9g}" for v in pair)) for name, pair in outcome.metrics.items()),
        ]
        show_table(f"{outcome.use_case} version {outcome.version}", ("", "recorded", "made again"), rows)
        say(f"revision {outcome.revision}; {outcome.environment}")
        if outcome.largest_difference == 0:
            say("predictions: equal to the last bit")
        elif outcome.largest_difference is not None:
            say(f"predictions: differ by at most {outcome.largest_difference:.3g} in the sample")
        for note in outcome.notes:
            say(f"note: {note}")
        for difference in outcome.differences:
            say(f"DIFFERENT: {difference}")
        say(f"{'the same' if outcome.same else 'NOT the same'}, in {outcome.seconds} s")
    raise typer.Exit(int(not outcome.same))
