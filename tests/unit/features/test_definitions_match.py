"""What counts as another definition for a model: a changed or lost view, changed request features; not a new view."""

from __future__ import annotations

import pytest

from airworthy.config import load_use_case
from airworthy.features import feature_digest, unlike, view_digests

CASE = load_use_case("tiny_sensors")
DIGEST, VIEWS = feature_digest(CASE), view_digests(CASE)


@pytest.mark.parametrize(
    ("trained", "published", "words"),
    [
        (VIEWS, {}, []),
        (VIEWS, VIEWS, []),
        ({k: v for k, v in VIEWS.items() if k != "tiny_sensors_sensor"}, {"tiny_sensors_sensor": "x"}, []),
        ({**VIEWS, "tiny_sensors_history": "x"}, {}, ["tiny_sensors_history changed"]),
        (
            {**VIEWS, "tiny_sensors_old": "x", "request": "x"},
            {},
            ["tiny_sensors_old is gone", "the request features changed"],
        ),
        (VIEWS, {"tiny_sensors_reading": "x"}, ["the online values of tiny_sensors_reading changed"]),
    ],
    ids=["same", "published", "a new view", "changed", "gone", "published by another"],
)
def test_what_keeps_a_model_from_being_fed(trained, published, words):
    assert unlike(CASE, "whatever", trained, published) == words


def test_a_model_without_the_digests_of_its_views_is_held_by_the_whole():
    assert unlike(CASE, DIGEST, {}, {}) == []
    assert unlike(CASE, "x", {}, {}) == ["its feature definitions changed"]
