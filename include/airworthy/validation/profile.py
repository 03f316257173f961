"""Profiles: what rows of a table look like, column by column, computed by DuckDB in one pass and shown with plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from airworthy.config import get_settings
from airworthy.errors import shown
from airworthy.lake.duck import quote, session
from airworthy.lake.landing import write_file
from airworthy.records import Record
from airworthy.validation.data_docs import page

BINS, MOST = 12, 5
BAR, HEIGHT = 12, 32


class ColumnProfile(Record):
    """What is in one column.

    Attributes:
        name, type: The column.
        nulls: Rows without a value.
        distinct: Different values.
        low, high: Smallest and largest value, or the mask of a tagged column; None without values.
        mean: Mean of numbers; share of true.
        bins: Rows by equal ranges from low to high, for numbers and times.
        most: The most frequent texts, with their rows.
    """

    name: str
    type: str
    nulls: int
    distinct: int
    low: str | None
    high: str | None
    mean: float | None = None
    bins: tuple[int, ...] = ()
    most: tuple[tuple[str, int], ...] = ()


class TableProfile(Record):
    """What is in rows of a table.

    Attributes:
        title: The table and its intervals.
        rows: Rows.
        columns: Column by column, in order.
        label: Name of the label's column; empty when the table has none.
        label_rate: Share of positive labels among the labelled rows.
    """

    title: str
    rows: int
    columns: tuple[ColumnProfile, ...]
    label: str = ""
    label_rate: float | None = None


def profiles(
    rows: pa.Table, masks: Mapping[str, str] | None = None, *, title: str = "", label: str = ""
) -> TableProfile:
    """Profile rows of a table.

    Args:
        rows: The rows; columns of lists are left out.
        masks: What is shown instead of the values of tagged columns.
        title: The table and its intervals, for people.
        label: The label's column, if the table has it.
    """
    fields = [field for field in rows.schema if not kinds.is_nested(field.type)]
    with session() as connection:
        connection.register("profiled", rows)
        figures = ", ".join(_figures(field) for field in fields)
        answer = connection.execute(f"SELECT {figures} FROM profiled").fetchone() or ()  # noqa: S608 - quoted names
    found = [
        _column(field, rows[field.name], answer[4 * n : 4 * n + 4], (masks or {}).get(field.name))
        for n, field in enumerate(fields)
    ]
    rate = next((column.mean for column in found if column.name == label), None)
    return TableProfile(
        title=title, rows=rows.num_rows, columns=tuple(found), label=label if rate is not None else "", label_rate=rate
    )


def write_profiles(use_case: str, place: str, found: Sequence[TableProfile]) -> str:
    """Keep profiles as JSON and as a page with plots beside the Data Docs of a run; returns the page's URL.

    Args:
        use_case: The use case's name.
        place: Folder of the run, of its own.
        found: The profiles.
    """
    settings, folder = get_settings(), f"data_docs/{use_case}/{place}/profile"
    content = "[" + ",\n".join(profile.model_dump_json() for profile in found) + "]"
    write_file(f"{settings.docs_url}/{folder}", "profile.json", content.encode())
    body = "".join(map(_section, found))
    write_file(f"{settings.docs_url}/{folder}", "index.html", page(f"Profile: {use_case}, {place}", body).encode())
    return f"{settings.reports_url}/{folder}/index.html"


def _figures(field: pa.Field) -> str:
    name = quote(field.name)
    number = kinds.is_integer(field.type) or kinds.is_floating(field.type) or kinds.is_boolean(field.type)
    mean = f"avg({name}::DOUBLE)" if number else "NULL"
    return f"count({name}), min({name})::VARCHAR, max({name})::VARCHAR, {mean}"


def _column(field: pa.Field, values: pa.ChunkedArray, figures: tuple[Any, ...], mask: str | None) -> ColumnProfile:
    count, low, high, mean = figures
    nulls, kind = len(values) - count, str(field.type)
    distinct = pc.count_distinct(values).as_py()  # exact, and a tenth of what it costs in SQL
    if mask:
        end = mask if count else None
        return ColumnProfile(name=field.name, type=kind, nulls=nulls, distinct=distinct, low=end, high=end)
    return ColumnProfile(
        name=field.name, type=kind, nulls=nulls, distinct=distinct, low=_end(low), high=_end(high), mean=mean,
        bins=_bins(values), most=_most(values) if kinds.is_string(field.type) else (),
    )  # fmt: skip


def _end(text: str | None) -> str | None:
    return None if text is None else shown(text)


def _bins(values: pa.ChunkedArray) -> tuple[int, ...]:
    kind = values.type
    if kinds.is_timestamp(kind):
        values = values.cast(pa.int64())
    elif not (kinds.is_integer(kind) or kinds.is_floating(kind)):
        return ()
    numbers = values.drop_null().to_numpy().astype("float64")
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return ()
    with np.errstate(over="ignore"):
        span = numbers.max() - numbers.min()
    if not 0 < span < np.inf:
        return (int(numbers.size),)
    places = np.minimum(((numbers - numbers.min()) / span * BINS).astype(int), BINS - 1)
    return tuple(int(n) for n in np.bincount(places, minlength=BINS))


def _most(values: pa.ChunkedArray) -> tuple[tuple[str, int], ...]:
    counted = pc.value_counts(values.drop_null())
    order = pc.select_k_unstable(counted.field("counts"), MOST, sort_keys=[("", "descending")])
    return tuple((shown(row["values"]), row["counts"]) for row in counted.take(order).to_pylist())


def _section(found: TableProfile) -> str:
    rate = f", {found.label_rate:.1%} of the labels ({escape(found.label)}) are positive" if found.label else ""
    head = "".join(f"<th>{name}</th>" for name in ("Column", "Type", "Empty", "Distinct", "From", "To", "Mean", ""))
    rows = "".join(_row(column, found.rows) for column in found.columns)
    return f"<h2>{escape(found.title)}</h2><p>{found.rows:,} rows{rate}.</p><table><tr>{head}</tr>{rows}</table>"


def _row(column: ColumnProfile, rows: int) -> str:
    empty = f"{column.nulls:,} ({column.nulls / rows:.0%})" if column.nulls else "0"
    cells = (
        column.name, column.type, empty, f"{column.distinct:,}", column.low or "", column.high or "",
        "" if column.mean is None else f"{column.mean:.4g}",
    )  # fmt: skip
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + f"<td>{_plot(column)}</td></tr>"


def _plot(column: ColumnProfile) -> str:
    counts = column.bins or tuple(count for _, count in column.most)
    if not counts:
        return ""
    top, width = max(counts), BAR * len(counts)
    bars = "".join(
        f'<rect x="{n * BAR}" y="{HEIGHT - h}" width="{BAR - 2}" height="{h}" fill="#0b6bcb"/>'
        for n, h in enumerate(round(HEIGHT * count / top) for count in counts)
    )
    names = ", ".join(f"{value}: {count}" for value, count in column.most)
    title = escape(names or f"{column.name}: rows in {len(counts)} equal ranges")
    return f'<svg role="img" aria-label="{title}" width="{width}" height="{HEIGHT}"><title>{title}</title>{bars}</svg>'
