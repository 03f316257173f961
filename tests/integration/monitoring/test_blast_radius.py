"""What would change is what then changes: the forecast against a real ingest and catch-up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tiny_orders import world as shop

from airworthy import features
from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError
from airworthy.ingest import ingest_interval
from airworthy.intervals import Interval
from airworthy.lake import landing, tables
from airworthy.ledger import clock, commits
from airworthy.monitoring import blast_radius, collect, publish_page
from airworthy.records import Release
from airworthy.serving import batch

from .conftest import World

DAYS = [f"2024-01-{day:02d}" for day in range(1, 13)]
FIRST, LAST = Interval.of(DAYS[0]), Interval.of(DAYS[-1])
CORRECTED, LATE, AFTER, VIEW = "2024-01-03", "2024-01-11", "2024-01-05", "tiny_orders_customer"
LATER = "2024-02-20"
CLEAN, TABLE = "tiny_orders/clean/orders", "tiny_orders/features/tiny_orders_customer"


@pytest.fixture
def lived(world: World) -> UseCase:
    """Twelve days, all ingested but one that has not come, with features and online values."""
    use_case = world.use_case
    for name, schema in {**features.table_schemas(use_case), **batch.table_schemas(use_case)}.items():
        tables.create(name, schema)
    features.apply(use_case)
    clock.advance(use_case, LAST.end + timedelta(days=1))
    for key in DAYS:
        if key != LATE:
            shop.land_day(use_case, key)
            ingest_interval(use_case, Interval.of(key), run="test")
    features.catch_up(use_case, run="test")
    return use_case


def correct(use_case: UseCase, key: str) -> None:
    """Two orders change, one is gone."""
    rows = shop.orders_of(key)[1:]
    for row in rows[:2]:
        row["amount"] += 1000
    landing.land(use_case, "orders", Interval.of(key), shop.to_csv(rows), len(rows), LAST.end)


def window(*keys: str) -> set[str]:
    """Feature intervals that look back on these days: a week, within the twelve."""
    return {i.key for key in keys for n in range(7) if (i := Interval.of(key).shift(n)).key <= DAYS[-1]}


def test_the_forecast_is_what_then_happens(lived: UseCase) -> None:
    # Given a correction and a late file,
    correct(lived, CORRECTED)
    shop.land_day(lived, LATE)
    clean, built = commits.newest_commits(CLEAN), commits.newest_commits(TABLE)
    before = {key: row.digest for key, row in built.items()}
    landed = landing.landed_digests(lived)

    # when somebody asks what would change,
    radius = blast_radius(lived, FIRST, LAST)

    # then nothing changes,
    assert {k: r.id for k, r in commits.newest_commits(CLEAN).items()} == {k: r.id for k, r in clean.items()}
    assert {k: r.id for k, r in commits.newest_commits(TABLE).items()} == {k: r.id for k, r in built.items()}
    assert landing.landed_digests(lived) == landed
    # and it is what the ingest and the catch-up then do.
    assert (radius.intervals["new"], radius.intervals["changed"]) == ((LATE,), (CORRECTED,))
    assert len(radius.intervals["unchanged"]) == len(DAYS) - 2
    assert (radius.coming, radius.going) == ({"orders": 2 + shop.ORDERS_A_DAY}, {"orders": 3})
    view = radius.views[VIEW]
    assert set(view.intervals) == window(CORRECTED, LATE)
    assert view.rows == sum(built[key].rows for key in view.intervals if key in built)
    for key in (CORRECTED, LATE):
        ingest_interval(lived, Interval.of(key), run="test")
    outcome = features.catch_up(lived, run="test")
    assert outcome.built == {VIEW: len(view.intervals)}
    after = {key: row.digest for key, row in commits.newest_commits(TABLE).items()}
    assert {key for key in after if after[key] != before.get(key)} == set(view.intervals)
    assert view.online_keys == outcome.online[VIEW]
    assert f"at least {view.online_keys} online keys" in radius.summary  # the late day may bring others
    assert blast_radius(lived, FIRST, LAST).views == {}


def test_models_and_predictions_that_hang_on_it_are_told(
    lived: UseCase, world: World, champion: Callable[..., Release]
) -> None:
    # Given a champion, trained up to the 20th, that has predicted,
    champion("a" * 64, data_time=Interval.of("2024-01-21").start)
    for key in ("2024-01-02", CORRECTED, AFTER):
        world.predict(key, 10)
    collect(lived)

    # when the same rows come in another order, then no feature changes;
    rows = list(reversed(shop.orders_of(CORRECTED)))
    landing.land(lived, "orders", Interval.of(CORRECTED), shop.to_csv(rows), len(rows), LAST.end)
    radius = blast_radius(lived, FIRST, LAST)
    assert radius.intervals["changed"] == (CORRECTED,)
    assert (radius.coming, radius.going, radius.views, radius.models, radius.predictions) == ({}, {}, {}, (), {})

    # when others come, then models and predictions that may have used them are named, and no others;
    correct(lived, CORRECTED)
    radius = blast_radius(lived, FIRST, LAST)
    assert [(m.release, m.state) for m in radius.models] == [("a" * 64, "champion")]
    assert radius.training_sets == (radius.models[0].training_set,)
    assert radius.predictions == {world.release: 20}  # those of the day before did not see it
    assert "the champion among them" in radius.summary
    assert "at least" not in radius.summary  # a correction alone brings no key
    page = Path(publish_page(lived, radius).replace(get_settings().reports_url, get_settings().docs_url))
    assert radius.summary in page.read_text()

    # when the file cannot be used, then that is told with the reason;
    landing.land(lived, "orders", Interval.of(CORRECTED), b"order_id\n1\n", 1, LAST.end)
    radius = blast_radius(lived, FIRST, LAST)
    assert radius.intervals["refused"] == (CORRECTED,)
    assert "missing column" in radius.refused[CORRECTED]
    assert radius.views == {}
    with pytest.raises(ConfigurationError, match="is before"):
        blast_radius(lived, LAST, FIRST)

    # and a day after all that the champion has seen does not touch it.
    shop.land_day(lived, LATER)
    radius = blast_radius(lived, Interval.of(LATER), Interval.of(LATER))
    assert radius.intervals["new"] == (LATER,)
    assert (radius.training_sets, radius.models) == ((), ())
