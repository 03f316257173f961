"""A whole suite as Arrow predicates: does each expectation hold? The answers of Great Expectations, in milliseconds.

A validation by GX has a fixed cost of a quarter of a second of CPU, which eight tables of a live day cannot pay. So GX is
asked where the screen finds something (its answer counts then), and wherever there is time for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airworthy.validation.row_rules import fulfilled
from airworthy.validation.suites import ROW_LEVEL, Expectation, Suite

ABOUT_EMPTINESS = ("expect_column_values_to_not_be_null", "expect_column_values_to_be_null")


def clean(suite: Suite, rows: pa.Table) -> bool:
    """Whether every expectation surely holds; false when one does not, or has no compiled form."""
    return all(holds(expectation, rows) for expectation in suite.expectations)


def holds(expectation: Expectation, rows: pa.Table) -> bool | None:
    """Whether an expectation holds, as GX decides it; None when it has no compiled form."""
    if expectation.type in ROW_LEVEL:
        return _rows(expectation, rows)
    compiled = TABLE_LEVEL.get(expectation.type)
    return compiled(expectation.kwargs, rows) if compiled else None


def _rows(expectation: Expectation, rows: pa.Table) -> bool | None:
    mostly = expectation.kwargs.get("mostly", 1)
    if any(name not in rows.schema.names for name in expectation.columns):
        return None
    good = fulfilled(expectation, rows)
    failed = rows.num_rows - (pc.sum(good).as_py() or 0)
    if not failed or mostly == 1:
        return failed == 0
    if "column" not in expectation.kwargs:
        return None  # which rows of a pair count in the share is GX's to say
    counted = rows.num_rows
    if expectation.type not in ABOUT_EMPTINESS:
        counted -= int(pc.sum(pc.is_null(rows[expectation.kwargs["column"]], nan_is_null=True)).as_py())
    return (counted - failed) / counted >= mostly


def _columns(kwargs: dict[str, Any], rows: pa.Table) -> bool | None:
    wanted, found = set(kwargs["column_set"]), set(rows.schema.names)
    return found == wanted if kwargs.get("exact_match", True) else wanted <= found


def _row_count(kwargs: dict[str, Any], rows: pa.Table) -> bool | None:
    if kwargs.get("strict_min") or kwargs.get("strict_max"):
        return None
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    return (low is None or rows.num_rows >= low) and (high is None or rows.num_rows <= high)


def _unique(kwargs: dict[str, Any], rows: pa.Table) -> bool | None:
    names = kwargs["column_list"]
    if kwargs.get("ignore_row_if", "all_values_are_missing") != "all_values_are_missing":
        return None
    if any(name not in rows.schema.names or rows[name].null_count for name in names):
        return None  # how empty values compare is GX's to say
    return rows.select(names).group_by(names).aggregate([]).num_rows == rows.num_rows


def _unique_values(kwargs: dict[str, Any], rows: pa.Table) -> bool | None:
    if kwargs.get("mostly", 1) != 1 or kwargs["column"] not in rows.schema.names:
        return None
    values = rows[kwargs["column"]].drop_null()
    return pc.count_distinct(values).as_py() == len(values)


TABLE_LEVEL: dict[str, Callable[[dict[str, Any], pa.Table], bool | None]] = {
    "expect_table_columns_to_match_set": _columns,
    "expect_table_row_count_to_be_between": _row_count,
    "expect_compound_columns_to_be_unique": _unique,
    "expect_column_values_to_be_unique": _unique_values,
}
