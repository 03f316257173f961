"""How commands answer: tables and records on standard output, errors in red on standard error."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airworthy.errors import AirworthyError, ServiceUnavailableError

if TYPE_CHECKING:
    from airworthy.config import UseCase
    from airworthy.ledger.audit import Acting
    from airworthy.records import Record

UseCaseName = Annotated[str, typer.Argument(metavar="USE_CASE", help="Name of the use case, such as flight_delays.")]
Why = Annotated[str, typer.Option("--why", help="The reason; it is kept with what comes of it.")]


def failure(error: AirworthyError) -> None:
    """What happened, in red, and the next step."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text(f"Error: {error.what}", style="red"))
    console.print(Text(f"Next: {error.next_step}"))


def translated(error: Exception) -> AirworthyError | None:
    """An error of a library that has an everyday cause, in our words; None for any other."""
    if "sqlalchemy" in sys.modules:
        from sqlalchemy.exc import OperationalError

        if isinstance(error, OperationalError):
            words = str(error.orig).strip().splitlines()[0]
            return ServiceUnavailableError(
                f"the database does not answer: {words}", next_step="run `airworthy up`, or `airworthy status` to see"
            )
    return None


def say(words: str) -> None:
    """A line of progress."""
    typer.echo(words)


def show_record(record: Record) -> None:
    """A record, as JSON."""
    show_json(record.to_json())


def show_json(value: Any) -> None:
    """A value, as JSON."""
    import json

    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def show_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table; long cells are folded, never cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    Console().print(table)


def use_case(name: str) -> UseCase:
    """The use case, or an error that names those there are."""
    from airworthy.config import get_use_case

    return get_use_case(name)


def run_name() -> str:
    """Who does this, for claims and logs: ``cli/<user>``."""
    return f"cli/{_user()}"


def actor() -> str:
    """The person behind this command, for the log of what people did: the system's user, and ``AIRWORTHY_WHO`` if given."""
    from airworthy.config import Settings, get_settings

    name = get_settings().who
    return _user() if name == Settings.model_fields["who"].default else f"{_user()} ({name})"


@contextmanager
def by_hand(action: str, use_case: str = "", subject: str = "", why: str = "") -> Iterator[Acting]:
    """What happens within is an action of this person: a row of the ledger, with what came of it (``airworthy audit``)."""
    from airworthy.ledger.audit import acting

    with acting(actor(), action, use_case, subject, why, "shell") as act:
        yield act


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"
