"""Tables never show two deliveries of one interval, and rows that do not fit a table are told, not a KeyError."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
from parcels import world

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError, DataRejectedError
from airworthy.ingest import ingest_interval
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger import clock, commits

DAY = Interval.of("2013-03-05")


def shown(layer: str) -> list[str]:
    return sorted(tables.read(f"parcels/{layer}/parcels", DAY, DAY)["parcel"].to_pylist())


@pytest.mark.parametrize("after", ["superseded", "raw", "quarantine", "clean"])
def test_a_dead_correction_that_is_followed_by_a_refused_one_leaves_the_first_delivery(
    parcels: UseCase, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    # Given a day that is published, and a correction that dies after some of its tables were written,
    world.land_day(parcels, DAY.key)
    ingest_interval(parcels, DAY, run="first")
    before = shown("raw")
    clock.advance(parcels, DAY.end + timedelta(days=3))
    world.land_parcels(parcels, DAY.key, world.parcels(DAY.key, 30))
    real = tables.publish

    def dies(table: str, *arguments: object, **more: object) -> object:
        done = real(table, *arguments, **more)  # type: ignore[arg-type]
        if table == f"parcels/{after}/parcels":
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as broken:
        broken.setattr(tables, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            ingest_interval(parcels, DAY, run="killed")
    assert len(shown("superseded")) == 10
    assert len(shown("raw")) == (40 if after == "superseded" else 30)
    # when the next delivery is refused,
    world.land_parcels(parcels, DAY.key, content=b"")
    with pytest.raises(DataRejectedError):
        ingest_interval(parcels, DAY, run="refused")
    # then raw and clean show what was published last, by the ledger too.
    assert shown("raw") == before == shown("clean")
    assert shown("superseded") == []
    for layer in ("superseded", "raw", "quarantine", "clean"):
        commit = commits.newest_commits(f"parcels/{layer}/parcels")[DAY.key]
        assert commit.digest == tables.digest(tables.read(f"parcels/{layer}/parcels", DAY, DAY))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (pa.table({"zone": ["a"]}), "they have no number"),
        (pa.table({"number": [1], "zone": ["a"], "more": [1]}), "more is new"),
        (pa.table({"number": ["x"], "zone": ["a"]}), "Failed to parse"),
    ],
    ids=["a column is gone", "one is new", "another type"],
)
def test_rows_that_do_not_fit_are_told(parcels: UseCase, rows: pa.Table, words: str) -> None:
    tables.create("parcels/raw/other", pa.schema([("number", pa.int64()), ("zone", pa.string())]))
    token = commits.claim("other", "test")
    with pytest.raises(ConfigurationError, match=f"rows do not fit the table .*: {words}"):
        tables.publish("parcels/raw/other", {DAY.key: rows}, resource="other", token=token, inputs={DAY.key: ""})
