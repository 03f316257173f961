"""Figures of a load test, and which releases a rollback goes to."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from airworthy.delivery.choices import _standing
from airworthy.delivery.load import Load


def test_percentiles_are_latencies_that_were_measured() -> None:
    load = Load(seconds=[n / 1000 for n in range(100, 0, -1)], answers=[{}] * 100, elapsed=2.0)
    assert load.figures() == {"requests": 100.0, "errors": 0.0, "p50_ms": 51.0, "p99_ms": 100.0, "qps": 50.0}


def test_without_an_answer_the_latency_is_infinite_and_no_bound_is_kept() -> None:
    load = Load(errors=["status 500"], elapsed=1.0)
    assert not load.percentile_ms(0.99) <= 1e9
    assert load.figures()["errors"] == 1.0


@dataclass
class Row:
    action: str
    to_digest: str


@pytest.mark.parametrize(
    ("log", "standing"),
    [
        ("", ""),
        ("pA", "A"),
        ("pA pB pC", "ABC"),
        ("pA pB pC rB", "AB"),
        ("pA pB pC rB rA", "A"),
        ("pA pB rA pC", "AC"),
        ("pA pB rA rB", "AB"),
        ("pA pB pC rA rC", "AC"),
        ("pA pB pA", "BA"),
    ],
)
def test_a_rollback_takes_away_what_came_after_the_release_that_it_goes_to(log: str, standing: str) -> None:
    rows = [Row("promote" if step[0] == "p" else "rollback", step[1]) for step in log.split()]
    assert "".join(_standing(rows)) == standing  # type: ignore[arg-type]
