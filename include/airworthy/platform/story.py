"""How the demo tells its story: steps on the screen with elapsed time, and the same in ``var/demo.json``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass
class Step:
    """One step of the story; ``outcome`` is a sentence, ``figures`` are its numbers."""

    name: str
    status: str = "failed"
    outcome: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


class Story:
    """Runs steps one after the other, shows progress, and keeps the record up to date after each.

    Args:
        path: Where the record is written, as JSON.
        console: Where progress is shown.
    """

    def __init__(self, path: Path, console: Console) -> None:
        self.path, self.console = path, console
        self.steps: list[Step] = []
        self.started = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """One step: ``ok`` when its body ends, ``failed`` when it raises (the record is written either way)."""
        step, start = Step(name), time.monotonic()
        self.steps.append(step)
        self.console.rule(f"[bold]{len(self.steps)}. {name}[/]  [dim]{self.elapsed}[/]", align="left")
        try:
            yield step
            step.status = "ok"
        except BaseException as error:
            step.outcome = step.outcome or str(error).splitlines()[0][:300]
            raise
        finally:
            step.seconds = round(time.monotonic() - start, 1)
            self._write()
            colour = "green" if step.status == "ok" else "red"
            self.console.print(f"   [{colour}]{step.status}[/] {step.outcome} [dim]({step.seconds:.0f} s)[/]")

    @property
    def elapsed(self) -> str:
        """Time since the start, ``m:ss``."""
        seconds = int(time.monotonic() - self.started)
        return f"{seconds // 60}:{seconds % 60:02d}"

    def say(self, words: str) -> None:
        """One line of progress, with the time since the start."""
        self.console.print(f"   [dim]{self.elapsed}[/] {words}", highlight=False)

    def _write(self) -> None:
        record = {"steps": [asdict(s) for s in self.steps], "seconds": round(time.monotonic() - self.started, 1)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=1, default=str))
        temporary.replace(self.path)


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A plain table for the console."""
    result = Table(title=title, title_justify="left")
    for column in columns:
        result.add_column(column, overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result
