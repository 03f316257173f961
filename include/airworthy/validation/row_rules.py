"""The row-level expectations of a suite as Arrow predicates: the same answers as Great Expectations, in microseconds.

Pushed observations are one row each and must be judged by the rules that judge a landed file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from airworthy.config import UseCase
from airworthy.validation.suites import Expectation, Suite, load_suite

RowRule = Callable[[pa.Table], pa.BooleanArray]


def row_rule(use_case: UseCase, table: str) -> RowRule:
    """Compile a source's suite for single rows.

    Args:
        use_case: The use case.
        table: The source.

    Returns:
        A function of rows typed as raw: true where a row fulfils every critical and warning expectation that judges
        rows, false where the row must be rejected; never null. Rules about the bounds of an interval are left out: a
        pushed row belongs to the one that holds it.

    Raises:
        ConfigurationError: the suite cannot be used.
    """
    return compile_rules(load_suite(use_case, table))


def compile_rules(suite: Suite) -> RowRule:
    """As ``row_rule``, of a suite that is read already."""
    rules = [e for e in suite.timeless if e.judges_rows and e.severity != "info"]

    def rule(rows: pa.Table) -> pa.BooleanArray:
        answer: pa.Array = pa.array([True] * rows.num_rows, pa.bool_())
        for expectation in rules:
            answer = pc.and_(answer, fulfilled(expectation, rows))
        return answer

    return rule


def fulfilled(expectation: Expectation, rows: pa.Table) -> pa.BooleanArray:
    """Which rows fulfil one row-level expectation. As in GX, an empty value offends only a rule about emptiness."""
    kwargs = expectation.kwargs
    if expectation.type == "expect_column_pair_values_a_to_be_greater_than_b":
        return _greater(kwargs, _column(rows, kwargs["column_A"]), _column(rows, kwargs["column_B"]))
    values = _column(rows, kwargs["column"])
    empty = pc.is_null(values, nan_is_null=True)
    if expectation.type == "expect_column_values_to_not_be_null":
        return pc.invert(empty)
    if expectation.type == "expect_column_values_to_be_null":
        return empty
    return pc.or_kleene(empty, pc.fill_null(PREDICATES[expectation.type](kwargs, values), False))


def _between(kwargs: dict[str, Any], values: pa.Array) -> pa.Array:
    return _within(kwargs, values, kwargs.get("strict_min", False), kwargs.get("strict_max", False))


def _lengths(kwargs: dict[str, Any], values: pa.Array) -> pa.Array:
    return _within(kwargs, pc.utf8_length(values), kwargs.get("strict_min", False), kwargs.get("strict_max", False))


def _within(kwargs: dict[str, Any], values: pa.Array, strict_min: bool, strict_max: bool) -> pa.Array:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    answer: pa.Array = pa.array([True] * len(values), pa.bool_())
    if low is not None:
        answer = pc.and_kleene(
            answer, (pc.greater if strict_min else pc.greater_equal)(values, _scalar(low, values.type))
        )
    if high is not None:
        answer = pc.and_kleene(answer, (pc.less if strict_max else pc.less_equal)(values, _scalar(high, values.type)))
    return answer


def _in_set(kwargs: dict[str, Any], values: pa.Array) -> pa.Array:
    allowed = kwargs.get("value_set")
    if allowed is None:
        return pa.array([True] * len(values), pa.bool_())
    return pc.is_in(values, value_set=pa.array(allowed, values.type))


def _not_in_set(kwargs: dict[str, Any], values: pa.Array) -> pa.Array:
    return pc.invert(pc.is_in(values, value_set=pa.array(kwargs["value_set"], values.type)))


def _matches(kwargs: dict[str, Any], values: pa.Array) -> pa.Array:
    # Python's own expressions on the distinct values, since GX uses them: another engine knows another language.
    pattern = re.compile(kwargs["regex"])
    coded = values.dictionary_encode()
    answers = pa.array(
        [v is not None and pattern.search(v) is not None for v in coded.dictionary.to_pylist()], pa.bool_()
    )
    return answers.take(coded.indices)


def _not_matches(kwargs: dict[str, Any], values: pa.Array) -> pa.Array:
    return pc.invert(_matches(kwargs, values))


def _greater(kwargs: dict[str, Any], a: pa.Array, b: pa.Array) -> pa.BooleanArray:
    no_a, no_b = pc.is_null(a, nan_is_null=True), pc.is_null(b, nan_is_null=True)
    ignore = kwargs.get("ignore_row_if", "both_values_are_missing")
    ignored = {"both_values_are_missing": pc.and_, "either_value_is_missing": pc.or_}.get(ignore)
    compare = pc.greater_equal if kwargs.get("or_equal") else pc.greater
    answer = pc.and_(pc.fill_null(compare(a, b), False), pc.invert(pc.or_(no_a, no_b)))
    return answer if ignored is None else pc.or_(answer, ignored(no_a, no_b))


def _column(rows: pa.Table, name: str) -> pa.Array:
    combined = rows.column(name).combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _scalar(value: object, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(value, kind) if kinds.is_timestamp(kind) else pa.scalar(value)


PREDICATES: dict[str, Callable[[dict[str, Any], pa.Array], pa.Array]] = {
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": _not_in_set,
    "expect_column_values_to_match_regex": _matches,
    "expect_column_values_to_not_match_regex": _not_matches,
    "expect_column_value_lengths_to_be_between": _lengths,
}
