"""Features equal their definition in words, computed by another engine from what ingest made of the landed files."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import ibis
import pandas as pd
import pyarrow as pa
import pytest
from ibis.expr import types as ir

from airworthy.config import UseCase
from airworthy.features.definitions import spine_schema
from airworthy.ingest.cleaning import availability, run_clean
from airworthy.ingest.parse import parse_file
from airworthy.intervals import Interval, days
from use_cases.flight_delays import features, source
from use_cases.flight_delays.world import World

NEW_YORK = ZoneInfo("America/New_York")
BUILT = ("2013-03-01", "2013-03-12")
HISTORY = "2013-01-28"


def clean_table(world: World, case: UseCase, name: str, keys: list[str]) -> pa.Table:
    """Clean rows of some days, through the platform's own parser and cleaning."""
    parts = []
    for key in keys:
        clean = run_clean(case, name, parse_file(case.sources[name], world.content(name, key)).rows)
        clean = clean.append_column("available_at", availability(case, name, clean, Interval.of(key)))
        parts.append(clean.append_column("interval", pa.array([key] * clean.num_rows)))
    return pa.concat_tables(parts)


def keys_between(first: str, last: str) -> list[str]:
    return [d.key for d in days(Interval.of(first), Interval.of(last))]


def spine_of(case: UseCase, first: str, last: str) -> pa.Table:
    intervals = list(days(Interval.of(first), Interval.of(last)))
    lag = case.sources["flights"].lag
    columns = [
        [i.key for i in intervals],
        [i.start for i in intervals],
        [i.end for i in intervals],
        [i.end + lag for i in intervals],
    ]
    schema = spine_schema().to_pyarrow()
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


@pytest.fixture(scope="module")
def engine() -> Iterator[ibis.BaseBackend]:
    connection = ibis.duckdb.connect()
    connection.raw_sql("SET TimeZone = 'UTC'")
    yield connection
    connection.disconnect()


@pytest.fixture(scope="module")
def flights(world: World, case: UseCase) -> pa.Table:
    return clean_table(world, case, "flights", keys_between(HISTORY, BUILT[1]))


def built(engine: ibis.BaseBackend, view: str, name: str, rows: pa.Table, spine: pa.Table) -> pd.DataFrame:
    [definition] = [v for v in features.VIEWS if v.name == f"flight_delays_{view}"]
    assert definition.sources == (name,)
    expression: ir.Table = definition.build({name: ibis.memtable(rows)}, ibis.memtable(spine))
    return engine.to_pyarrow(expression).to_pandas()


def oracle(year: pd.DataFrame, case: UseCase, keys: dict[str, str], end: date, window: int) -> pd.DataFrame:
    """Flights of the last days before ``end`` that had arrived when their day's file was published."""
    last = pd.Timestamp(end, tz="UTC")
    chosen = year[(year.sched >= last - pd.Timedelta(days=window)) & (year.sched < last)]
    for column, value in keys.items():
        chosen = chosen[chosen[column] == value]
    published = pd.to_datetime(chosen.key, utc=True) + pd.Timedelta(days=1) + pd.Timedelta(case.sources["flights"].lag)
    surely_arrived = chosen.left + pd.to_timedelta(chosen.air_time + 60, "min")
    return chosen[chosen.arr_delay.notna() & (surely_arrived <= published)]


