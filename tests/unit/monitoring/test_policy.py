"""When to ask for a training, rule by rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airworthy.config.operations_spec import Monitoring
from airworthy.config.training_spec import Training
from airworthy.monitoring.policy import DataFacts, WindowFacts, causes, hold

NOW = datetime(2013, 5, 1, tzinfo=UTC)
SPEC = Monitoring(violations=2, of_windows=3, drift_share=0.5, max_metric_loss=0.03)
TRAINING = Training(
    feature_service="x_v1", new_data_intervals=28, cooldown_days=7, max_age_days=90, holdout_days=28, min_train_days=28
)
FRESH = DataFacts(now=NOW, champion_since=NOW - timedelta(days=20), published=10, fresh=10)


def window(week: int, drift: float | None = 0.0, loss: float | None = 0.0, champion: str | None = "c1") -> WindowFacts:
    start = datetime(2013, 4, 1, tzinfo=UTC) + timedelta(weeks=week)
    return WindowFacts(
        first=f"{start:%Y-%m-%d}",
        last=f"{start + timedelta(days=6):%Y-%m-%d}",
        champion=champion,
        drift_share=drift,
        metric_loss=loss,
    )


def test_a_quiet_window_asks_for_nothing():
    assert causes(window(2), [window(1), window(0)], FRESH, SPEC, TRAINING) == {}


@pytest.mark.parametrize(
    ("weeks", "asks"),
    [
        ([0.6], False),  # one alone is not enough
        ([0.6, 0.6], True),
        ([0.6, 0.0, 0.6], True),  # two of the last three
        ([0.6, 0.0, 0.0, 0.6], False),  # the older one is too long ago
        ([0.6, 0.6, 0.0], False),  # the newest does not violate
        ([0.5, 0.5], True),  # the bound itself violates
        ([0.49, 0.9], False),
        ([None, 0.9], False),  # not measured is not a violation
        ([0.9, None], False),
    ],
)
def test_drift_asks_by_k_of_n(weeks, asks):
    facts = [window(i, drift=d) for i, d in enumerate(weeks)]
    found = causes(facts[-1], facts[-2::-1] if len(facts) > 1 else [], FRESH, SPEC, TRAINING)
    assert set(found) == ({"drift"} if asks else set())


def test_violations_of_another_champion_do_not_count():
    assert causes(window(1, drift=0.9), [window(0, drift=0.9, champion="c0")], FRESH, SPEC, TRAINING) == {}
    # They do not push out the windows of this champion either.
    earlier = [window(2, champion="c0"), window(1, champion="c0"), window(0, drift=0.9)]
    assert set(causes(window(3, drift=0.9), earlier, FRESH, SPEC, TRAINING)) == {"drift"}


def test_decay_and_drift_add_up_and_the_newest_names_the_cause():
    found = causes(window(1, loss=0.05), [window(0, drift=0.9)], FRESH, SPEC, TRAINING)
    assert set(found) == {"decay"}
    assert found["decay"]["metric_loss"] == 0.05
    assert found["decay"]["violating_windows"] == [window(1).key, window(0).key]
    assert set(causes(window(1, drift=0.9, loss=0.05), [window(0, loss=0.04)], FRESH, SPEC, TRAINING)) == {
        "drift",
        "decay",
    }
    assert causes(window(1, loss=0.03), [window(0, loss=0.05)], FRESH, SPEC, TRAINING) == {}


def test_a_window_judged_again_after_a_later_one_does_not_ask():
    late = FRESH.model_copy(update={"superseded": True})
    assert causes(window(1, drift=0.9), [window(0, drift=0.9)], late, SPEC, TRAINING) == {}


@pytest.mark.parametrize(("days", "asks"), [(90, False), (90.1, True)])
def test_an_old_champion_asks(days, asks):
    data = FRESH.model_copy(update={"champion_since": NOW - timedelta(days=days)})
    assert ("age" in causes(window(0), [], data, SPEC, TRAINING)) is asks


@pytest.mark.parametrize(("published", "asks"), [(27, False), (28, True)])
def test_new_data_asks(published, asks):
    data = FRESH.model_copy(update={"published": published})
    found = causes(window(0), [], data, SPEC, TRAINING)
    assert ("new_data" in found) is asks


@pytest.mark.parametrize(
    ("published", "fresh", "asks"),
    [(55, 55, False), (56, 56, True), (90, 0, False)],  # the last: a training has seen all of it
)
def test_without_a_champion_enough_unseen_data_asks(published, fresh, asks):
    data = DataFacts(now=NOW, published=published, fresh=fresh)
    found = causes(window(0, drift=None, loss=None, champion=None), [], data, SPEC, TRAINING)
    assert set(found) == ({"new_data"} if asks else set())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"open_requests": 1}, "open already"),
        ({"last_training": NOW - timedelta(days=6, hours=23)}, "cool-down"),
        ({"last_training": NOW - timedelta(days=7)}, None),
        ({"champion_since": None, "undecided": 3}, "3 landed intervals"),
        ({"undecided": 3}, None),  # with a champion nothing waits for the backlog
    ],
)
def test_what_holds_a_request_back(change, why):
    said = hold(FRESH.model_copy(update=change), TRAINING)
    assert said is None if why is None else why in said
