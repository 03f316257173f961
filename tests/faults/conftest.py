"""The fault campaign: how large it is, where its findings go, and the platform that it breaks.

``AIRWORTHY_CHAOS_POINTS`` kill points (a handful by default), chosen by ``AIRWORTHY_CHAOS_SEED``; with
``AIRWORTHY_CHAOS_REPORT`` the findings are written there. ``make chaos`` sets all three.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_orders import world as shop

from airworthy.intervals import Interval
from airworthy.ledger.clock import advance

from .campaign import CORRECTED, NEW, NOW, OLD, POINTS, SEED, corrected, deliver, fewer_jobs, land_plant, planted
from .world import World, Zygote, compile_shim


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """The process that forks what is to be killed."""
    if shutil.which("cc") is None and not os.environ.get("AIRWORTHY_TESTS_COMPLETE"):
        pytest.skip(
            "faults are made by a small C library, and there is no C compiler (cc) here; get it with: apt-get install gcc libc6-dev"
        )
    folder = tmp_path_factory.mktemp("zygote")
    made = Zygote(compile_shim(folder), folder / "log.txt")
    yield made
    made.close()


@pytest.fixture(scope="session")
def prepared(
    postgres: Path, ledger_template: str, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Two days published with their features; a third and a correction of the second are landed. Kept as the snapshot."""
    made = World(postgres, tmp_path_factory.mktemp("fault"), zygote)
    made.create(ledger_template)
    with made.here() as case:
        for key in OLD:
            shop.land_day(case, key)
        advance(case, Interval.of(NOW).end)
    ended = made.run([["ingest", key, "history"] for key in OLD] + [["features", "history"]])
    assert ended[0]["status"] == 0, made.history()
    with made.here() as case:
        deliver(case, NEW, planted(shop.orders_of(NEW)))
        deliver(case, CORRECTED, corrected(shop.orders_of(CORRECTED)))
    made.keep()
    yield made
    made.drop()


@pytest.fixture
def plant(
    postgres: Path, ledger_template: str, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The same of another use case, with three sources and three views: two days published, a third and a correction landed."""
    made = World(postgres, tmp_path_factory.mktemp("plant"), zygote, use_case="tiny_sensors")
    made.create(ledger_template)
    with made.here() as case:
        for key in OLD:
            land_plant(case, key)
        advance(case, Interval.of(NOW).end)
    ended = made.run([["ingest", key, "history"] for key in OLD] + [["features", "history"]])
    assert ended[0]["status"] == 0, made.history()
    assert not any("error" in event for event in made.history()), made.history()
    with made.here() as case:
        land_plant(case, NEW)
        land_plant(case, CORRECTED, fewer_jobs)
    made.keep()
    made.reset()
    yield made
    made.drop()


@pytest.fixture
def world(prepared: World) -> World:
    """That platform, as the snapshot has it."""
    prepared.reset()
    return prepared


@pytest.fixture(scope="session")
def findings() -> Iterator[list[dict[str, Any]]]:
    """What the campaign saw; written to ``AIRWORTHY_CHAOS_REPORT`` when that is set."""
    seen: list[dict[str, Any]] = []
    yield seen
    if target := os.environ.get("AIRWORTHY_CHAOS_REPORT"):
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        broken = sum(bool(one["violations"]) for one in seen)
        report = {"seed": SEED, "points": POINTS, "faults": len(seen), "with_violations": broken, "findings": seen}
        path.write_text(json.dumps(report, indent=1))