@pytest.mark.parametrize(
    ("view", "keys", "windows"),
    [("carrier", ["carrier", "origin"], (1, 7, 28)), ("route", ["origin", "dest"], (7, 28))],
)
def test_rolling_features_are_shrunk_means_of_the_last_days(
    engine: ibis.BaseBackend,
    flights: pa.Table,
    year: pd.DataFrame,
    case: UseCase,
    view: str,
    keys: list[str],
    windows: tuple[int, ...],
) -> None:
    rows = built(engine, view, "flights", flights, spine_of(case, *BUILT))

    for row in random.Random(3).sample(rows.to_dict("records"), 60):
        end = date.fromisoformat(row["interval"]) + timedelta(days=1)
        for window in windows:
            found = oracle(year, case, {k: row[k] for k in keys}, end, window)
            rate = ((found.arr_delay >= 15).sum() + 0.2 * 20) / (len(found) + 20)
            assert row[f"{view}_late_{window}d"] == pytest.approx(rate, abs=1e-12), (row, window)
            if view == "carrier":
                mean = (found.arr_delay.sum() + 5 * 20) / (len(found) + 20)
                assert row[f"carrier_delay_{window}d"] == pytest.approx(mean, abs=1e-9), (row, window)
        assert row["event_timestamp"] == pd.Timestamp(end, tz="UTC")
        assert row["available_at"] == pd.Timestamp(end, tz="UTC") + timedelta(hours=8)


def test_every_interval_has_a_row_for_every_key_of_the_lookback(
    engine: ibis.BaseBackend, flights: pa.Table, year: pd.DataFrame, case: UseCase
) -> None:
    rows = built(engine, "route", "flights", flights, spine_of(case, *BUILT))

    assert not rows.duplicated(["interval", "origin", "dest"]).any()
    for key in BUILT:
        seen = oracle(year, case, {}, date.fromisoformat(key) + timedelta(days=1), 28)
        assert set(map(tuple, rows[rows.interval == key][["origin", "dest"]].to_numpy())) == set(
            map(tuple, seen[["origin", "dest"]].to_numpy())
        )


def test_one_interval_alone_equals_the_same_interval_in_a_range(
    engine: ibis.BaseBackend, flights: pa.Table, case: UseCase
) -> None:
    def rows(first: str, last: str) -> pd.DataFrame:
        found = built(engine, "carrier", "flights", flights, spine_of(case, first, last))
        return found[found.interval == "2013-03-10"].sort_values(["carrier", "origin"]).reset_index(drop=True)

    pd.testing.assert_frame_equal(rows("2013-03-10", "2013-03-10"), rows(*BUILT), check_exact=True)


def test_later_flights_change_nothing(engine: ibis.BaseBackend, flights: pa.Table, case: UseCase) -> None:
    frame = flights.to_pandas()
    frame.loc[frame.interval > "2013-03-05", "arr_delay"] = 1000
    frame.loc[frame.interval > "2013-03-05", "late"] = True
    worse = pa.Table.from_pandas(frame, schema=flights.schema, preserve_index=False)

    for view in ("carrier", "route"):
        before, after = (
            built(engine, view, "flights", t, spine_of(case, "2013-03-05", "2013-03-05")) for t in (flights, worse)
        )
        order = list(before.columns)
        pd.testing.assert_frame_equal(
            before.sort_values(order).reset_index(drop=True),
            after.sort_values(order).reset_index(drop=True),
            check_exact=True,
        )


def test_hourly_views_hold_from_the_observation_and_are_known_after_the_lag(
    engine: ibis.BaseBackend, world: World, case: UseCase
) -> None:
    keys = keys_between("2013-03-09", "2013-03-11")
    for view, name, lag in (
        ("weather", "weather", timedelta(hours=1)),
        ("airport", "airport_state", timedelta(minutes=5)),
    ):
        clean = clean_table(world, case, name, keys)
        rows = built(engine, view, name, clean, spine_of(case, "2013-03-10", "2013-03-11"))

        expected = clean.to_pandas().query("interval >= '2013-03-10'")
        assert len(rows) == len(expected)
        assert (rows.event_timestamp.dt.strftime("%Y-%m-%d") == rows.interval).all()
        assert (rows.available_at - rows.event_timestamp == lag).all()
        measured = [c for c in rows.columns if c in expected.columns and c not in ("interval", "available_at")]
        left = rows.rename(columns={"event_timestamp": "observed_at"}).sort_values(["origin", "observed_at"])[
            [*measured, "observed_at"]
        ]
        right = expected.sort_values(["origin", "observed_at"])[[*measured, "observed_at"]]
        pd.testing.assert_frame_equal(left.reset_index(drop=True), right.reset_index(drop=True), check_exact=True)


