"""From landed orders to a training set, on real tables and Feast."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select
from tiny_orders import world

from airworthy import features, ingest
from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError, DataRejectedError, ReleaseError
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger.clock import advance
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TrainingSet, Validation
from airworthy.platform import retention
from airworthy.platform.every_table import table_schemas
from airworthy.records import TrainingSetRef, Window
from airworthy.training import (
    build_training_set,
    data_docs_link,
    read_training_set,
    rebuild_training_set,
    training_set,
)
from airworthy.training.known_in_time import too_late
from airworthy.training.offered import offered_inputs
from airworthy.training.training_set import part
from stage_suites import between, give_suite

from .conftest import LAST


def test_a_training_set_of_the_real_tables(shop: UseCase) -> None:
    # When it is built.
    ref = build_training_set(shop, run="train__1")

    # Then the parts, the bounds and the inputs are what the use case asks for.
    rows = read_training_set(ref)
    train, holdout = part(rows, "train"), part(rows, "holdout")
    assert (train.num_rows, holdout.num_rows) == (ref.train_rows, ref.holdout_rows)
    assert ref.columns == features.feature_columns(shop)
    assert rows.schema.names[-len(ref.columns) :] == list(ref.columns)
    assert {"part", "label", "prediction_time", "order_id", "channel"} <= set(rows.schema.names)
    assert rows["label"].null_count == 0
    assert (ref.holdout_start, ref.holdout_end) == (Interval.of("2024-01-11").start, Interval.of("2024-01-15").start)
    assert pc.max(train["prediction_time"]).as_py() < ref.train_end <= pc.min(holdout["prediction_time"]).as_py()
    # The orders of 10 January came back on the 11th, after the holdout began: in neither part.
    assert pc.max(train["prediction_time"]).as_py() < Interval.of("2024-01-10").start
    assert ref.label_rate == pytest.approx(sum(train["label"].to_pylist()) / train.num_rows)
    assert set(ref.data_versions) == {"tiny_orders/clean/orders", *features.data_versions(shop)}
    assert rows["order_id"].to_pylist() == sorted(rows["order_id"].to_pylist())
    # And the form of an experiment can offer them.
    assert offered_inputs(shop) == sorted(ref.columns)
    with transaction() as session:
        assert session.get(TrainingSet, ref.digest).ref == ref.to_json()
    check_features(shop, rows.to_pylist())
    check_the_checks(shop, ref, rows)
    # With a rolling window the holdout is the same and the training part begins later.
    training = shop.training.model_copy(update={"window_days": 6})
    rolling = build_training_set(shop.model_copy(update={"training": training}), run="train__1")
    assert (rolling.holdout_start, rolling.holdout_rows) == (ref.holdout_start, ref.holdout_rows)
    assert rolling.train_start == Interval.of("2024-01-05").start
    assert rolling.train_rows < ref.train_rows


def check_the_checks(shop: UseCase, ref: TrainingSetRef, rows: pa.Table) -> None:
    """They are on record, and one looks up by hand what the join has found: a day later it was not known."""
    assert len(ref.checks) == 9
    assert all(check.passed for check in ref.checks)
    with transaction() as session:
        [kept] = session.scalars(select(Validation).where(Validation.table_name.like("%/training/checks"))).all()
    assert (kept.passed, kept.report["engine"], len(kept.report["results"])) == (True, "airworthy", 9)
    orders = tables.read(shop.table("clean", "orders")).filter(pc.field("returned").is_valid())
    asked = pa.Table.from_pylist([o for o in orders.to_pylist() if o["order_id"] in set(rows["order_id"].to_pylist())])
    times, values = asked["ordered_at"], features.historical(shop, asked)
    assert too_late(shop, asked, times, values, ref.data_versions) == ()
    place = asked.schema.get_field_index("ordered_at")
    # Two days on are other events. Six hours on, an order of the small hours sees the day before it: it had happened, and
    # was not yet published.
    for shift, rows_found in ((timedelta(days=2), 50), (timedelta(hours=6), 10)):
        later = features.historical(shop, asked.set_column(place, "ordered_at", pc.add(times, pa.scalar(shift))))
        found = {late.feature: late.rows for late in too_late(shop, asked, times, later, ref.data_versions)}
        assert found["orders_7d"] > rows_found, shift


def check_features(shop: UseCase, rows: list[dict[str, Any]]) -> None:
    """Recompute the features by brute force: nothing later than the prediction, nothing forgotten."""
    orders = [o for day in world.history_keys(shop, LAST) for o in world.orders_of(day)]
    by_id = {o["order_id"]: o for o in orders}

    for row in rows[:: len(rows) // 60]:
        order = by_id[row["order_id"]]
        # A day's history counts from six hours after its end, and reaches seven days back.
        newest = row["prediction_time"] - timedelta(hours=6) - timedelta(days=1)
        days = {(newest - timedelta(days=d)).strftime("%Y-%m-%d") for d in range(7)}
        past = [o for o in orders if o["customer"] == order["customer"] and o["ordered_at"][:10] in days]
        assert row["order_amount"] == order["amount"]
        assert row["order_channel"] == order["channel"]
        assert past or row["orders_7d"] is None
        if past:
            assert row["orders_7d"] == len(past), row
            assert row["mean_amount_7d"] == pytest.approx(sum(o["amount"] for o in past) / len(past))


def test_the_same_data_give_the_same_training_set(shop: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_training_set(shop, run="train__1")
    content = Path(first.url).read_bytes()

    again = build_training_set(shop, run="train__2")

    assert again == first
    assert Path(first.url).read_bytes() == content
    assert not [p for p in Path(first.url).parent.iterdir() if p.name.startswith(".")]

    # And an hour before the last day's labels are known, that day is not in it.
    monkeypatch.setattr(training_set, "data_now", lambda _: Interval.of(LAST).end + timedelta(hours=5))
    earlier = build_training_set(shop, run="train__1")

    assert earlier.holdout_end == first.holdout_end - timedelta(days=1)
    assert earlier.digest != first.digest


def test_what_is_altered_or_does_not_fit_is_refused(shop: UseCase) -> None:
    # An altered, damaged, missing file.
    ref = build_training_set(shop, run="train__1")
    file = Path(ref.url)
    pq.write_table(read_training_set(ref).slice(1), file)
    with pytest.raises(ReleaseError, match="was altered"):
        read_training_set(ref)
    file.write_bytes(b"no parquet")
    with pytest.raises(ReleaseError, match="cannot be read"):
        read_training_set(ref)
    file.unlink()
    with pytest.raises(ReleaseError, match="is missing"):
        read_training_set(ref)
    # Too few days, a slice that is no column.
    many_days = shop.training.model_copy(update={"min_train_days": 60})
    slices = shop.gate.model_copy(update={"slices": ["colour"]})

    with pytest.raises(DataRejectedError, match="14 days with labels; 60 to train on and 4 for the holdout"):
        build_training_set(shop.model_copy(update={"training": many_days}), run="train__1")
    with pytest.raises(ConfigurationError, match=r"'colour' in gate\.slices"):
        build_training_set(shop.model_copy(update={"gate": slices}), run="train__1")


def test_a_training_set_that_fails_its_suite_is_not_kept(
    shop: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give_suite(monkeypatch, tmp_path, "training/set", between("order_hour", 0, 5))
    with pytest.raises(DataRejectedError, match=r"order_hour: expect_column_values_to_be_between"):
        build_training_set(shop, run="train__1")
    with transaction() as session:
        assert session.scalars(select(TrainingSet)).all() == []
        [found] = session.scalars(select(Validation).where(Validation.table_name.like("%/training/set"))).all()
    assert (found.passed, found.report["engine"]) == (False, "great_expectations")
    give_suite(monkeypatch, tmp_path, "training/set", between("order_hour", 0, 23))
    ref = build_training_set(shop, run="train__1")
    page = data_docs_link(ref)["Data Docs"].replace(get_settings().reports_url, get_settings().docs_url)
    assert "tiny_orders/training/set" in Path(page).read_text()


def test_after_corrections_and_retention_the_same_rows_are_made_again(shop: UseCase) -> None:
    # Given a training set, and a correction after it that changes clean rows and the features of a week,
    ref = build_training_set(shop, run="train__1")
    kept = read_training_set(ref)
    key = "2024-01-06"
    changed = [{**row, "amount": row["amount"] + 1} for row in world.orders_of(key)]
    world.land(shop, "orders", Interval.of(key), world.to_csv(changed), len(changed), Interval.of(key).end)
    advance(shop, Interval.of("2024-01-20").end)
    assert ingest.ingest_interval(shop, Interval.of(key), run="arrivals").status == "published"
    assert sum(features.catch_up(shop, run="arrivals").built.values()) == 7
    # when everything old is removed but what the training set was read from (it is recent: it is pinned),
    pins = retention.pins_of(shop)
    assert pins == {name: {version} for name, version in ref.data_versions.items()}
    for name in table_schemas(shop):
        if tables.DeltaTable.is_deltatable(tables.url(name)):
            retention.vacuum(name, pins.get(name, ()), timedelta(0))
    # then it can be made again, bit by bit, and a training set of today is another one.
    assert rebuild_training_set(shop, ref).equals(kept)
    assert build_training_set(shop, run="train__2").digest != ref.digest
    # Without the pin it could not.
    for name in ref.data_versions:
        assert retention.vacuum(name, (), timedelta(0)) > 0
    with pytest.raises(ReleaseError, match="a data version is gone"):
        rebuild_training_set(shop, ref)
    assert read_training_set(ref).equals(kept)


def test_a_slice_that_is_made_from_a_tagged_column_is_refused(shop: UseCase) -> None:
    columns = dict(shop.sources["orders"].columns)
    columns["channel"] = columns["channel"].model_copy(update={"tags": ("personal",)})
    orders = shop.sources["orders"].model_copy(update={"columns": columns})
    gate = shop.gate.model_copy(update={"slices": ["order_channel"]})
    case = shop.model_copy(update={"sources": {"orders": orders}, "gate": gate})
    assert features.masks(case) == {"order_channel": "[personal]"}
    with pytest.raises(ConfigurationError, match="order_channel, which is made from a tagged column"):
        build_training_set(case, run="train__1")


def test_a_window_narrows_the_training_part_and_leaves_the_holdout_alone(shop: UseCase) -> None:
    whole = build_training_set(shop, run="train__1")
    window = Window(first=date(2024, 1, 3), last=date(2024, 1, 7))

    ref = build_training_set(shop, run="experiment__1", window=window)

    rows = read_training_set(ref)
    days = {t.date() for t in part(rows, "train")["prediction_time"].to_pylist()}
    assert (min(days), max(days), len(days)) == (window.first, window.last, 5)
    assert part(rows, "holdout").equals(part(read_training_set(whole), "holdout"))
    assert (ref.train_start, ref.train_end) == (Interval.of("2024-01-03").start, Interval.of("2024-01-08").start)
    assert rebuild_training_set(shop, ref).equals(rows)
    newest = build_training_set(shop, run="experiment__2", window=Window(days=6))
    assert newest.train_start == Interval.of("2024-01-05").start
    with pytest.raises(DataRejectedError, match="widen the window"):
        build_training_set(shop, run="experiment__3", window=Window(days=3))


def test_features_that_were_not_chosen_teach_nothing_and_stay_in_the_holdout(shop: UseCase) -> None:
    whole = build_training_set(shop, run="train__1")
    chosen = ["orders_7d", "order_amount"]

    ref = build_training_set(shop, run="experiment__1", chosen=chosen)

    assert list(ref.columns) == [name for name in whole.columns if name in chosen]
    assert ref.digest != whole.digest
    rows = read_training_set(ref)
    for name in set(whole.columns) - set(chosen):
        assert part(rows, "train")[name].null_count == ref.train_rows, name
    assert part(rows, "holdout").equals(part(read_training_set(whole), "holdout"))
    assert part(rows, "train")["orders_7d"].equals(part(read_training_set(whole), "train")["orders_7d"])
    assert rebuild_training_set(shop, ref).equals(rows)
    with transaction() as session:
        assert set(session.get(TrainingSet, ref.digest).ref["columns"]) == set(chosen)
    with pytest.raises(ConfigurationError, match="no feature order_amont") as raised:
        build_training_set(shop, run="experiment__2", chosen=["order_amont"])
    assert "order_amount" in raised.value.next_step
