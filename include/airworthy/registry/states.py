"""The states of a release, and what goes with each: the alias in MLflow and the row of the promotion log.

``docs/reference/releases.md`` shows this table; a test holds both against what really happens.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    """One state of a release.

    Attributes:
        name: As in the ledger.
        alias: Alias in MLflow that points at its version, and when.
        log: Its row in the promotion log.
        means: In words.
        serves: Whether the prediction service may load it.
    """

    name: str
    alias: str
    log: str
    means: str
    serves: bool


STATES = (
    State(
        "challenger", "`challenger`, the newest one", "none",
        "it passed the gate and waits for its delivery", False,
    ),
    State(
        "champion", "`champion`", "the newest row leads to it",
        "it answers", True,
    ),
    State(
        "retired", "`previous`, if the newest row leads away from it", "an earlier row led to it; none if it was superseded",
        "it served before and can be rolled back to, or a newer challenger took its place", False,
    ),
    State(
        "refused", "none", "none; if workers could not load it, a row led to it and a rollback away again",
        "its delivery turned it down, with the reason", False,
    ),
    State(
        "removed", "none", "as before: the log keeps its rows",
        "retention removed its files; `airworthy reproduce` can make it again", False,
    ),
)  # fmt: skip
NAMES = tuple(state.name for state in STATES)
GONE = ("refused", "removed")


def table() -> str:
    """The table of the reference, as Markdown."""
    lines = ["| state | alias in MLflow | row in the promotion log | means |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| `{s.name}` | {s.alias} | {s.log} | {s.means} |" for s in STATES)])
