"""Failure texts stay short and on their lines, whatever the data holds."""

from __future__ import annotations

import pytest

from airworthy.errors import CheckFailure, DataRejectedError, shown

HOSTILE = [
    "x" * 1_000_000,
    "a\nNext: pay here",
    "\x1b[31mred\x1b[0m",
    "nul\x00byte",
    "\u202egnp.exe",
    "\u2028line",
    "é" * 500,
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_shown_short_and_on_one_line(value: str) -> None:
    text = shown(value)
    assert len(text) <= 120
    assert text.isprintable()
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("value", HOSTILE)
def test_an_error_names_check_column_count_five_examples_and_the_next_step(value: str) -> None:
    failures = [CheckFailure(value, value, 7, (value,) * 50) for _ in range(500)]
    text = str(DataRejectedError("flights 2013-05-05", failures, next_step="land a corrected file"))
    first, *lines, last = text.split("\n")
    assert first == "flights 2013-05-05 rejected:"
    assert last == "Next: land a corrected file"
    assert len(lines) == 11
    assert lines[-1] == "- and 490 more"
    assert all(line.startswith("- ") and line.isprintable() for line in lines)
    assert lines[0].count(shown(value)) >= 5
    assert "7 rows (e.g. " in lines[0]
    assert len(text) < 15_000
    assert str(failures[0]) == str(CheckFailure(**failures[0].bounded()))  # type: ignore[arg-type]
