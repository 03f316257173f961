"""Labels that come late or are corrected: the next training set knows them, an older one stays as it was to the last bit."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from tiny_orders import world

from airworthy import ingest
from airworthy.config import UseCase
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.lake.landing import land
from airworthy.ledger.clock import advance, data_now
from airworthy.monitoring import quality
from airworthy.training import build_training_set, read_training_set, rebuild_training_set
from airworthy.training.labelled_rows import ROW_LABEL, labelled_rows
from airworthy.training.training_set import part

DAY = Interval.of("2024-01-05")  # of the training part


def corrected() -> tuple[list[dict[str, Any]], dict[str, bool]]:
    """The day's orders: some outcomes turned round, and those that were lost found. And what changed, by id."""
    rows, changed = world.orders_of(DAY.key), {}
    for number, row in enumerate(rows):
        if row["returned"] is None or number % 10 == 0:
            row["returned"] = not row["returned"]
            changed[row["order_id"]] = row["returned"]
    return rows, changed


def labels(table: pa.Table, name: str = "label") -> dict[str, bool]:
    return dict(zip(table["order_id"].to_pylist(), table[name].to_pylist(), strict=True))


def outcomes(case: UseCase, ids: list[str], now: datetime) -> dict[str, bool | None]:
    """What monitoring takes for the outcomes of predictions at a time: what decay is measured with."""
    found = quality.outcomes(case, pa.table({"id": [json.dumps({"order_id": i}) for i in ids]}), first=DAY, now=now)
    return {i: bool(v) if k else None for i, v, k in zip(ids, found.labels, found.known, strict=True)}


def test_a_correction_is_in_the_next_training_set_that_could_know_it(shop: UseCase) -> None:
    before, old = data_now(shop), build_training_set(shop, run="train__1")
    old_rows = read_training_set(old)
    rows, changed = corrected()
    lost = {o["order_id"] for o in world.orders_of(DAY.key) if o["returned"] is None}
    came = before + timedelta(hours=3)

    # The correction comes after the training, and after the day on which its holdout began.
    land(shop, "orders", DAY, world.to_csv(rows), len(rows), came)
    advance(shop, came + timedelta(hours=1))
    ingest.ingest_interval(shop, DAY, run="test")
    soon = part(read_training_set(build_training_set(shop, run="train__2")), "train")
    # Then days go by, and the holdout begins after it.
    for key in (f"2024-01-{day}" for day in range(15, 21)):
        world.land_day(shop, key)
        advance(shop, Interval.of(key).end + timedelta(hours=7))
        ingest.ingest_interval(shop, Interval.of(key), run="test")
    late = part(read_training_set(build_training_set(shop, run="train__3")), "train")

    # What was trained on stays as it was, also when it is made once more.
    assert read_training_set(old).equals(old_rows)
    assert rebuild_training_set(shop, old).equals(old_rows)
    assert lost
    assert lost & labels(old_rows).keys() == set()
    # Nobody could have known the new outcomes when that holdout began, and the old ones are known to be wrong.
    assert changed.keys() & labels(soon).keys() == set()
    # A training set whose holdout begins later has them, and those that had been lost.
    assert {i: labels(late)[i] for i in changed} == changed
    assert lost <= labels(late).keys()
    # Whoever asks as of the earlier time sees nothing of it: neither as a label to train on, nor to measure decay by.
    then = labels(labelled_rows(shop, tables.read(shop.table("clean", "orders")), before)[0], ROW_LABEL)
    assert {i for i in changed if then.get(i) == changed[i]} == set()
    ids = sorted(changed)
    assert outcomes(shop, ids, data_now(shop)) == {i: changed[i] for i in ids}
    assert all(outcomes(shop, ids, before)[i] in (None, not changed[i]) for i in ids)


def test_a_label_counts_from_the_moment_it_is_known(shop: UseCase) -> None:
    """The newest day's labels come six hours after its end: an hour earlier the holdout ends a day before."""
    clean = tables.read(shop.table("clean", "orders"))
    known_at = Interval.of("2024-01-14").end + shop.sources["orders"].lag

    for hours, last in ((-1, "2024-01-14"), (1, "2024-01-15")):
        bounds = labelled_rows(shop, clean, known_at + timedelta(hours=hours))[1]
        assert bounds.holdout_end == Interval.of(last).start
