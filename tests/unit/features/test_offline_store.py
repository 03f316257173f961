"""The offline store against a brute-force oracle and against answers worked out by hand, on real Delta tables."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    FileSource,
    OnDemandFeatureView,
    RepoConfig,
    ValueType,
)
from feast.field import Field
from feast.types import Float64, Int64, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from airworthy.errors import ConfigurationError
from airworthy.features.delta_source import DeltaSource, pinned_versions
from airworthy.features.offline_store import (
    DuckDBAsofOfflineStore,
    DuckDBAsofOfflineStoreConfig,
    DuckDBRetrievalJob,
    latest_known,
)
from airworthy.lake.tables import storage_options

T0 = datetime(2013, 3, 10, 6, tzinfo=UTC)  # New York changes to summer time within the hours that follow
ZONES = ("UTC", "America/New_York", "Asia/Kolkata")
STORE = "airworthy.features.offline_store.DuckDBAsofOfflineStore"


def at(minutes: float, seconds: float = 0) -> datetime:
    return T0 + timedelta(minutes=minutes, seconds=seconds)


def feast_store(folder: Path, **offline: Any) -> FeatureStore:
    return FeatureStore(
        config=RepoConfig(
            project="test",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
            offline_store={"type": STORE, **offline},
            online_store=None,
            entity_key_serialization_version=3,
        )
    )


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A Feast project whose registry holds nothing."""
    return feast_store(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def process_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The time zone that the process believes to be in."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


# --- the oracle


class SourceRow(NamedTuple):
    """A row of the table; times in minutes after T0."""

    plane: int | None
    origin: str | None
    event: int | None
    known: int | None
    value: int | None


class EntityRow(NamedTuple):
    """An entity row; its time in minutes after T0, and seconds on top."""

    plane: int | None
    origin: str | None
    minute: int | None
    second: float


def oracle(row: EntityRow, source: list[SourceRow], ttl: timedelta | None, bitemporal: bool) -> int | None:
    """The answer, by the definition: look at every row."""
    if None in (row.plane, row.origin, row.minute):
        return None
    now = at(row.minute, row.second)
    best: tuple[Any, ...] | None = None
    for plane, origin, event, known, value in source:
        if plane != row.plane or origin != row.origin or event is None or at(event) > now:
            continue
        if bitemporal and (known is None or at(known) > now):
            continue
        rank = (event, known if bitemporal else 0, value is not None, value)
        best = rank if best is None or rank > best else best
    if best is None or (ttl and now - at(best[0]) > ttl):
        return None
    return best[3]


# Odd values are rare: if every field were odd now and then, most entity rows would match nothing at all.
planes = st.sampled_from([*[1] * 14, 2, None])
origins = st.sampled_from([*["EWR"] * 14, "JFK", None])
source_rows = st.builds(
    lambda plane, origin, event, delay, value: SourceRow(
        plane, origin, event, None if event is None or delay is None else event + delay, value
    ),
    planes,
    origins,
    st.sampled_from([*range(9), *range(9), None]),
    st.sampled_from([-2, -1, 0, 0, 1, 3, 3, 5, 7, 9, None]),  # known before, at, and long after the event
    st.sampled_from([0, 1, 2, 3, None]),
)
entity_rows = st.builds(
    EntityRow,
    planes,
    origins,
    st.sampled_from([-1, *range(21), None]),
    st.sampled_from([0.0, 0.0, 0.000001, -0.000001, 30.0]),
)
sources = st.integers(0, 16).flatmap(lambda size: st.lists(source_rows, min_size=size, max_size=size))


def moment(minute: int | None, second: float, zone: str) -> Any:
    if minute is None:
        return None
    stamp = pd.Timestamp(at(minute, second))
    return stamp.tz_localize(None) if zone == "naive" else stamp.tz_convert(zone)


def entity_frame(rows: list[EntityRow], zone: str) -> pd.DataFrame:
    times = pd.Series([moment(r.minute, r.second, zone) for r in rows], dtype=zoned(zone))
    planes = pd.array([r.plane for r in rows], dtype="Int64")
    return pd.DataFrame({"n": range(len(rows)), "plane": planes, "origin": [r.origin for r in rows], "when": times})


def zoned(zone: str) -> Any:
    return "datetime64[ns]" if zone == "naive" else pd.DatetimeTZDtype("ns", zone)


def two_key_view(path: Path, ttl: timedelta | None, bitemporal: bool) -> FeatureView:
    keys = [Entity(name=n, value_type=t) for n, t in (("plane", ValueType.INT64), ("origin", ValueType.STRING))]
    fields = [Field(name="plane", dtype=Int64), Field(name="origin", dtype=String), Field(name="value", dtype=Int64)]
    source = DeltaSource("rows", path, "event", "known" if bitemporal else None)
    return FeatureView(name="v", entities=keys, ttl=ttl, schema=fields, source=source)


@pytest.mark.parametrize("process_zone", ZONES, indirect=True)
@given(
    source=sources,
    entities=st.lists(entity_rows, min_size=1, max_size=10),
    ttl=st.sampled_from([None, None, 0, 1, 3, 60 * 24]),
    bitemporal=st.sampled_from([True, True, True, False]),
    source_zone=st.sampled_from(["UTC", None]),
    entity_zone=st.sampled_from(["naive", *ZONES]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_equals_the_brute_force_answer(
    process_zone: str,
    empty_store: FeatureStore,
    tmp_path: Path,
    source: list[SourceRow],
    entities: list[EntityRow],
    ttl: int | None,
    bitemporal: bool,
    source_zone: str | None,
    entity_zone: str,
) -> None:
    limit = None if ttl is None else timedelta(minutes=ttl)
    stamps = pa.timestamp("us", source_zone)
    plane, origin, event, known, value = (list(c) for c in zip(*source, strict=True)) if source else ([],) * 5
    write_deltalake(
        str(tmp_path / "rows"),
        pa.table(
            {
                "plane": pa.array(plane, pa.int64()),
                "origin": pa.array(origin, pa.string()),
                "event": pa.array([None if e is None else at(e).replace(tzinfo=None) for e in event], stamps),
                "known": pa.array([None if k is None else at(k).replace(tzinfo=None) for k in known], stamps),
                "value": pa.array(value, pa.int64()),
            }
        ),
        mode="overwrite",
        schema_mode="overwrite",
    )
    frame = entity_frame(entities, entity_zone)

    result = DuckDBAsofOfflineStore.get_historical_features(
        empty_store.config,
        [two_key_view(tmp_path / "rows", limit, bitemporal)],
        ["v:value"],
        frame,
        empty_store.registry,
        "test",
    ).to_arrow()

    assert result["n"].to_pylist() == list(range(len(entities)))
    assert result["value"].to_pylist() == [oracle(row, source, limit, bitemporal) for row in entities]


# --- answers worked out by hand

PLANES = [
    # plane, event, known, speed
    (1, at(0), at(5), 10.0),
    (1, at(10), at(60), 20.0),  # known an hour late
    (1, at(20), at(21), 30.0),
    (1, at(20), at(40), 31.0),  # a correction of the row before
    (2, at(0), None, 99.0),  # nobody knows when it became known: never
    (None, at(0), at(0), 77.0),
]
AIRPORTS = [
    # code, event, known, wind
    ("EWR", at(0), at(0), 1.0),
    ("JFK", at(0), at(0), 2.0),
    ("LGA", at(90), at(70), 9.0),  # a forecast
    ("LGA", at(90), at(80), 8.0),  # the next one, for the same time
]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Views over planes (ttl one hour) and airports, with the same feature name ``speed``, and one without entity."""
    planes = pa.table(
        dict(
            zip(
                ("plane", "event_timestamp", "available_at", "speed"), map(list, zip(*PLANES, strict=True)), strict=True
            )
        ),
        schema=pa.schema(
            [
                ("plane", pa.int64()),
                ("event_timestamp", pa.timestamp("us", "UTC")),
                ("available_at", pa.timestamp("us", "UTC")),
                ("speed", pa.float64()),
            ]
        ),
    )
    code, event, known, wind = (list(c) for c in zip(*AIRPORTS, strict=True))
    airports = pa.table({"code": code, "ts": event, "arrived": known, "wind_kn": wind})
    for name, table in (("planes", planes), ("airports", airports)):
        write_deltalake(str(tmp_path / name), table)
    plane = Entity(name="plane", value_type=ValueType.INT64)
    airport = Entity(name="airport", value_type=ValueType.STRING)
    views = [
        FeatureView(
            name="planes",
            entities=[plane],
            ttl=timedelta(hours=1),
            schema=[Field(name="plane", dtype=Int64), Field(name="speed", dtype=Float64)],
            source=DeltaSource("planes", tmp_path / "planes", "event_timestamp", "available_at"),
        ),
        FeatureView(
            name="airports",
            entities=[airport],
            schema=[Field(name="airport", dtype=String), Field(name="speed", dtype=Float64)],
            source=DeltaSource(
                "airports",
                tmp_path / "airports",
                timestamp_field="event_timestamp",
                created_timestamp_column="arrived",
                field_mapping={"code": "airport", "ts": "event_timestamp", "wind_kn": "speed"},
            ),
        ),
        FeatureView(
            name="fleet",
            schema=[Field(name="speed", dtype=Float64)],
            source=DeltaSource("fleet", tmp_path / "planes", "event_timestamp", "available_at"),
        ),
    ]
    feast = feast_store(tmp_path, threads=2, memory_limit="500MB")
    feast.apply([plane, airport, *views, *(view.batch_source for view in views)])
    return feast


def ask(store: FeatureStore, times: list[datetime], planes: Any = 1, **options: Any) -> list[float | None]:
    frame = pd.DataFrame({"plane": planes, "event_timestamp": times})
    return store.get_historical_features(frame, ["planes:speed"], **options).to_arrow()["speed"].to_pylist()


WHAT_WAS_KNOWN: dict[str, tuple[datetime, float | None]] = {
    "before the event": (at(-1), None),
    "after the event, before it is known": (at(4), None),
    "at the moment it is known": (at(5), 10.0),
    "newer event, not yet known": (at(20), 10.0),
    "newer event, known": (at(21), 30.0),
    "before the correction": (at(39), 30.0),
    "the correction": (at(40), 31.0),
    "a late row about the past does not replace a newer one": (at(60), 31.0),
    "the ttl's last moment": (at(80), 31.0),
    "a microsecond past the ttl": (at(80, 0.000001), None),
}


@pytest.mark.parametrize("process_zone", ZONES, indirect=True)
def test_what_was_known(store: FeatureStore, process_zone: str) -> None:
    """Each moment asked alone and with the others, with a zone and without, with Feast's flag and without."""
    expected = {why: speed for why, (_, speed) in WHAT_WAS_KNOWN.items()}
    times = [when for when, _ in WHAT_WAS_KNOWN.values()]

    assert {why: ask(store, [when])[0] for why, (when, _) in WHAT_WAS_KNOWN.items()} == expected
    assert ask(store, times) == list(expected.values())
    assert ask(store, [when.replace(tzinfo=None) for when in times]) == list(expected.values())
    assert ask(store, times, filter_by_created_timestamp=True) == list(expected.values())


def test_a_nanosecond_early_is_too_early(store: FeatureStore) -> None:
    assert ask(store, [pd.Timestamp(at(5)) - pd.Timedelta(1, "ns"), pd.Timestamp(at(5))]) == [None, 10.0]


def test_of_two_forecasts_the_later_one_counts(store: FeatureStore) -> None:
    """Both are known before their time comes; neither is seen before it does."""
    frame = pd.DataFrame({"airport": "LGA", "event_timestamp": [at(85), at(90)]})
    assert store.get_historical_features(frame, ["airports:speed"]).to_arrow()["speed"].to_pylist() == [None, 8.0]


@pytest.mark.parametrize("process_zone", ZONES, indirect=True)
def test_a_date_is_its_midnight_in_utc(empty_store: FeatureStore, process_zone: str, tmp_path: Path) -> None:
    day = T0.date()
    table = pa.table({"plane": [1, 1], "origin": ["EWR"] * 2, "event": [day, day + timedelta(days=1)], "value": [1, 2]})
    write_deltalake(str(tmp_path / "days"), table)
    noon = datetime(2013, 3, 10, 12, tzinfo=UTC)
    midnights = [noon.replace(hour=0) + timedelta(days=days) for days in range(3)]
    times = [moment for midnight in midnights for moment in (midnight - timedelta(microseconds=1), midnight)]
    frame = pd.DataFrame({"plane": 1, "origin": "EWR", "event_timestamp": times})

    result = DuckDBAsofOfflineStore.get_historical_features(
        empty_store.config,
        [two_key_view(tmp_path / "days", timedelta(days=1), bitemporal=False)],
        ["v:value"],
        frame,
        empty_store.registry,
        "test",
    ).to_arrow()

    assert result["value"].to_pylist() == [None, 1, 1, 2, 2, 2]


def test_rows_out_are_rows_in(store: FeatureStore) -> None:
    """Given duplicates, unknown keys, nulls and no order, every row comes back in its place with its other columns."""
    frame = pd.DataFrame(
        {
            "plane": pd.array([1, 7, 1, None, 1, 2], dtype="Int64"),
            "event_timestamp": [at(21), at(21), at(5), at(21), at(21), at(21)],
            "delayed": pd.Categorical(["y", "n", "y", "n", "y", "n"]),
            "score": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        },
        index=[5, 5, 3, 9, 0, 1],
    )

    result = store.get_historical_features(frame, ["planes:speed"]).to_df()

    expected = frame.reset_index(drop=True).assign(speed=[30.0, None, 10.0, None, 30.0, None])
    pd.testing.assert_frame_equal(result, expected, check_dtype=False)
    assert list(store.get_historical_features(frame[:0], ["planes:speed"]).to_df()["speed"]) == []


def test_keys_match_exactly_or_not_at_all(store: FeatureStore) -> None:
    assert ask(store, [at(21)] * 2, [1.0, None]) == [30.0, None]  # pandas made floats of integers with a gap
    assert ask(store, [at(21)], pd.array([1], dtype="int8")) == [30.0]
    assert ask(store, [at(21)], [None]) == [None]
    for wrong in ("1", 1.5):
        with pytest.raises(ConfigurationError, match="join key plane"):
            ask(store, [at(21)], [wrong])
    categories = pd.DataFrame({"airport": pd.Categorical(["JFK"]), "event_timestamp": [at(1)]})
    assert list(store.get_historical_features(categories, ["airports:speed"]).to_df()["speed"]) == [2.0]


def test_entity_times_may_be_text_or_dates(store: FeatureStore) -> None:
    assert ask(store, ["2013-03-10T06:21:00Z", "2013-03-10 02:21:00-04:00"]) == [30.0, 30.0]
    assert ask(store, [at(21).date() + timedelta(days=1)]) == [None]
    for wrong in ([1], ["soon"]):
        with pytest.raises(ConfigurationError, match="event_timestamp"):
            ask(store, wrong)


def test_the_time_of_an_entity_row_must_be_clear(store: FeatureStore) -> None:
    two = pd.DataFrame({"plane": [1], "departs": [at(21)], "arrives": [at(90)]})
    with pytest.raises(ConfigurationError, match="2 timestamp columns"):
        store.get_historical_features(two, ["planes:speed"])
    one = store.get_historical_features(two[["plane", "departs"]], ["planes:speed"]).to_df()
    assert list(one["speed"]) == [30.0]


def test_two_roles_of_one_entity(store: FeatureStore) -> None:
    """Given the airports' view joined as origin and as destination, each role gets its own values."""
    airports, planes = store.get_feature_view("airports"), store.get_feature_view("planes")
    service = FeatureService(
        name="delay_v1",
        features=[
            airports.with_name("origin").with_join_key_map({"airport": "from"}),
            airports.with_name("destination").with_join_key_map({"airport": "to"}),
            planes,
        ],
    )
    store.apply([service])
    frame = pd.DataFrame({"from": ["EWR", "JFK"], "to": ["JFK", "XXX"], "plane": [1, 1], "event_timestamp": at(21)})

    result = store.get_historical_features(frame, store.get_feature_service("delay_v1"), full_feature_names=True)

    assert result.to_arrow().select(["origin__speed", "destination__speed", "planes__speed"]).to_pydict() == {
        "origin__speed": [1.0, 2.0],
        "destination__speed": [2.0, None],
        "planes__speed": [30.0, 30.0],
    }


def test_a_column_never_hides_another(store: FeatureStore) -> None:
    frame = pd.DataFrame({"plane": [1], "event_timestamp": [at(21)], "speed": [5.0]})
    with pytest.raises(ConfigurationError, match="column speed would come twice"):
        store.get_historical_features(frame, ["planes:speed"]).to_df()

    full = store.get_historical_features(frame, ["planes:speed"], full_feature_names=True).to_df()

    assert (full["speed"][0], full["planes__speed"][0]) == (5.0, 30.0)


def test_a_view_without_entity(store: FeatureStore) -> None:
    frame = pd.DataFrame({"event_timestamp": [at(-1), at(0), at(6), at(21)]})
    result = store.get_historical_features(frame, ["fleet:speed"]).to_arrow()
    assert result["speed"].to_pylist() == [None, 77.0, 10.0, 30.0]


def test_entity_rows_from_sql(store: FeatureStore) -> None:
    """SQL gives the rows; it may name data sources, and its times without a zone are UTC."""
    sql = "SELECT unnest([1, 7]) AS plane, TIMESTAMP '2013-03-10 06:21:00' AS planned"
    assert store.get_historical_features(sql, ["planes:speed"]).to_arrow()["speed"].to_pylist() == [30.0, None]

    named = store.get_historical_features(
        "SELECT plane, available_at FROM planes WHERE speed < 50 ORDER BY speed", ["planes:speed"]
    )

    assert named.to_arrow()["speed"].to_pylist() == [10.0, 31.0, 30.0, 31.0]
    assert named.data_versions == {"planes": 0}
    for wrong in ("SELEKT", "SELECT nothing FROM planes", "SET threads = 1", "CREATE TABLE t (i INT)"):
        with pytest.raises(ConfigurationError, match=r"entity SQL|0 timestamp columns"):
            store.get_historical_features(wrong, ["planes:speed"]).to_df()


def test_a_range_instead_of_entity_rows(store: FeatureStore) -> None:
    """Given two dates, there is a row for each moment in between at which something became known."""
    result = store.get_historical_features(
        None, ["planes:speed"], start_date=at(5), end_date=at(40).replace(tzinfo=None)
    )
    assert result.to_arrow().to_pydict() == {
        "plane": [1, 1, 1],
        "event_timestamp": [at(5), at(21), at(40)],
        "speed": [10.0, 30.0, 31.0],
    }
    with pytest.raises(ConfigurationError, match="start_date and end_date"):
        store.get_historical_features(None, ["planes:speed"], end_date=at(40))
    with pytest.raises(ConfigurationError, match="the same join keys"):
        store.get_historical_features(
            None, ["planes:speed", "airports:speed"], full_feature_names=True, start_date=at(0), end_date=at(40)
        )


# --- data versions


def test_a_retrieval_reads_the_version_it_was_created_on(store: FeatureStore) -> None:
    frame = pd.DataFrame({"plane": [1], "event_timestamp": [at(21)]})
    before = store.get_historical_features(frame, ["planes:speed"])
    path = store.get_data_source("planes").path
    DeltaTable(path).update(updates={"speed": "0.0"})

    after = store.get_historical_features(frame, ["planes:speed"])
    with pinned_versions({"planes": 0, "other": 7}):
        pinned = store.get_historical_features(frame, ["planes:speed"])

    speeds = [job.to_arrow()["speed"].to_pylist() for job in (before, after, pinned)]
    assert speeds == [[30.0], [0.0], [30.0]]
    assert [job.data_versions for job in (before, after, pinned)] == [{"planes": 0}, {"planes": 1}, {"planes": 0}]


def test_a_source_may_name_its_version(store: FeatureStore, tmp_path: Path) -> None:
    DeltaTable(str(tmp_path / "planes")).delete()
    old = DeltaSource("old", tmp_path / "planes", "event_timestamp", version=0)

    assert pull_all(store, old).num_rows == 6
    with pinned_versions({"old": 1}):
        assert pull_all(store, old).num_rows == 0
    gone = DeltaSource("gone", tmp_path / "planes", "event_timestamp", version=9)
    with pytest.raises(ConfigurationError, match="version 9"):
        pull_all(store, gone)


# --- plain reads


def pull_all(store: FeatureStore, source: DeltaSource, *dates: datetime) -> pa.Table:
    job = DuckDBAsofOfflineStore.pull_all_from_table_or_query(
        store.config, source, ["plane"], ["speed"], "event_timestamp", source.created_timestamp_column, *dates
    )
    return job.to_arrow()


def test_pull_all_bounds_are_inclusive(store: FeatureStore) -> None:
    source = store.get_data_source("planes")
    assert pull_all(store, source).column_names == ["plane", "speed", "event_timestamp", "available_at"]
    assert sorted(pull_all(store, source, at(10), at(20))["speed"].to_pylist()) == [20.0, 30.0, 31.0]
    assert sorted(pull_all(store, source, at(10).replace(tzinfo=None))["speed"].to_pylist()) == [20.0, 30.0, 31.0]


def test_pull_latest_takes_the_newest_of_each_key(store: FeatureStore) -> None:
    def latest(end: datetime) -> list[dict[str, Any]]:
        job = DuckDBAsofOfflineStore.pull_latest_from_table_or_query(
            store.config,
            store.get_data_source("planes"),
            ["plane"],
            ["speed"],
            "event_timestamp",
            "available_at",
            at(0),
            end,
        )
        return sorted(job.to_arrow().select(["plane", "speed"]).to_pylist(), key=lambda row: row["plane"])

    assert latest(at(20)) == [{"plane": 1, "speed": 31.0}, {"plane": 2, "speed": 99.0}]
    assert latest(at(19)) == [{"plane": 1, "speed": 20.0}, {"plane": 2, "speed": 99.0}]


@pytest.mark.parametrize("minute", [-1, 4, 5, 20, 21, 40, 60, 80, 81])
def test_latest_known_is_what_the_join_finds(store: FeatureStore, minute: int) -> None:
    view = store.get_feature_view("planes")

    table = latest_known(store.config, view, at(minute)).to_arrow()

    assert table.column_names == ["plane", "speed", "event_timestamp", "available_at"]
    joined = ask(store, [at(minute)])
    assert table["speed"].to_pylist() == [speed for speed in joined if speed is not None]


def test_latest_known_since_a_watermark(store: FeatureStore) -> None:
    view = store.get_feature_view("planes")

    def speeds(as_of: float, since: float) -> list[float]:
        return latest_known(store.config, view, at(as_of), at(since)).to_arrow()["speed"].to_pylist()

    assert speeds(50, 21) == [31.0]
    assert speeds(50, 40) == []
    assert speeds(60, 59) == [20.0]  # late: the online store's guard refuses it
    mapped = latest_known(store.config, store.get_feature_view("airports"), at(1)).to_arrow()
    assert mapped.column_names == ["airport", "speed", "event_timestamp", "arrived"]


# --- what is refused


def test_writes_are_refused(store: FeatureStore) -> None:
    view = store.get_feature_view("planes")
    frame = pd.DataFrame({"plane": [1], "speed": [1.0], "event_timestamp": [at(1)], "available_at": [at(1)]})
    job: DuckDBRetrievalJob = latest_known(store.config, view, at(1))
    with pytest.raises(ConfigurationError, match="does not write"):
        store.write_to_offline_store("planes", frame)
    with pytest.raises(ConfigurationError, match="does not write"):
        job.persist(None)
    with pytest.raises(ConfigurationError, match="does not write"):
        DuckDBAsofOfflineStore.write_logged_features()


def test_definitions_that_cannot_work_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    def view(source: Any, feature: str = "speed") -> FeatureView:
        plane = Entity(name="plane", value_type=ValueType.INT64)
        fields = [Field(name="plane", dtype=Int64), Field(name=feature, dtype=Float64)]
        return FeatureView(name="x", entities=[plane], schema=fields, source=source)

    good = store.get_data_source("planes")
    frame = pd.DataFrame({"plane": [1], "event_timestamp": [at(1)]})
    for wrong, words in [
        (view(good, "nothing"), "no column nothing"),
        (view(DeltaSource("s", good.path, "plane")), "not a timestamp"),
        (view(DeltaSource("s", good.path, "gone")), "no column gone"),
        (view(DeltaSource("s", tmp_path / "nowhere", "event_timestamp")), "no Delta table at"),
        (view(FileSource(name="s", path="/x.parquet", timestamp_field="event_timestamp")), "FileSource"),
    ]:
        refs = [f"x:{wrong.features[0].name}"]
        with pytest.raises(ConfigurationError, match=words):
            DuckDBAsofOfflineStore.get_historical_features(store.config, [wrong], refs, frame, store.registry, "test")
    with pytest.raises(ConfigurationError, match="entity_df is a list"):
        DuckDBAsofOfflineStore.get_historical_features(
            store.config, [store.get_feature_view("planes")], ["planes:speed"], [], store.registry, "test"
        )
    with pytest.raises(ConfigurationError, match="no column plane"):
        store.get_historical_features(frame[["event_timestamp"]], ["planes:speed"]).to_df()


def test_a_source_that_cannot_work_is_not_valid(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="relative"):
        DeltaSource("s", "tables/planes", "event_timestamp")
    for wrong in (
        DeltaSource("s", tmp_path / "nowhere", "event_timestamp"),
        DeltaSource("s", tmp_path / "planes", "event_timestamp", "speed"),
    ):
        with pytest.raises(ConfigurationError):
            store._get_provider().validate_data_source(store.config, wrong)
    store._get_provider().validate_data_source(store.config, store.get_data_source("airports"))


def test_on_demand_views_are_refused(store: FeatureStore) -> None:
    def double(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"twice": inputs["speed"]}

    odfv = OnDemandFeatureView(
        name="doubled",
        sources=[store.get_feature_view("planes")],
        schema=[Field(name="twice", dtype=Float64)],
        udf=double,
        udf_string="double",
        mode="python",
    )
    store.registry.apply_feature_view(odfv, "test")
    frame = pd.DataFrame({"plane": [1], "event_timestamp": [at(21)]})
    with pytest.raises(ConfigurationError, match="on-demand"):
        store.get_historical_features(frame, ["doubled:twice"])


def test_schema_is_inferred_from_the_table(store: FeatureStore, tmp_path: Path) -> None:
    source = DeltaSource("inferred", tmp_path / "airports", "ts", "arrived", field_mapping={"wind_kn": "wind"})
    view = FeatureView(name="inferred", source=source)

    store.apply([source, view])

    fields = {field.name: field.dtype for field in store.get_feature_view("inferred").features}
    assert fields == {"code": String, "wind": Float64}
    assert store.get_data_source("inferred") == source
    assert store.get_data_source("inferred") != store.get_data_source("airports")
    with pytest.raises(ConfigurationError, match="no SQL table"):
        source.get_table_query_string()


def test_the_configuration_refuses_unknown_keys() -> None:
    assert DuckDBAsofOfflineStoreConfig().type == STORE
    for wrong in ({"thread": 2}, {"threads": 0}):
        with pytest.raises(ValidationError):
            DuckDBAsofOfflineStoreConfig(**wrong)


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")

    assert storage_options("s3://lake/t")["AWS_ENDPOINT_URL"] == "http://minio:9000"
    assert storage_options("/lake/t") == {}
    assert "minio" not in str(DeltaSource("s", "s3://lake/t", "event_timestamp").to_proto())
