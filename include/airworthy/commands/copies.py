"""Commands that copy a release from one environment to another."""

from __future__ import annotations

from typing import Annotated

import typer

from airworthy.commands.output import UseCaseName, actor, by_hand, say


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("export-release")(export_release)
    app.command("import-release")(import_release)


def export_release(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Such as 3, flight_delays/3, or a digest.")],
    target: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder or URL that the copy is made in.")],
) -> None:
    """Copy a release, with its verdict, its card and where it comes from."""
    from airworthy.platform.lineage_things import find, release_of
    from airworthy.registry import export_release as export

    thing = find(version)
    row = release_of(thing)
    with by_hand("export release", thing.use_case.name, row.digest) as act:
        act.outcome = export(thing.use_case, row.digest, target, who=actor())
    say(act.outcome)


def import_release(
    name: UseCaseName,
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="The copy, or a release in another environment's store.")
    ],
) -> None:
    """Take a copied release in as a challenger: the same bytes, checked. `.deliver` takes it from there."""
    from airworthy.commands.output import use_case
    from airworthy.commands.waking import wake_delivery
    from airworthy.ledger.promotions import releases
    from airworthy.registry import import_release as take_in

    case = use_case(name)
    with by_hand("import release", case.name, folder) as act:
        release = take_in(case, folder, who=actor())
        act.outcome = f"challenger {release.digest[:12]}, version {release.version}"
    say(act.outcome)
    if release.digest in [row.digest for row in releases(case.name, "challenger")]:
        say(wake_delivery(case))  # also when another one is on its way: the newer supersedes it
