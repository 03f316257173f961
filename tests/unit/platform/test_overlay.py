"""An overlay beside a use case's file: the demo plays the example with steps of seconds, whoever copies it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airworthy.config import get_settings, load_use_case
from airworthy.config.operations_spec import Delivery

FLIGHTS = "use_cases.flight_delays"


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_only_the_demo_takes_little_for_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = load_use_case(FLIGHTS)
    assert honest.delivery == Delivery()
    monkeypatch.setenv("AIRWORTHY_OVERLAY", "demo")
    get_settings.cache_clear()
    demo = load_use_case(FLIGHTS)
    assert (demo.delivery.min_requests, demo.delivery.on_inconclusive) == (40, "promote")
    # What the overlay does not name stays, and a use case without one is as it is.
    assert demo.delivery.max_p99_ms == honest.delivery.max_p99_ms
    assert demo.model_copy(update={"delivery": honest.delivery}) == honest
    orders = load_use_case("tiny_orders")
    monkeypatch.delenv("AIRWORTHY_OVERLAY")
    get_settings.cache_clear()
    assert load_use_case("tiny_orders") == orders
