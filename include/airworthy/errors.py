"""The one error hierarchy. Each message says what happened, to which thing, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MAX_FAILURES = 10
MAX_EXAMPLES = 5
MAX_TEXT = 120
MAX_CHECK = 400


def shown(value: object) -> str:
    """A value as it is shown to people: short, on one line, without control characters."""
    text = str(value)[: MAX_TEXT + 1]
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= MAX_TEXT else plain[: MAX_TEXT - 3] + "..."


class AirworthyError(Exception):
    """Base of every error that the platform raises on purpose.

    Args:
        what: What happened, to which thing.
        next_step: What the reader should do about it.
    """

    def __init__(self, what: str, *, next_step: str) -> None:
        super().__init__(f"{what}\nNext: {next_step}")
        self.what = what
        self.next_step = next_step


class ConfigurationError(AirworthyError):
    """Raised when settings or a use case's YAML cannot be used."""


class NotLandedError(AirworthyError):
    """Raised when an interval's files are not in the landing zone."""


class SupersededError(AirworthyError):
    """Raised when a newer claim on the same work exists: this writer must stand down."""


class ReleaseError(AirworthyError):
    """Raised when a release folder is missing, altered, or fails its golden vectors."""


class StaleVerdictError(AirworthyError):
    """Raised when the champion is no longer the one that the verdict was measured against."""


class PausedError(AirworthyError):
    """Raised when the kill switch is pulled: promotions, shadow and canary wait; rollback and abort go on."""


class NoChampionError(AirworthyError):
    """Raised when something needs a champion and none serves yet."""


class ServiceUnavailableError(AirworthyError):
    """Raised when a service of the platform does not answer in time."""


def _words(check: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in check[:MAX_CHECK])
    return plain if len(check) <= MAX_CHECK else plain[:-3] + "..."


@dataclass(frozen=True)
class CheckFailure:
    """One failed check, bounded: never more than a few short examples.

    Attributes:
        check: What was checked, in words or as the expectation's name.
        column: The column, or None for a check of the whole table or file.
        count: Rows that failed (0 where rows do not apply).
        examples: Some of the offending values.
    """

    check: str
    column: str | None = None
    count: int = 0
    examples: tuple[object, ...] = ()

    def __str__(self) -> str:
        where = f"{shown(self.column)}: " if self.column else ""
        rows = f", {self.count} rows" if self.count else ""
        examples = ", ".join(shown(e) for e in self.examples[:MAX_EXAMPLES])
        return f"{where}{_words(self.check)}{rows}" + (f" (e.g. {examples})" if examples else "")

    def bounded(self) -> dict[str, object]:
        """The failure as JSON values that are kept beside a refused file."""
        examples = [shown(e) for e in self.examples[:MAX_EXAMPLES]]
        column = shown(self.column) if self.column else None
        return {"check": _words(self.check), "column": column, "count": self.count, "examples": examples}


class DataRejectedError(AirworthyError):
    """Raised when an interval cannot be published: schema skew, a damaged file, too many bad rows.

    Retrying cannot help; the file is kept in quarantine.

    Args:
        subject: The file or table, with its interval.
        failures: What failed, any number; the text shows the first ten.
        next_step: What an operator should do.
        links: Pages about it, such as Data Docs, by what they are called on a task.
    """

    def __init__(
        self, subject: str, failures: Iterable[CheckFailure], *, next_step: str, links: Mapping[str, str] | None = None
    ) -> None:
        self.failures = tuple(failures)
        self.links = dict(links or {})
        lines = [f"- {f}" for f in self.failures[:MAX_FAILURES]]
        if len(self.failures) > MAX_FAILURES:
            lines.append(f"- and {len(self.failures) - MAX_FAILURES} more")
        super().__init__(f"{subject} rejected:\n" + "\n".join(lines), next_step=next_step)
