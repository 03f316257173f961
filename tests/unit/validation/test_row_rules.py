"""Compiled row rules give the answers of the real Great Expectations, and suites that cannot be used are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parcels import world
from parcels.suites import one, raw, with_suite

from airworthy.config import UseCase, load_use_case
from airworthy.errors import ConfigurationError
from airworthy.intervals import Interval
from airworthy.validation import row_rule, validate
from airworthy.validation.suites import load_suite

DAY = Interval.of("2013-11-05")
START = DAY.start


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    return load_use_case("parcels")


bound = st.one_of(st.none(), st.integers(-2, 3), st.sampled_from([-0.5, 1.5]))
flag = st.booleans()
BETWEEN = st.tuples(
    st.sampled_from(["weight", "pieces"]), bound, bound, flag, flag
).filter(lambda t: (t[1] is not None or t[2] is not None) and (t[1] is None or t[2] is None or t[1] < t[2])).map(
    lambda t: one("expect_column_values_to_be_between", column=t[0], min_value=t[1], max_value=t[2], strict_min=t[3],
                  strict_max=t[4])
)  # fmt: skip
moments = st.integers(-3, 3).map(lambda h: START + timedelta(hours=h))
TIMES = moments.map(lambda m: one("expect_column_values_to_be_between", column="promised", min_value=m.isoformat()))
NULLS = st.tuples(
    st.sampled_from(["expect_column_values_to_not_be_null", "expect_column_values_to_be_null"]),
    st.sampled_from(["zone", "weight", "pieces", "promised", "late"]),
).map(lambda t: one(t[0], column=t[1]))
SETS = st.tuples(
    st.sampled_from(["expect_column_values_to_be_in_set", "expect_column_values_to_not_be_in_set"]),
    st.sampled_from([("zone", ["a", "bb"]), ("pieces", [0, 2]), ("weight", [0, 1.5]), ("late", [True]), ("zone", [])]),
).map(lambda t: one(t[0], column=t[1][0], value_set=t[1][1]))
REGEX = st.tuples(
    st.sampled_from(["expect_column_values_to_match_regex", "expect_column_values_to_not_match_regex"]),
    st.sampled_from(["^a", "b$", "(?!b)b?", r"\d", "A|é", ""]),
).map(lambda t: one(t[0], column="zone", regex=t[1]))
LENGTHS = st.integers(0, 2).map(
    lambda n: one("expect_column_value_lengths_to_be_between", column="zone", min_value=n, max_value=2)
)
PAIRS = st.tuples(
    st.sampled_from([("weight", "pieces"), ("delivered", "promised"), ("pieces", "weight")]), flag,
    st.sampled_from(["both_values_are_missing", "either_value_is_missing", "neither", None]),
).map(lambda t: one("expect_column_pair_values_a_to_be_greater_than_b", column_A=t[0][0], column_B=t[0][1],
                    or_equal=t[1], **({} if t[2] is None else {"ignore_row_if": t[2]})))  # fmt: skip
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "zone": st.sampled_from([None, "", "a", "ab", "bb", "é", "3"]),
            "weight": st.sampled_from([None, -1.0, 0.0, 1.5, 3.0]),
            "pieces": st.sampled_from([None, -2, 0, 1, 2, 3]),
            "promised": st.one_of(st.none(), moments),
            "delivered": st.one_of(st.none(), moments),
            "late": st.sampled_from([None, True, False]),
        }
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=ROWS,
    expectations=st.lists(
        st.one_of(BETWEEN, TIMES, NULLS, SETS, REGEX, LENGTHS, PAIRS), min_size=1, max_size=6, unique_by=str
    ),
)
def test_compiled_rules_answer_as_great_expectations_does(
    use_case: UseCase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[dict[str, Any]],
    expectations: list[dict[str, Any]],
) -> None:
    with_suite(tmp_path, expectations, monkeypatch)
    table = raw(**{name: [row[name] for row in rows] for name in rows[0]})
    _, rejected, _ = validate(use_case, "parcels", table, DAY)
    assert row_rule(use_case, "parcels")(table).to_pylist() == [not r for r in rejected.to_pylist()]


def test_no_rows_and_several_chunks_are_fine(use_case: UseCase) -> None:
    rule = row_rule(use_case, "parcels")
    rows = raw(parcel=["p1", "x"], zone=["north", None], weight=[1.0, None])
    assert rule(rows.slice(0, 0)).to_pylist() == []
    assert rule(pa.concat_tables([rows, rows])).to_pylist() == [True, False, True, False]


def test_rules_of_every_severity_but_info_count_for_single_rows(
    use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kwargs = {"column": "pieces", "min_value": 1}
    rows = raw(pieces=[0, 1])
    for severity, expected in (("critical", [False, True]), ("warning", [False, True]), ("info", [True, True])):
        with_suite(tmp_path, [one("expect_column_values_to_be_between", severity, **kwargs)], monkeypatch)
        assert row_rule(use_case, "parcels")(rows).to_pylist() == expected
    share = [one("expect_column_values_to_be_between", "critical", mostly=0.5, **kwargs)]
    with_suite(tmp_path, share, monkeypatch)
    assert row_rule(use_case, "parcels")(rows).to_pylist() == [True, True]


@pytest.mark.parametrize(
    ("expectation", "words"),
    [
        (one("expect_column_values_to_not_be_null", column="colour"), "colour"),
        (one("expect_column_values_to_not_be_null", "fatal", column="zone"), "fatal"),
        (one("expect_column_values_to_match_regex", column="pieces", regex="1"), "not a column of strings"),
        (one("expect_column_values_to_not_be_null", column="zone", row_condition="pieces > 1"), "row_condition"),
        (one("expect_column_values_to_be_between", column="promised", min_value="soon"), "soon"),
        (one("expect_column_values_to_be_in_set", column="pieces", value_set=[1, "2"]), "value_set holds '2'"),
        (one("expect_column_values_to_be_in_set", column="pieces", value_set=[True]), "value_set holds True"),
        ({"kwargs": {}}, "type"),
    ],
)
def test_a_suite_that_cannot_be_used_is_refused_when_read(
    use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expectation: dict[str, Any], words: str
) -> None:
    with_suite(tmp_path, [expectation], monkeypatch)
    with pytest.raises(ConfigurationError, match=words):
        load_suite(use_case, "parcels")


def test_a_missing_suite_says_where_it_should_be(use_case: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UseCase, "suite_path", lambda self, table: Path("/nowhere/parcels.json"))
    with pytest.raises(ConfigurationError, match=r"/nowhere/parcels\.json"):
        load_suite(use_case, "parcels")


def test_the_suites_of_the_parcels_hold_for_good_rows(use_case: UseCase) -> None:
    from airworthy.ingest import parse_rows

    rows = parse_rows(use_case, "parcels", [dict(r) for r in world.parcels(DAY.key)])
    assert all(row_rule(use_case, "parcels")(rows).to_pylist())
    assert rows.column("promised")[0].as_py() == datetime(2013, 11, 5, 13, 15, tzinfo=UTC)
