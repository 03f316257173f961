"""Figures of a load test, and which releases a rollback goes to."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from airworthy.config.operations_spec import Delivery
from airworthy.delivery.choices import _standing
from airworthy.delivery.load import Load, beyond


def test_percentiles_are_latencies_that_were_measured() -> None:
    load = Load(seconds=[n / 1000 for n in range(100, 0, -1)], answers=[{}] * 100, elapsed=2.0)
    assert load.figures() == {"requests": 100.0, "errors": 0.0, "p50_ms": 51.0, "p99_ms": 100.0, "qps": 50.0}


def test_without_an_answer_the_latency_is_infinite_and_no_bound_is_kept() -> None:
    load = Load(errors=["status 500"], elapsed=1.0)
    assert not load.percentile_ms(0.99) <= 1e9
    assert load.figures()["errors"] == 1.0


MEASURED = Load(seconds=[0.001] * 98 + [0.05] * 2, answers=[{}] * 100, errors=["status 500: no"], elapsed=2.0)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"max_load_errors": 0}, "1 of 101 requests failed under load: status 500"),
        ({"max_p50_ms": 0.9}, "p50 is 1.0 ms under load, the bound is 0.9 ms"),
        ({"max_p99_ms": 49.0}, "p99 is 50.0 ms under load, the bound is 49.0 ms"),
        ({"min_qps": 51.0}, "50.0 requests a second under load, at least 51.0"),
        ({"max_p50_ms": 1.0, "max_p99_ms": 50.0, "min_qps": 50.0}, ""),
    ],
)
def test_each_bound_of_the_spec_is_held_against_its_figure(bounds: dict[str, float], words: str) -> None:
    found = beyond(Delivery(**{"max_load_errors": 1} | bounds), MEASURED)
    assert (found == words) if not words else found.startswith(words)


def test_without_an_answer_every_bound_is_broken() -> None:
    for bounds in ({"max_p50_ms": 1e9}, {"max_p99_ms": 1e9}, {"min_qps": 1e-9}):
        assert beyond(Delivery(**bounds), Load(elapsed=1.0))


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
