"""The ``airworthy`` command: thin calls. What a command needs is imported when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from airworthy.commands import (
    actions,
    copies,
    data,
    decisions,
    features,
    lineage,
    platform,
    quarantine,
    recovery,
    releases,
    runs,
    stages,
)
from airworthy.commands.output import failure, translated
from airworthy.errors import AirworthyError

app = typer.Typer(
    name="airworthy",
    help="MLOps on Apache Airflow, done properly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
platform.add(app)
decisions.add(app)
actions.add(app)
copies.add(app)
lineage.add(app)
quarantine.add(app)
data.add(app)
recovery.add(app)
features.add(app)
runs.add(app)
stages.add(app)
releases.add(app)

DEBUG = "AIRWORTHY_DEBUG"


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("airworthy"))
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", envvar=DEBUG, help="Show where an error came from.")] = False,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"


def main() -> None:
    """Run the command line: an error of ours is what and next step in red, exit code 1, and a trace only on request."""
    try:
        app()
    except Exception as error:
        ours = error if isinstance(error, AirworthyError) else translated(error)
        if ours is None or os.environ.get(DEBUG):
            raise
        failure(ours)
        sys.exit(1)


if __name__ == "__main__":
    main()
