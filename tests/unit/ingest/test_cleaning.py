"""Raw -> clean: the use case's expression, keys, and since when a row may be known."""

from __future__ import annotations

import types
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parcels import source as parcels_source
from parcels import world

from airworthy.config import UseCase, load_use_case
from airworthy.errors import ConfigurationError
from airworthy.ingest import cleaning, parse_rows, table_schemas
from airworthy.ingest.schemas import UTC_TIMESTAMP, clean_schema
from airworthy.intervals import Interval

DAY = Interval.of("2013-11-05")


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    return load_use_case("parcels")


def raw(use_case: UseCase, rows: list[dict[str, str]] | None = None) -> pa.Table:
    return parse_rows(use_case, "parcels", [dict(r) for r in rows or world.parcels(DAY.key)])


def test_schemas_need_no_data_and_hold_for_the_data(use_case: UseCase) -> None:
    schemas = table_schemas(use_case)
    assert {name.split("/")[1] for name in schemas} == {"raw", "clean", "quarantine", "superseded"}
    assert len(schemas) == 4 * len(use_case.sources)
    clean = schemas["parcels/clean/parcels"]
    assert clean.names == [*world.COLUMNS, "promised_hour", "heavy", "available_at"]
    assert clean.field("promised_hour").type == clean.field("available_at").type == pa.timestamp("us", "UTC")
    assert clean.field("heavy").type == pa.int64()
    assert cleaning.run_clean(use_case, "parcels", raw(use_case)).schema == clean.remove(len(clean) - 1)
    assert schemas["parcels/quarantine/vans"].names == ["row", "reason", "file", "digest"]


def test_a_time_that_lost_its_zone_is_utc(use_case: UseCase) -> None:
    row = cleaning.run_clean(use_case, "parcels", raw(use_case)).slice(0, 1).to_pylist()[0]
    assert row["promised"] == datetime(2013, 11, 5, 13, 15, tzinfo=UTC)
    assert row["promised_hour"] == datetime(2013, 11, 5, 13, tzinfo=UTC)


@pytest.mark.parametrize("change", [lambda t: t.filter(t.pieces > 1), lambda t: t.union(t)])
def test_an_expression_that_loses_or_adds_rows_is_refused(
    use_case: UseCase, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    monkeypatch.setattr(parcels_source, "clean_parcels", change)
    with pytest.raises(ConfigurationError, match="rows out of 40"):
        cleaning.run_clean(use_case, "parcels", raw(use_case))


def test_an_expression_that_does_not_fit_names_the_function(use_case: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels_source, "clean_parcels", lambda t: t.mutate(x=t.colour))
    with pytest.raises(ConfigurationError, match="clean_parcels"):
        clean_schema(use_case, "parcels")
    monkeypatch.setattr(UseCase, "source_module", lambda self: types.ModuleType("empty"))
    with pytest.raises(ConfigurationError, match="empty has no clean_parcels"):
        clean_schema(use_case, "parcels")


def test_availability_is_observation_plus_lag(use_case: UseCase) -> None:
    clean = cleaning.run_clean(use_case, "parcels", raw(use_case))
    assert set(cleaning.availability(use_case, "parcels", clean, DAY).to_pylist()) == {DAY.end + timedelta(hours=2)}
    start = {"parcels": use_case.sources["parcels"].model_copy(update={"observed": "interval_start"})}
    moved = use_case.model_copy(update={"sources": start})
    assert set(cleaning.availability(moved, "parcels", clean, DAY).to_pylist()) == {DAY.start + timedelta(hours=2)}
    column = {"parcels": use_case.sources["parcels"].model_copy(update={"observed": "promised"})}
    by_column = cleaning.availability(use_case.model_copy(update={"sources": column}), "parcels", clean, DAY)
    assert by_column[0].as_py() == datetime(2013, 11, 5, 15, 15, tzinfo=UTC)
    wrong = {"parcels": use_case.sources["parcels"].model_copy(update={"observed": "zone"})}
    with pytest.raises(ConfigurationError, match="no timestamp"):
        cleaning.availability(use_case.model_copy(update={"sources": wrong}), "parcels", clean, DAY)


def test_keys_must_be_there_and_unique(use_case: UseCase) -> None:
    rows = world.parcels(DAY.key, 5)
    rows[3]["parcel"] = rows[0]["parcel"]
    clean = cleaning.run_clean(use_case, "parcels", raw(use_case, rows))
    (failure,) = cleaning.key_failures(use_case, "parcels", clean)
    assert (failure.check, failure.column, failure.count) == ("key is not unique", "parcel", 2)
    assert failure.examples == ("p20131105000",)
    by_weight = {"parcels": use_case.sources["parcels"].model_copy(update={"key": ["parcel", "weight"]})}
    (empty,) = cleaning.key_failures(use_case.model_copy(update={"sources": by_weight}), "parcels",
                                     cleaning.run_clean(use_case, "parcels", raw(use_case)))  # fmt: skip
    assert (empty.check, empty.column, empty.count) == ("key column is empty", "weight", 1)
    absent = {"parcels": use_case.sources["parcels"].model_copy(update={"key": ["colour"]})}
    with pytest.raises(ConfigurationError, match="colour"):
        cleaning.key_failures(use_case.model_copy(update={"sources": absent}), "parcels", clean)


BASE, NOW = datetime(2013, 11, 6, tzinfo=UTC), datetime(2013, 11, 20, tzinfo=UTC)
ROW = st.tuples(st.sampled_from([None, 0.1, 2.0]), st.sampled_from([None, "a", "b"]))


def rows_of(content: dict[int, tuple[float | None, str | None]], known: datetime) -> pa.Table:
    return pa.table(
        {
            "k": pa.array(content.keys(), pa.int64()),
            "w": pa.array([w for w, _ in content.values()], pa.float64()),
            "s": pa.array([s for _, s in content.values()], pa.string()),
            "available_at": pa.array([known] * len(content), UTC_TIMESTAMP),
        }
    )


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(0, 8), ROW, max_size=9), st.dictionaries(st.integers(0, 8), ROW, max_size=9))
def test_a_correction_is_known_from_when_it_came_and_only_where_it_corrects(
    old: dict[int, tuple[float | None, str | None]], new: dict[int, tuple[float | None, str | None]]
) -> None:
    before = BASE - timedelta(hours=1)
    found = cleaning.as_correction(rows_of(new, BASE), rows_of(old, before), NOW)
    assert found.schema == rows_of(new, BASE).schema
    expected = {k: before if k in old and old[k] == row else NOW for k, row in new.items()}
    assert {r["k"]: r["available_at"] for r in found.to_pylist()} == expected
    assert {r["k"]: (r["w"], r["s"]) for r in found.to_pylist()} == new


def test_a_correction_before_its_lag_is_over_is_not_known_early() -> None:
    found = cleaning.as_correction(rows_of({1: (0.1, "a")}, BASE), rows_of({}, BASE), BASE - timedelta(days=3))
    assert found.column("available_at").to_pylist() == [BASE]
