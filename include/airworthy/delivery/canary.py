"""What one look at a trial decides: hold, go on to the next step, abort, or give up as inconclusive.

Four rates are held against the concurrent champion's, each by its own sequential test (`airworthy.delivery.sequential`):
requests that failed; requests whose model time is above the champion's median, and above its ninth decile, when the
challenger is allowed ``max_slowdown`` times as long; decisions that cost, where labels are in. All of them in all steps
together abort a challenger that is not worse with a probability of at most ``max_false_abort``: a union bound.

A step goes on only with evidence: enough requests of both releases, and enough model times of both that were measured after
the bounds were set. Workers answer requests in flight together and time one of such a group, so that many requests may be few
times.

Two things are no matter of chance: a challenger that a worker cannot load, and a served score that is not the release's own
of the same features. One such abort is right whenever it happens. Score distributions are never held against the champion's:
a retrained model should differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from airworthy.config.operations_spec import Delivery
from airworthy.delivery.sequential import Evidence, Rate, threshold

METRICS = ("errors", "median model time", "slowest model times", "costly decisions")
QUANTILES = {"median model time": 0.5, "slowest model times": 0.9}
# A quantile of fewer times than these is a guess.
MIN_TIMES = 30
ALPHA_OF_NO_FAULT = 0.05
T = TypeVar("T")


@dataclass(frozen=True)
class Arm:
    """What one release did in a step so far.

    Attributes:
        requests, errors: Requests it was asked, and those that it failed.
        times: Counts of its model time, for each bucket of ``Step.bounds``.
        labelled, losses: Its decisions whose outcome is known, and how many of them cost (``losses_of``).
    """

    requests: int = 0
    errors: int = 0
    times: tuple[int, ...] = ()
    labelled: int = 0
    losses: int = 0


@dataclass(frozen=True)
class Seen:
    """What a step has seen so far.

    Attributes:
        challenger, champion: The two releases, at the same time.
        compared, differing, worst: Served scores of the challenger that were computed again from the logged features, how
            many of them differ, and by how much at most.
        problem: Why workers cannot serve it, in words.
        unread: Why workers could not even get at it, which says nothing about it.
        waiting: A live worker that does not serve it yet, for whatever reason.
    """

    challenger: Arm = field(default_factory=Arm)
    champion: Arm = field(default_factory=Arm)
    compared: int = 0
    differing: int = 0
    worst: float = 0.0
    problem: str = ""
    unread: str = ""
    waiting: str = ""


@dataclass(frozen=True)
class Decision:
    """What to do now, why, and the figures behind it. ``unread``: it cannot be tried now, and nothing is said about it."""

    kind: Literal["hold", "go on", "abort", "inconclusive", "unread"]
    words: str
    figures: dict[str, float]


class Step:
    """One step of a trial: it takes what was seen so far, look by look, and decides.

    Args:
        spec: Bounds of the use case.
        bounds: Upper bounds in milliseconds of the buckets of model time, rising; times above the last have a bucket too.
        state: What ``state`` gave before, so that a trial goes on after a kill; None begins.
    """

    def __init__(self, spec: Delivery, bounds: Sequence[float], state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._spec, self._bounds = spec, tuple(bounds)
        self._evidence = {name: Evidence.of(state.get(name)) for name in METRICS}
        self._times: dict[str, list[int]] = state.get("times", {})
        # Model times are counted above bounds that move with the champion: the rates grow look by look.
        self._limit = threshold(len(METRICS) * max(1, len(spec.phases)), spec.max_false_abort)

    @property
    def state(self) -> dict[str, Any]:
        """All that the step knows, as JSON."""
        return {name: evidence.to_json() for name, evidence in self._evidence.items()} | {"times": self._times}

    def look(self, seen: Seen, waited_s: float) -> Decision:
        """Take what was seen since the beginning of the step, and decide.

        Args:
            seen: Counts since the beginning of the step, not since the last look.
            waited_s: Seconds since the beginning of the step.
        """
        ours, theirs = seen.challenger, seen.champion
        self._count("errors", (ours.requests, ours.errors), (theirs.requests, theirs.errors))
        self._count("costly decisions", (ours.labelled, ours.losses), (theirs.labelled, theirs.losses))
        self._count_times(ours.times, theirs.times)
        figures = self._figures(seen)
        words = seen.problem or self._differs(seen) or self._worse(seen)
        if words:
            return Decision("abort", words, figures)
        asked = f"{ours.requests} requests of the challenger, {theirs.requests} of the champion"
        if seen.unread:
            return Decision("unread", seen.unread, figures)
        lacking = self._lacking(ours, theirs) or (f"all workers with it ({seen.waiting})" if seen.waiting else "")
        if not lacking:
            return Decision("go on", f"nothing found in {asked}{self._unseen(seen)}", figures)
        idle_s = self._spec.idle_wait_s or self._spec.longest_wait_s
        if not ours.requests and not theirs.requests and not seen.waiting and waited_s >= idle_s:
            return Decision("inconclusive", f"nobody asked anything in {waited_s:.0f} s", figures)
        if waited_s >= self._spec.longest_wait_s:
            return Decision("inconclusive", f"{asked} in {waited_s:.0f} s, {lacking} are needed", figures)
        return Decision("hold", asked, figures)

    def _lacking(self, ours: Arm, theirs: Arm) -> str:
        """What is not enough to say that nothing is found, in words: nobody to compare with is no evidence."""
        requests, timed = self._spec.min_requests, self._spec.min_timed
        words = [f"{requests} of the {name}" for name, arm in _named(ours, theirs) if arm.requests < requests]
        # Both quantiles count the same times.
        evidence = self._evidence[next(iter(QUANTILES))]
        compared = _named(evidence.challenger[0], evidence.champion[0])
        words += [f"{timed} timed ones of the {name} after the bounds were set" for name, n in compared if n < timed]
        return " and ".join(words)

    def _count(self, name: str, ours: Rate, theirs: Rate) -> None:
        tolerated = self._spec.tolerated_cost if name == "costly decisions" else 1.0
        self._evidence[name] = self._evidence[name].look(ours, theirs, tolerated=tolerated)

    def _count_times(self, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
        before = self._times or {"challenger": [0] * len(ours), "champion": [0] * len(theirs)}
        self._times = {"challenger": list(ours), "champion": list(theirs)}
        if sum(before["champion"]) < MIN_TIMES:
            return
        new_ours = [now - old for now, old in zip(ours, before["challenger"], strict=True)]
        new_theirs = [now - old for now, old in zip(theirs, before["champion"], strict=True)]
        if min((*new_ours, *new_theirs), default=0) < 0:
            return
        for name, share in QUANTILES.items():
            # The bound is set by what was seen before this look, or the look would choose its own question.
            champion_bucket = _bucket_of_quantile(before["champion"], share)
            challenger_bucket = self._bucket_of(champion_bucket)
            evidence = self._evidence[name]
            (a, b), (c, d) = evidence.challenger, evidence.champion
            self._count(
                name,
                (a + sum(new_ours), b + sum(new_ours[challenger_bucket + 1 :])),
                (c + sum(new_theirs), d + sum(new_theirs[champion_bucket + 1 :])),
            )

    def _bucket_of(self, champion_bucket: int) -> int:
        """The bucket whose upper bound is at least ``max_slowdown`` times that of another; the last one has no bound."""
        last = len(self._bounds)
        slow = self._bounds[champion_bucket] * self._spec.max_slowdown if champion_bucket < last else float("inf")
        return next((i for i, bound in enumerate(self._bounds) if bound >= slow), last)

    def _differs(self, seen: Seen) -> str:
        if not seen.differing:
            return ""
        return (
            f"{seen.differing} of {seen.compared} served scores are not the release's own of the same features, by up to "
            f"{seen.worst:.3g}"
        )

    def _worse(self, seen: Seen) -> str:
        worst = max(METRICS, key=lambda name: self._evidence[name].log_value)
        evidence = self._evidence[worst]
        if evidence.log_value < self._limit:
            return ""
        (asked, bad), (asked_champion, bad_champion) = evidence.challenger, evidence.champion
        ours, theirs = bad / asked if asked else 0.0, bad_champion / asked_champion if asked_champion else 0.0
        slow = f" (the challenger's above {self._spec.max_slowdown:g} times the bound)" if worst in QUANTILES else ""
        return (
            f"{worst}: {bad} of {asked} ({ours:.1%}) against the champion's {bad_champion} of {asked_champion} "
            f"({theirs:.1%}){slow}"
        )

    def _unseen(self, seen: Seen) -> str:
        """What "nothing found" does not cover, in words."""
        words = []
        if seen.compared:
            share = 1 - ALPHA_OF_NO_FAULT ** (1 / seen.compared)
            words.append(f"{seen.compared} served scores are the release's own (at most {share:.2%} differ)")
        if not seen.challenger.labelled:
            words.append("no labels are in")
        return "; " + ", ".join(words) if words else ""

    def _figures(self, seen: Seen) -> dict[str, float]:
        found: dict[str, float] = {
            "requests": seen.challenger.requests, "errors": seen.challenger.errors,
            "champion_requests": seen.champion.requests, "champion_errors": seen.champion.errors,
            "compared": seen.compared, "labelled": seen.challenger.labelled, "limit": round(self._limit, 3),
        }  # fmt: skip
        timed = self._evidence[next(iter(QUANTILES))]
        found |= {"timed": timed.challenger[0], "champion_timed": timed.champion[0]}
        return found | {f"evidence: {name}": round(self._evidence[name].log_value, 3) for name in METRICS}


def _named(challenger: T, champion: T) -> tuple[tuple[str, T], tuple[str, T]]:
    return ("challenger", challenger), ("champion", champion)


def _bucket_of_quantile(counts: Sequence[int], share: float) -> int:
    """The first bucket up to which at least a share of the counts lies."""
    wanted, so_far = share * sum(counts), 0
    for index, count in enumerate(counts):
        so_far += count
        if so_far >= wanted:
            return index
    return len(counts) - 1
