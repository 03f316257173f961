"""The split between champion and challenger, what happens when the challenger fails, and the counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from airworthy.errors import DataRejectedError, ServiceUnavailableError
from airworthy.serving.trial import WARM, Counts, Serving, Trial, attempt, position, score, score_unseen

KEYS = [f"order {n}" for n in range(20_000)]


class Model:
    """Stands where a loaded model stands; how real ones load and score is tested elsewhere."""

    version, model_digest = 1, "m"

    def __init__(self, digest: str, answer: Callable[[dict[str, Any]], float]) -> None:
        self.digest, self._answer = digest, answer

    def predict(self, values: list[dict[str, Any]]) -> np.ndarray:
        return np.array([self._answer(one) for one in values])


def serving(share: float, challenger: Callable[[dict[str, Any]], float] | None = lambda _: 0.9) -> Serving:
    model: Any = Model("b", challenger) if challenger else None
    champion: Any = Model("a", lambda one: one["p"])
    return Serving(champion, "a", 7, Trial("b", share, model))


def rows(count: int) -> list[dict[str, Any]]:
    return [{"n": n, "p": 0.1} for n in range(count)]


def raises(error: Exception) -> Callable[[dict[str, Any]], float]:
    def answer(_: dict[str, Any]) -> float:
        raise error

    return answer


def test_a_share_is_that_share_of_the_keys_and_a_larger_one_only_adds_keys() -> None:
    chosen = {share: {k for k in KEYS if Trial("b", share, None).has(k)} for share in (0.0, 0.05, 0.25, 0.5)}
    for share, keys in chosen.items():
        assert len(keys) / len(KEYS) == pytest.approx(share, abs=0.01)
    assert chosen[0.05] < chosen[0.25] < chosen[0.5]
    # Another challenger gets other keys, and a request without a key is the champion's.
    assert not {k for k in KEYS if position("c", k) < 0.05} <= chosen[0.5]
    assert not Trial("b", 0.999, None).has(None)


def test_each_request_is_answered_by_its_side_and_counted_there() -> None:
    counts = Counts()
    found = score(serving(0.3), rows(1000), KEYS[:1000], counts)
    expected = ["challenger" if position("b", key) < 0.3 else "champion" for key in KEYS[:1000]]
    assert [one.role for one in found] == expected
    assert {(one.role, one.model.digest, one.probability) for one in found} == {
        ("champion", "a", 0.1), ("challenger", "b", 0.9)
    }  # fmt: skip
    tallies = counts.untold()
    assert {key: (t.requests, t.errors) for key, t in tallies.items()} == {
        (7, role): (expected.count(role), 0) for role in ("champion", "challenger")
    }


@pytest.mark.parametrize("broken", [raises(RuntimeError("no")), lambda _: math.nan, lambda _: math.inf, lambda _: 1.5])
def test_whatever_is_wrong_with_the_challenger_the_champion_answers(broken: Any) -> None:
    counts = Counts()
    found = score(serving(0.3, broken), rows(1000), KEYS[:1000], counts)
    assert {(one.role, one.probability) for one in found} == {("champion", 0.1)}
    tally = counts.untold()[7, "challenger"]
    assert tally.requests == tally.errors == sum(position("b", key) < 0.3 for key in KEYS[:1000])


def test_for_a_challenger_that_is_not_loaded_the_champion_answers_and_nothing_is_counted() -> None:
    counts = Counts()
    found = score(serving(0.3, None), rows(1000), KEYS[:1000], counts)
    assert {(one.role, one.probability) for one in found} == {("champion", 0.1)}
    tallies = counts.untold()
    assert (7, "challenger") not in tallies
    assert tallies[7, "champion"].requests == sum(position("b", key) >= 0.3 for key in KEYS[:1000])


def test_one_request_that_the_challenger_cannot_score_is_one_error() -> None:
    def answer(one: dict[str, Any]) -> float:
        if one["n"] == 3:
            raise RuntimeError("this one")
        return 0.9

    tried = attempt(Trial("b", 0.0, Model("b", answer)), rows(6))  # type: ignore[arg-type]
    assert tried.probabilities == [0.9, 0.9, 0.9, None, 0.9, 0.9]


def test_what_the_champion_refuses_too_is_nobodys_error() -> None:
    refused = raises(DataRejectedError("x", [], next_step=""))
    champion: Any = Model("a", refused)
    trial: Any = Trial("b", 0.999, Model("b", refused))  # type: ignore[arg-type]
    counts = Counts()
    with pytest.raises(DataRejectedError):
        score(Serving(champion, "a", 7, trial), rows(5), KEYS[:5], counts)
    assert counts.untold() == {}


def test_what_the_champion_fails_is_its_own_error() -> None:
    counts = Counts()
    with pytest.raises(ServiceUnavailableError, match="no finite probability"):
        score(serving(0.0), [{"p": math.nan}], ["k"], counts)
    broken: Any = Model("a", raises(RuntimeError("it broke")))
    with pytest.raises(RuntimeError):
        score(Serving(broken, "a", 7), rows(2), KEYS[:2], counts)
    tally = counts.untold()[7, "champion"]
    assert (tally.requests, tally.errors) == (3, 3)


def times(counts: Counts, generation: int = 7) -> dict[str, int]:
    return {role: sum(t.model_ms) for (number, role), t in counts.untold().items() if number == generation}


def test_without_a_trial_nothing_is_timed() -> None:
    counts = Counts()
    for _ in range(WARM + 5):
        score(replace(serving(0.0), trial=None), rows(1), KEYS[:1], counts)
    assert times(counts) == {"champion": 0}
    assert counts.untold()[7, "champion"].requests == WARM + 5


def test_in_a_canary_one_request_of_a_group_is_timed_and_its_key_alone_decides_whose_time_it_is() -> None:
    ours = next(key for key in KEYS if position("b", key) < 0.3)
    theirs = next(key for key in KEYS if position("b", key) >= 0.3)
    asked: list[tuple[str, int]] = []

    def model(digest: str) -> Any:
        def answer(one: dict[str, Any]) -> float:
            asked.append((digest, one["n"]))
            return 0.1

        return Model(digest, answer)

    present = Serving(model("a"), "a", 7, Trial("b", 0.3, model("b")))
    for keys, by, expected in (
        ([ours, theirs, theirs], "b", {"challenger": 1, "champion": 0}),
        ([theirs, ours, ours], "a", {"challenger": 0, "champion": 1}),
        # Nobody but the champion may answer such a request: its time has no counterpart.
        ([None, ours, theirs], "", {"challenger": 0, "champion": 0}),
    ):
        counts = Counts()
        for _ in range(WARM + 1):
            asked.clear()
            score(present, rows(3), keys, counts)
        assert times(counts) == expected
        # Each is scored to be answered, and the first one twice more: a model that was not asked for long is warm by then.
        assert sorted(n for _, n in asked[:3]) == [0, 1, 2]
        assert asked[3:] == ([(by, 0)] * 2 if by else [])
        assert sum(t.requests for t in counts.untold().values()) == 3 * (WARM + 1)


def test_what_the_champion_answers_in_a_challengers_place_and_what_fails_is_not_timed() -> None:
    ours = next(key for key in KEYS if position("b", key) < 0.3)
    for broken in (None, raises(RuntimeError("no")), lambda _: math.nan):
        counts = Counts()
        for _ in range(WARM + 5):
            score(serving(0.3, broken), rows(1), [ours], counts)
        assert set(times(counts).values()) <= {0}
    assert score(serving(0.3), [], [], Counts()) == []


def test_a_shadow_and_its_control_are_timed_at_the_same_place_by_draw() -> None:
    counts, shadow = Counts(), serving(0.0)
    # What the champion answers is not timed: that is elsewhere.
    for _ in range(WARM + 5):
        score(shadow, rows(1), KEYS[:1], counts)
    assert times(counts) == {"champion": 0}
    for draw, expected in ((0.4, {"champion": 0, "shadow": 1}), (0.6, {"champion": 1, "shadow": 1})):
        for digest in ("a", "b"):
            for _ in range(WARM):
                counts.time(6, "shadow", digest, 1)
        assert score_unseen(shadow, rows(3), counts, lambda draw=draw: draw) == [0.9] * 3
        assert times(counts) == expected
    tallies = counts.untold()
    # The champion's second scoring answers nobody.
    assert (tallies[7, "champion"].requests, tallies[7, "shadow"].requests) == (WARM + 5, 6)
    # A champion that fails there is no matter: it has answered. And nobody is timed for a challenger that is not there.
    broken: Any = replace(shadow, model=Model("a", raises(RuntimeError("no"))))
    assert score_unseen(broken, rows(2), counts, lambda: 0.6) == [0.9] * 2
    assert score_unseen(serving(0.0, None), rows(2), counts, lambda: 0.6) == [None, None]
    assert times(counts) == {"champion": 1, "shadow": 1}


def test_a_tally_is_told_once_until_it_changes() -> None:
    counts = Counts()
    counts.add(7, "champion", 2)
    ((key, tally),) = counts.untold().items()
    assert key in counts.untold()  # the ledger did not take it: it is told again
    counts.told(key, tally)
    assert counts.untold() == {}
    counts.add(7, "champion", 1)
    assert counts.untold()[key].requests == 3
