"""The test may be looked at all the time, and its evidence is what the docstring says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom, nchypergeom_fisher

from airworthy.delivery.sequential import ALTERNATIVES, Evidence, threshold


def test_the_evidence_of_a_look_is_the_ratio_of_two_hypergeometric_probabilities() -> None:
    evidence = Evidence().look((30, 7), (70, 5), tolerated=1.25)
    for times, log in zip(ALTERNATIVES, evidence.logs, strict=True):
        worse = nchypergeom_fisher.pmf(7, 100, 12, 30, 1.25 * times)
        tolerated = nchypergeom_fisher.pmf(7, 100, 12, 30, 1.25)
        assert log == pytest.approx(np.log(worse / tolerated), abs=1e-6)


@pytest.mark.parametrize("tolerated", [1.0, 1.5])
def test_under_equal_rates_a_look_multiplies_the_evidence_by_at_most_one_on_average(tolerated: float) -> None:
    # Given any look of which the total is known, its outcomes weighted by their probability if both rates are equal.
    asked, asked_champion, bad = 40, 60, 9
    outcomes = range(bad + 1)
    weights = [hypergeom.pmf(k, asked + asked_champion, bad, asked) for k in outcomes]
    looks = [Evidence().look((asked, k), (asked_champion, bad - k), tolerated=tolerated) for k in outcomes]
    # Then every alternative's evidence is on average 1, or less where more than equal is tolerated.
    for j in range(len(ALTERNATIVES)):
        mean = sum(w * np.exp(e.logs[j]) for w, e in zip(weights, looks, strict=True))
        assert mean <= 1 + 1e-9
        if tolerated == 1.0:
            assert mean == pytest.approx(1)


def test_looking_after_every_few_requests_aborts_an_equal_one_rarely_and_a_worse_one_soon() -> None:
    rng, limit = np.random.default_rng(7), threshold(1, 0.05)

    def aborted(challenger: float, champion: float) -> bool:
        evidence, n, x, m, y = Evidence(), 0, 0, 0, 0
        for _ in range(60):
            n, x, m, y = n + 5, x + rng.binomial(5, challenger), m + 15, y + rng.binomial(15, champion)
            evidence = evidence.look((n, x), (m, y))
            if evidence.log_value >= limit:
                return True
        return False

    assert sum(aborted(0.1, 0.1) for _ in range(300)) <= 15  # of 300, 5 %
    assert sum(aborted(0.3, 0.05) for _ in range(50)) >= 48


def test_what_was_written_down_goes_on_as_if_nobody_had_been_killed() -> None:
    first = Evidence().look((10, 3), (20, 1))
    again = Evidence.of(first.to_json())
    assert again == first
    assert again.look((20, 6), (40, 2)) == first.look((20, 6), (40, 2))


def test_counts_that_fall_or_say_nothing_are_no_evidence() -> None:
    first = Evidence().look((10, 3), (20, 1))
    fallen = first.look((4, 1), (5, 0))
    assert (fallen.logs, fallen.challenger) == (first.logs, (4, 1))
    assert first.look((20, 3), (40, 1)).logs == first.logs  # no more errors
    assert Evidence().look((10, 5), (0, 0)).logs == (0.0,) * len(ALTERNATIVES)  # nothing to compare with
