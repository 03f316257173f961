"""The reference page of the gate lists every check and every mutation that the code has, with bounds and defaults."""

from __future__ import annotations

from pathlib import Path

from airworthy.config.gate_spec import Behaviour, Gate
from airworthy.evaluation.catalogue import KINDS, Kind
from gate_mutations import MUTATIONS

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "gate.md"
SENSE = {"at least": "at least", "at most": "at most", "above": "above", "holds": "must hold"}


def check_row(kind: Kind) -> str:
    section, _, key = kind.key.rpartition(".")
    fields = (Behaviour if section else Gate).model_fields
    bound = f"{SENSE[kind.sense]} `{'-' if kind.minus else ''}{kind.key}`" if key else SENSE[kind.sense]
    default = f"{fields[key].default:g}" if key else ""
    return f"| {kind.name} | {bound} | {default} | {kind.reason} |"


def mutation_row(name: str) -> str:
    found = MUTATIONS[name]
    return f"| {name} | {', '.join(sorted(found.checks))} | {'no' if found.alone else 'yes'} |"


def tables() -> tuple[list[str], list[str]]:
    return [check_row(kind) for kind in KINDS], [mutation_row(name) for name in MUTATIONS]


def test_the_page_is_in_step_with_the_code() -> None:
    lines = [*PAGE.read_text(encoding="utf-8").splitlines(), ""]
    checks, mutations = tables()
    start = lines.index("| Check | Bound | Default | Why |") + 2
    assert lines[start : start + len(checks) + 1] == [*checks, ""]
    start = lines.index("| What is wrong | Refused by | Others may fail too |") + 2
    assert lines[start : start + len(mutations) + 1] == [*mutations, ""]
