"""The second use case is small, makes the same world each time, and has something to learn."""

from __future__ import annotations

import ibis
import pandas as pd
import pyarrow as pa
import pytest
from tiny_orders import features, world

from airworthy.config import UseCase, load_use_case
from airworthy.config.settings import Settings
from airworthy.features.definitions import spine_schema
from airworthy.ingest.cleaning import run_clean
from airworthy.ingest.parse import parse_file
from airworthy.intervals import Interval
from airworthy.lake.landing import landed_digests
from airworthy.validation import row_rule


@pytest.fixture(scope="module")
def orders() -> UseCase:
    return load_use_case("tiny_orders")


def clean(case: UseCase, keys: list[str]) -> pa.Table:
    parts = []
    for key in keys:
        rows = run_clean(case, "orders", parse_file(case.sources["orders"], world.to_csv(world.orders_of(key))).rows)
        parts.append(rows.append_column("interval", pa.array([key] * rows.num_rows)))
    return pa.concat_tables(parts)


def test_same_seed_same_bytes() -> None:
    key = "2024-02-29"
    assert world.to_csv(world.orders_of(key)) == world.to_csv(world.orders_of(key))
    assert world.to_csv(world.orders_of(key, seed=8)) != world.to_csv(world.orders_of(key))
    assert len(world.orders_of(key)) == 120


def test_orders_lie_in_their_day_and_pass_the_suite(orders: UseCase) -> None:
    rule = row_rule(orders, "orders")
    for key in world.history_keys(orders, "2024-01-20"):
        parsed = parse_file(orders.sources["orders"], world.to_csv(world.orders_of(key)))
        assert not parsed.failures
        assert not parsed.rejected
        assert all(rule(parsed.rows).to_pylist())
        assert {Interval.containing(t).key for t in parsed.rows["ordered_at"].to_pylist()} == {key}


def test_history_is_seventy_days_and_lands_complete(platform_env: Settings, orders: UseCase) -> None:
    assert len(list(world.history_keys(orders))) == 70

    keys = world.land_history(orders, "2024-01-05")

    assert list(landed_digests(orders)) == keys == [f"2024-01-0{n}" for n in range(1, 6)]


def test_requests_have_the_fields_of_the_use_case(orders: UseCase) -> None:
    for request in world.requests_of("2024-03-11"):
        assert set(request) == set(orders.prediction.request) == set(orders.prediction.example)


def test_customer_history_is_the_last_seven_days(orders: UseCase) -> None:
    keys = list(world.history_keys(orders, "2024-01-12"))
    rows = clean(orders, keys)
    intervals = [Interval.of(k) for k in keys[-3:]]
    columns = [
        keys[-3:],
        [i.start for i in intervals],
        [i.end for i in intervals],
        [i.end + orders.sources["orders"].lag for i in intervals],
    ]
    schema = spine_schema().to_pyarrow()
    spine = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    connection = ibis.duckdb.connect()
    connection.raw_sql("SET TimeZone = 'UTC'")
    expression = features.customer_history({"orders": ibis.memtable(rows)}, ibis.memtable(spine))
    found = connection.to_pyarrow(expression).to_pandas()
    connection.disconnect()

    frame = rows.to_pandas()
    assert len(found) == sum(
        frame[(frame.interval <= i.key) & (frame.interval > i.shift(-7).key)].customer.nunique() for i in intervals
    )
    for row in found.to_dict("records"):
        end = Interval.of(row["interval"])
        week = frame[
            (frame.interval <= end.key) & (frame.interval > end.shift(-7).key) & (frame.customer == row["customer"])
        ]
        known = week[week.returned.notna()]
        assert row["returned_share_7d"] == pytest.approx((known.returned.sum() + 0.25 * 4) / (len(known) + 4))
        assert row["orders_7d"] == len(week)
        assert row["mean_amount_7d"] == pytest.approx(week.amount.mean())
        assert row["event_timestamp"] == pd.Timestamp(end.end)
        assert row["available_at"] == pd.Timestamp(end.end) + pd.Timedelta(hours=6)
