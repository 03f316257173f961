"""The watch after a promotion rolls back what surely fails too much, and nothing else."""

from __future__ import annotations

import numpy as np

from airworthy.delivery.promoting import fails_more_than
from airworthy.ledger.tallies import Tally


def test_too_many_failures_are_found_and_an_allowed_share_is_not() -> None:
    assert fails_more_than(0.05, Tally(40, 20), 0.05)
    assert not fails_more_than(0.05, Tally(10, 10), 0.05)  # too few to say
    assert not fails_more_than(0.05, Tally(1000, 50), 0.05)


def test_looking_all_the_time_at_the_allowed_share_rolls_back_rarely() -> None:
    rng, back = np.random.default_rng(3), 0
    for _ in range(300):
        requests = errors = 0
        for _ in range(40):
            requests, errors = requests + 10, errors + int(rng.binomial(10, 0.05))
            if fails_more_than(0.05, Tally(requests, errors), 0.05):
                back += 1
                break
    assert back <= 15
