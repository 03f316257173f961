"""Suites name every column, and on the real year only what is truly wrong goes to quarantine."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from airworthy.config import UseCase, load_use_case
from airworthy.ingest.cleaning import availability, run_clean
from airworthy.ingest.parse import parse_file
from airworthy.intervals import Interval, days
from airworthy.validation import row_rule, validate, validate_stage
from use_cases.flight_delays.world import World

SOURCES = ["flights", "weather", "airport_state", "planes"]


def suite(case: UseCase, source: str) -> list[dict]:
    return json.loads(case.suite_path(source).read_text())["expectations"]


@pytest.mark.parametrize(
    ("package", "source"), [*(("use_cases.flight_delays", s) for s in SOURCES), ("tiny_orders", "orders")]
)
def test_a_suite_speaks_of_the_sources_columns(package: str, source: str) -> None:
    case = load_use_case(package)
    columns, rules = case.sources[source].columns, suite(case, source)

    [names] = [r["kwargs"]["column_set"] for r in rules if r["type"] == "expect_table_columns_to_match_set"]
    assert names == list(columns)
    needed = {r["kwargs"]["column"] for r in rules if r["type"] == "expect_column_values_to_not_be_null"}
    assert needed == {name for name, column in columns.items() if not column.nullable}
    for rule in rules:
        assert rule["severity"] == ("warning" if "column" in rule["kwargs"] else "critical"), rule
        assert {rule["kwargs"]["column"]} <= set(columns) if "column" in rule["kwargs"] else True
    judged = {r["kwargs"]["column"] for r in rules if "between" in r["type"] and "column" in r["kwargs"]}
    assert {n for n, c in columns.items() if c.type in ("int64", "float64")} <= judged


def test_in_the_whole_year_one_row_is_rejected(world: World, case: UseCase) -> None:
    rejected = []
    for source in SOURCES:
        rule = row_rule(case, source)
        for day in days(case.data.first_interval, case.data.last_interval):
            rows = parse_file(case.sources[source], world.content(source, day.key)).rows
            rejected += [(source, day.key, row) for row in rows.filter(pc.invert(rule(rows))).to_pylist()]

    [(source, key, row)] = rejected
    assert (source, key, row["origin"], row["wind_speed"]) == ("weather", "2013-02-12", "EWR", 1048.36058)


@pytest.mark.parametrize("key", ["2013-01-01", "2013-02-12", "2013-03-10", "2013-11-03", "2013-12-31"])
def test_real_days_pass_great_expectations(world: World, case: UseCase, key: str) -> None:
    for source in SOURCES:
        if source == "planes" and key != "2013-01-01":
            continue
        rows: pa.Table = parse_file(case.sources[source], world.content(source, key)).rows
        report, mask, reasons = validate(case, source, rows, Interval.of(key))

        assert report.passed, report
        assert pc.sum(mask).as_py() in (None, 0) or (source, key) == ("weather", "2013-02-12")
        assert [r for r in reasons if r] == ([reasons[pc.index(mask, True).as_py()]] if report.rejected else [])

        clean = run_clean(case, source, rows.filter(pc.invert(mask)))
        clean = clean.append_column("available_at", availability(case, source, clean, Interval.of(key)))
        for thorough, engine in ((False, "compiled"), (True, "great_expectations")):
            found = validate_stage(case, "clean", source, clean, Interval.of(key), thorough=thorough)
            assert found is not None
            assert (found.passed, found.engine) == (True, engine)
            assert all(r.success for r in found.results)


def test_too_many_impossible_winds_stop_the_day(world: World, case: UseCase) -> None:
    rows = parse_file(case.sources["weather"], world.content("weather", "2013-05-05")).rows
    position = rows.schema.get_field_index("wind_speed")
    broken = pa.array([1048.0] * 5 + rows["wind_speed"].to_pylist()[5:])

    report, mask, _ = validate(
        case, "weather", rows.set_column(position, "wind_speed", broken), Interval.of("2013-05-05")
    )

    assert not report.passed
    assert pc.sum(mask).as_py() == report.rejected == 5


def test_rows_of_another_day_stop_the_interval(world: World, case: UseCase) -> None:
    # A file that was landed into the wrong folder is in order by itself.
    rows = parse_file(case.sources["weather"], world.content("weather", "2013-05-05")).rows
    assert validate(case, "weather", rows, Interval.of("2013-05-05"))[0].passed
    report, mask, reasons = validate(case, "weather", rows, Interval.of("2013-05-06"))
    assert not report.passed
    assert pc.sum(mask).as_py() == rows.num_rows
    assert "time_hour: expect_column_values_to_be_between(min_value='2013-05-06T00:00:00+00:00'" in str(reasons[0])
