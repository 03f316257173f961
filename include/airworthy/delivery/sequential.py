"""Is the challenger's rate of something bad above the champion's? A test that may be looked at after every request.

**Method.** An e-process for two binomials in strata (the safe Cochran-Mantel-Haenszel test; Turner and Grünwald, "Safe
sequential testing and effect estimation in stratified count data", AISTATS 2023). A look is a stratum: what came since
the look before. Given how many of its requests were bad, the number of them that are the challenger's is
hypergeometric if both rates are equal, whatever the rate is and however it moves from look to look, and non-central
hypergeometric with parameter w if the challenger's odds are w times the champion's. The evidence of a look for w against
the tolerated w0 is the ratio of those two probabilities; evidence is multiplied over looks, and averaged over some w.

**Error rate.** As long as the odds ratio is at most the tolerated one, the evidence is a non-negative supermartingale that
begins at 1: the probability that it ever reaches 1/a, at whatever look one stops, is at most a (Ville, 1939). So one may
look all the time, stop when one likes, and go on after a kill from the evidence that was written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import gammaln, logsumexp

# What is looked for: odds so many times the tolerated ones. The average over them costs log(6) in the worst case.
ALTERNATIVES = (1.5, 2.0, 4.0, 8.0, 16.0, 64.0)

Rate = tuple[int, int]
"""(requests, how many of them were bad)"""


@dataclass(frozen=True)
class Evidence:
    """What was counted so far, and what it says against "the challenger is not worse".

    Attributes:
        challenger, champion: Counts up to the last look.
        logs: Logarithm of the evidence for each of ``ALTERNATIVES``.
    """

    challenger: Rate = (0, 0)
    champion: Rate = (0, 0)
    logs: tuple[float, ...] = field(default=(0.0,) * len(ALTERNATIVES))

    @property
    def log_value(self) -> float:
        """The evidence, as a logarithm; reaching log(1/a) has a probability of at most a if the challenger is not worse."""
        return float(logsumexp(self.logs) - np.log(len(self.logs)))

    def look(self, challenger: Rate, champion: Rate, *, tolerated: float = 1.0) -> Evidence:
        """The evidence after a look.

        Args:
            challenger, champion: Counts since the beginning of the step, this look included. Counts that fell (a worker's
                tally was lost) are taken as a new beginning and say nothing.
            tolerated: Odds ratio up to which the challenger is not called worse.
        """
        new = [
            now - before
            for now, before in zip((*challenger, *champion), (*self.challenger, *self.champion), strict=True)
        ]
        seen = replace(self, challenger=challenger, champion=champion)
        asked, bad, asked_champion, bad_champion = new
        total = bad + bad_champion
        if min(new) < 0 or total == 0 or not asked or not asked_champion:
            return seen
        gained = _log_ratios(bad, asked, asked_champion, total, tolerated)
        return replace(seen, logs=tuple(before + float(more) for before, more in zip(self.logs, gained, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for the ledger."""
        return {"challenger": list(self.challenger), "champion": list(self.champion), "logs": list(self.logs)}

    @classmethod
    def of(cls, content: dict[str, Any] | None) -> Evidence:
        """From ``to_json``; a new one from nothing."""
        if not content:
            return cls()
        (a, b), (c, d) = content["challenger"], content["champion"]
        return cls((int(a), int(b)), (int(c), int(d)), tuple(map(float, content["logs"])))


def _log_ratios(bad: int, asked: int, asked_champion: int, total: int, tolerated: float) -> np.ndarray:
    """Log of P(bad | alternative) / P(bad | tolerated) for each alternative, float64 [len(ALTERNATIVES)].

    Both probabilities are non-central hypergeometric, given the margins of the 2x2 table.
    """
    k = np.arange(max(0, total - asked_champion), min(asked, total) + 1)
    ways = -(gammaln(k + 1) + gammaln(asked - k + 1) + gammaln(total - k + 1) + gammaln(asked_champion - total + k + 1))
    odds = np.log(tolerated * np.array([1.0, *ALTERNATIVES]))
    norms = logsumexp(ways + np.outer(odds, k), axis=1)
    return np.asarray(bad * (odds[1:] - odds[0]) - (norms[1:] - norms[0]))


def threshold(tests: int, false_alarm: float) -> float:
    """The log evidence at which one of so many tests stops, so that all of them together do so falsely in ``false_alarm``.

    A union bound (Bonferroni) over metrics and steps.
    """
    return float(np.log(tests / false_alarm))
