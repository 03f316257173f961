"""For each damage that is planted, the named expectation fails and no other; none is there that cannot fail."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import planted
from airworthy import features
from airworthy.config import UseCase, get_settings, load_use_case
from airworthy.features.build import run, spine
from airworthy.features.catalog import SPINE, catalog, relation
from airworthy.ingest import table_schemas
from airworthy.ingest.cleaning import availability, run_clean
from airworthy.ingest.parse import parse_file
from airworthy.ingest.schemas import AVAILABLE_AT
from airworthy.intervals import Interval
from airworthy.lake.duck import session
from airworthy.lake.tables import INTERVAL
from airworthy.monitoring.collect import SCHEMA, as_judged
from airworthy.serving import batch
from airworthy.training.training_set import LABEL, PART, TIME
from airworthy.validation import gx
from airworthy.validation.row_rules import fulfilled
from airworthy.validation.screen import holds
from airworthy.validation.suites import Suite, load_suite, stage_suite
from use_cases.flight_delays.world import World

DAY = Interval.of("2013-01-01")  # the day with the register of planes
ROWS = 60  # fewer than any bound of a suite
FOLDER = get_settings().expectations / "flight_delays"
SUITES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.json"))
DOMAIN = ("between", "in_set", "match_regex", "greater_than_b")


@pytest.fixture(scope="module")
def tables(case: UseCase, world: World) -> dict[str, pa.Table]:
    """The rows of one day in every table of the platform, by the name of the suite."""
    found = {}
    for source in case.sources:
        raw = parse_file(case.sources[source], world.content(source, DAY.key)).rows
        clean = run_clean(case, source, raw)
        found[source] = raw
        found[f"clean/{source}"] = clean.append_column(AVAILABLE_AT, availability(case, source, clean, DAY))
    with session() as connection:
        for source in case.sources:
            clean = found[f"clean/{source}"]
            connection.register(relation(source), clean.append_column(INTERVAL, pa.array([DAY.key] * clean.num_rows)))
        for view in catalog(case).views:
            connection.register(SPINE, spine(case, view, [DAY]))
            found[f"features/{view.name}"] = run(connection, view).select(view.schema.names).cast(view.schema)
    return found


@lru_cache
def schema_of(name: str) -> pa.Schema:
    case = load_use_case("use_cases.flight_delays")
    layer, _, table = name.rpartition("/")
    if layer == "training":
        kinds = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
        moment = pa.timestamp("us", "UTC")
        keys = [("carrier", pa.string()), ("flight", pa.int64()), ("origin", pa.string()), ("sched_dep", moment)]
        columns = [(n, kinds[k]) for n, k in features.feature_columns(case).items()]
        return pa.schema([(PART, pa.string()), (LABEL, pa.bool_()), (TIME, moment), *keys, *columns])
    if layer == "log":
        return as_judged(SCHEMA.empty_table()).schema
    known = {**table_schemas(case), **features.table_schemas(case), **batch.table_schemas(case)}
    return known[case.table(layer or "raw", table)]


def the_suite(case: UseCase, name: str) -> Suite:
    layer, _, table = name.rpartition("/")
    found = stage_suite(case, layer, table, schema_of(name)) if layer else load_suite(case, table)
    assert found is not None
    return found.at(DAY, DAY)


def good(case: UseCase, tables: dict[str, pa.Table], name: str) -> pa.Table:
    if name in tables:
        return tables[name].slice(0, ROWS).combine_chunks()
    return planted.good_rows(the_suite(case, name), schema_of(name), ROWS, DAY.start)


def broken(suite: Suite, rows: pa.Table) -> set[int]:
    return {n for n, e in enumerate(suite.expectations) if holds(e, rows) is False}


def test_every_table_has_its_suite(case: UseCase) -> None:
    names = {n.split("/", 1)[1].removeprefix("raw/") for n in {**table_schemas(case), **features.table_schemas(case)}}
    assert {n for n in names if not n.startswith(("quarantine/", "superseded/"))} | {
        "training/set",
        "log/predictions",
        "scores/batch",
    } == set(SUITES)


@pytest.mark.parametrize("name", SUITES)
def test_every_column_has_a_type_and_a_domain(case: UseCase, name: str) -> None:
    rules = the_suite(case, name).expectations
    judged = {c for e in rules if e.type.endswith(DOMAIN) for c in e.columns}
    for field in schema_of(name):
        known = pa.types.is_boolean(field.type)  # true or false is a domain
        assert known or field.name in judged, f"{field.name} of {name} may hold any {field.type}"
        assert field.type in (pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us", "UTC"))
    columns = [e for e in rules if e.type == "expect_table_columns_to_match_set"]
    assert [e.kwargs["column_set"] for e in columns] == [schema_of(name).names]


@pytest.mark.parametrize("name", SUITES)
def test_each_damage_fails_its_expectation_and_no_other(case: UseCase, tables: dict[str, pa.Table], name: str) -> None:
    suite, rows = the_suite(case, name), good(case, tables, name)
    assert broken(suite, rows) == set()
    done = set()
    for damage in planted.damages(suite, rows.schema):
        tried = [planted.with_cells(rows, {ROWS // 3: cells}) for cells in damage.cells]
        tried = tried or [planted.with_table(rows, suite, damage)]
        assert {damage.number} in [broken(suite, each) for each in tried], damage.what
        done.add(damage.number)
    assert done == set(range(len(suite.expectations)))


@pytest.mark.parametrize("name", SUITES)
def test_great_expectations_finds_every_damage_where_it_was_planted(
    case: UseCase, tables: dict[str, pa.Table], name: str
) -> None:
    suite, rows = the_suite(case, name), good(case, tables, name)
    cells, where = {}, {n: set() for n in range(len(suite.expectations))}
    for damage in planted.damages(suite, rows.schema):
        if damage.cells and len(cells) < rows.num_rows - 1:  # the last row stays good, to be there twice
            row = len(cells)
            fitting = [c for c in damage.cells if broken(suite, planted.with_cells(rows, {row: c})) == {damage.number}]
            cells[row] = fitting[0]
            where[damage.number].add(row)
    damaged = planted.with_cells(rows, cells)
    damaged = pa.concat_tables([damaged, damaged.slice(rows.num_rows - 1)]).append_column(
        "surprise", pa.nulls(rows.num_rows + 1, pa.string())
    )
    for number, (e, found) in enumerate(zip(suite.expectations, gx.run(suite, damaged), strict=True)):
        if e.judges_rows:
            assert set(found["result"].get("unexpected_index_list") or []) == where[number], e.words
            assert set(pc.indices_nonzero(pc.invert(fulfilled(e, damaged))).to_pylist()) == where[number], e.words
        elif e.type.endswith(("match_set", "be_unique")):
            assert not found["success"], e.words
        else:
            assert e.type == "expect_table_row_count_to_be_between" or e.severity == "info", e.words