def test_aircraft_hold_from_the_first_day(engine: ibis.BaseBackend, world: World, case: UseCase) -> None:
    clean = clean_table(world, case, "planes", ["2013-01-01"])
    rows = built(engine, "aircraft", "planes", clean, spine_of(case, "2013-01-01", "2013-01-02"))

    assert len(rows) == 3322
    assert (rows.event_timestamp == pd.Timestamp("2013-01-01", tz="UTC")).all()
    assert (rows.available_at == pd.Timestamp("2013-01-01", tz="UTC")).all()
    assert {"AIRBUS", "MCDONNELL DOUGLAS"} <= set(rows.plane_maker)
    assert not {"AIRBUS INDUSTRIE", "MCDONNELL DOUGLAS AIRCRAFT CO"} & set(rows.plane_maker)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_local_hours_follow_new_yorks_clock_through_both_changes(
    engine: ibis.BaseBackend, year: pd.DataFrame, zone: str
) -> None:
    chosen = year[
        year.key.isin(
            ["2013-03-09", "2013-03-10", "2013-03-11", "2013-11-02", "2013-11-03", "2013-11-04", "2013-07-04"]
        )
    ]
    request = pa.table(
        {
            "carrier": chosen.carrier.tolist(), "origin": chosen.origin.tolist(), "dest": chosen.dest.tolist(),
            "distance": pa.array(chosen.distance.tolist(), pa.int64()),
            "sched_dep": pa.array(chosen.sched.dt.to_pydatetime().tolist(), pa.timestamp("us", "UTC")),
        }
    )  # fmt: skip
    table = ibis.memtable(request)
    engine.raw_sql(f"SET TimeZone = '{zone}'")  # the session's zone must not matter
    try:
        found = engine.to_pyarrow(table.select(**features.request_features(table))).to_pandas()
    finally:
        engine.raw_sql("SET TimeZone = 'UTC'")

    assert found.departure_hour.tolist() == chosen.local.dt.hour.tolist() == chosen.hour.tolist()
    assert found.departure_minute.tolist() == (chosen.hour * 60 + chosen.minute).tolist()
    assert found.departure_weekday.tolist() == chosen.local.dt.weekday.tolist()


def test_the_label_is_15_minutes_and_empty_without_an_arrival(flights: pa.Table) -> None:
    rows = flights.to_pandas()

    assert (rows.late.notna() == rows.arr_delay.notna()).all()
    known = rows[rows.late.notna()]
    assert (known.late.astype(bool) == (known.arr_delay >= 15)).all()
    assert {14.0, 15.0} <= set(known.arr_delay)  # both sides of the bound occur
    assert (rows.sched_dep - rows.prediction_time == timedelta(hours=2)).all()


def test_feature_names_are_unique_and_no_fields_of_the_request(case: UseCase) -> None:
    request = ibis.table({n: "timestamp('UTC')" if t == "timestamp" else t for n, t in case.prediction.request.items()})
    names = list(features.request_features(request))
    clean = {n: clean_schema_of(case, n) for n in case.sources}
    spine = ibis.table(spine_schema(), name="spine")
    for view in features.VIEWS:
        table = view.build({n: clean[n] for n in view.sources}, spine)
        names += [c for c in table.columns if c not in (*view.entities, "interval", "event_timestamp", "available_at")]

    assert len(names) == len(set(names))
    assert not set(names) & set(case.prediction.request)
    assert not [n for n in names if "month" in n or "season" in n]


def clean_schema_of(case: UseCase, name: str) -> ir.Table:
    types = {
        n: "timestamp('UTC')" if c.type == "timestamp" else c.type.replace("bool", "boolean")
        for n, c in case.sources[name].columns.items()
    }
    clean = getattr(source, f"clean_{name}")(ibis.table(types, name=name))
    return clean.mutate(available_at=ibis.literal(None, "timestamp('UTC')"), interval=ibis.literal("", "string"))
