"""The use cases of the repository go through the same stage, with their own suites."""

from __future__ import annotations

import time

from airworthy.config import Settings, UseCase, load_use_case
from airworthy.ingest import ingest_interval, table_schemas
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.validation import row_rule


def created(package: str) -> UseCase:
    use_case = load_use_case(package)
    for name, schema in table_schemas(use_case).items():
        tables.create(name, schema)
    return use_case


def rows_add_up(use_case: UseCase, key: str) -> None:
    day = Interval.of(key)
    for source in use_case.sources:
        raw, clean, kept = (tables.read(use_case.table(t, source), day, day) for t in ("raw", "clean", "quarantine"))
        assert raw.num_rows == clean.num_rows + kept.num_rows
        passing = row_rule(use_case, source)(raw.select(list(use_case.sources[source].columns)))
        assert passing.true_count == clean.num_rows


def test_a_day_of_tiny_orders(platform_env: Settings) -> None:
    from tiny_orders import world

    use_case = created("tiny_orders")
    world.land_day(use_case, "2024-01-05")
    outcome = ingest_interval(use_case, Interval.of("2024-01-05"), run="test")
    assert outcome.rows_in == {"orders": world.ORDERS_A_DAY}
    rows_add_up(use_case, "2024-01-05")


def test_days_of_real_flights_cost_a_second_each(platform_env: Settings) -> None:
    from use_cases.flight_delays.world import World

    use_case = created("use_cases.flight_delays")
    world = World(use_case)
    days = ("2013-01-01", "2013-03-10", "2013-11-03")  # the register of planes; both days on which clocks change
    seconds = []
    for key in days:
        world.land_day(key)
        start = time.process_time()
        outcome = ingest_interval(use_case, Interval.of(key), run="test")
        seconds.append(time.process_time() - start)
        assert outcome.status == "published"
        assert 600 < outcome.rows_in["flights"] < 1100
        rows_add_up(use_case, key)
    # The first one also imports Great Expectations.
    assert min(seconds[1:]) < 2.0
