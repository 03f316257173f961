"""The encoder: features as they are named become the matrix that a model reads. It is data, never code.

Two styles: ``codes`` (trees: a category is its number, nothing known is NaN) and ``dense`` (models that take no NaN:
one column for each category, numbers standardised, nothing known becomes the mean, flagged where training saw gaps);
and ``both``, the one beside the other, for an ensemble of such models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.errors import CheckFailure, ConfigurationError, DataRejectedError, ReleaseError

Style = Literal["codes", "dense", "both"]
NUMERIC_TYPES = frozenset(
    {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64", "boolean", "bool"}
)
# HistGradientBoosting takes at most 255 categories in a column; the rarest of more than this count as unknown.
MAX_CATEGORIES = 250
EXACT = 1 << 53  # below this every whole number is one of double precision


@dataclass(frozen=True)
class EncodedColumn:
    """How one column is encoded.

    Attributes:
        name: The feature.
        type: Its Ibis type.
        categories: Known values, sorted; None for a number.
        mean, scale: For ``dense`` numbers: (value - mean) / scale.
        flag: For ``dense`` numbers: whether a column says that the value was missing.
    """

    name: str
    type: str
    categories: tuple[str, ...] | None = None
    mean: float = 0.0
    scale: float = 1.0
    flag: bool = False

    @property
    def width(self) -> int:
        """Columns that it fills in a dense matrix."""
        return len(self.categories) if self.categories is not None else 1 + self.flag


class Encoder:
    """Encodes a table, or one dict, to the same float64 values.

    Args:
        columns: Columns in the order of the model's inputs.
        style: ``codes``, ``dense`` or ``both``.
    """

    def __init__(self, columns: tuple[EncodedColumn, ...], style: Style) -> None:
        self.columns = columns
        self.style: Style = style
        self._lookup = tuple(
            (c.name, None if c.categories is None else {v: float(i) for i, v in enumerate(c.categories)})
            for c in columns
        )

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        codes, dense = len(self.columns), sum(c.width for c in self.columns)
        return {"codes": codes, "dense": dense, "both": codes + dense}[self.style]

    def half(self, style: Style) -> slice:
        """The columns of a ``both`` matrix that a model of another style reads."""
        return slice(0, len(self.columns)) if style == "codes" else slice(len(self.columns), self.width)

    @property
    def categorical_mask(self) -> list[bool]:
        """For ``codes``: which columns of the matrix are categories."""
        return [c.categories is not None for c in self.columns]

    @classmethod
    def fit(cls, table: pa.Table, columns: Mapping[str, str], style: Style = "codes") -> Encoder:
        """Learn categories, means and scales from a training table.

        Args:
            table: Has every column.
            columns: Model inputs in order, name to Ibis type.
            style: See the module.

        Raises:
            ConfigurationError: a type that no model can take, or no columns at all.
            DataRejectedError: a column is missing, of another kind, or holds an infinite number.
        """
        if not columns:
            raise ConfigurationError(
                "a model needs at least one feature", next_step="define features in the use case's features.py"
            )
        return cls(tuple(_fit_column(table, name, type_, style) for name, type_ in columns.items()), style)

    def transform(self, table: pa.Table) -> np.ndarray:
        """Encode a table.

        Returns:
            float64 [rows, width].

        Raises:
            DataRejectedError: a column is missing, of another kind, or holds an infinite number.
        """
        return self.finish(self.numbers(table))

    def numbers(self, table: pa.Table) -> np.ndarray:
        """A table's features as numbers, before the style: a category by its code, nothing known as NaN.

        Returns:
            float64 [rows, len(columns)].

        Raises:
            DataRejectedError: as :meth:`transform`.
        """
        found = np.empty((table.num_rows, len(self.columns)))
        for i, column in enumerate(self.columns):
            found[:, i] = _raw_column(table, column)
        return found

    def encode_one(self, values: Mapping[str, Any]) -> np.ndarray:
        """Encode the features of one prediction; other keys are ignored.

        Returns:
            float64 [width].

        Raises:
            DataRejectedError: a feature is missing as a key, of another kind, or infinite.
        """
        return self.finish(self.numbers_of([values]))[0]

    def numbers_of(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The features of some predictions as numbers, as :meth:`numbers` has them; float64 [rows, len(columns)].

        Raises:
            DataRejectedError: as :meth:`encode_one`.
        """
        return np.array([self._numbers_of_one(values) for values in rows], dtype=np.float64)

    def _numbers_of_one(self, values: Mapping[str, Any]) -> list[float]:
        raw: list[float] = []
        for name, codes in self._lookup:
            try:
                value = values[name]
            except KeyError:
                raise _refused("one prediction's features", name, "missing", 1) from None
            if value is None:
                raw.append(math.nan)
            elif codes is None:
                # Finite numbers of the usual kinds need no look; this runs for every value of every prediction.
                kind = type(value)
                usual = math.isfinite(value) if kind is float else kind is int and -EXACT < value < EXACT
                raw.append(value if usual else _number(name, value))
            elif isinstance(value, str):
                raw.append(codes.get(value, math.nan))
            else:
                raise _refused("one prediction's features", name, "not a text", 1, value)
        return raw

    def finish(self, raw: np.ndarray) -> np.ndarray:
        """The matrix of features as numbers: float64 [rows, len(columns)] becomes float64 [rows, width]."""
        if self.style == "codes":
            return raw
        dense = self._dense(raw)
        return np.hstack([raw, dense]) if self.style == "both" else dense

    def _dense(self, raw: np.ndarray) -> np.ndarray:
        dense = np.zeros((len(raw), sum(c.width for c in self.columns)))
        at = 0
        for i, column in enumerate(self.columns):
            missing = np.isnan(raw[:, i])
            if column.categories is not None:
                rows = np.flatnonzero(~missing)
                dense[rows, at + raw[rows, i].astype(np.intp)] = 1.0
            else:
                dense[:, at] = np.where(missing, 0.0, (raw[:, i] - column.mean) / column.scale)
                if column.flag:
                    dense[:, at + 1] = missing
            at += column.width
        return dense

    def to_json(self) -> str:
        """The encoder as JSON text; the same encoder gives the same text."""
        return json.dumps(
            {"style": self.style, "columns": [asdict(c) for c in self.columns]},
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Encoder:
        """The encoder that :meth:`to_json` wrote. Raises ReleaseError when the text is not one."""
        try:
            content = json.loads(text)
            columns = tuple(
                EncodedColumn(**{**c, "categories": None if c["categories"] is None else tuple(c["categories"])})
                for c in content["columns"]
            )
            if content["style"] not in get_args(Style):
                raise ValueError(f"unknown style {content['style']!r}")
            return cls(columns, content["style"])
        except (ValueError, TypeError, KeyError) as error:
            raise ReleaseError(
                f"an encoder cannot be read: {error}",
                next_step="release the model again with this version of Airworthy",
            ) from error


def _fit_column(table: pa.Table, name: str, type_: str, style: Style) -> EncodedColumn:
    if type_ == "string":
        values = _text(table, name)
        counts = pc.value_counts(values.drop_null())
        ranked = sorted(
            zip(counts.field("counts").to_pylist(), counts.field("values").to_pylist(), strict=True),
            key=lambda c: (-c[0], c[1]),
        )
        return EncodedColumn(name, type_, tuple(sorted(v for _, v in ranked[:MAX_CATEGORIES])))
    if type_ not in NUMERIC_TYPES:
        raise ConfigurationError(
            f"feature {name!r} has the type {type_!r}, which a model cannot take",
            next_step="make it a string, a number or a boolean in features.py",
        )
    column = EncodedColumn(name, type_)
    if style == "codes":
        return column
    values = _raw_column(table, column)
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else 0.0
    deviation = float(known.std()) if len(known) else 0.0
    return EncodedColumn(
        name, type_, mean=mean, scale=deviation if deviation > 0 else 1.0, flag=len(known) < len(values)
    )


def _raw_column(table: pa.Table, column: EncodedColumn) -> np.ndarray:
    if column.categories is not None:
        known = pa.array(column.categories, pa.string())
        index = pc.index_in(_text(table, column.name), value_set=known, skip_nulls=True)
        return np.asarray(index.cast(pa.float64()).to_numpy(zero_copy_only=False))
    values = _column(table, column.name)
    if not (
        pa.types.is_integer(values.type)
        or pa.types.is_floating(values.type)
        or pa.types.is_boolean(values.type)
        or pa.types.is_null(values.type)
    ):
        raise _refused("a table", column.name, f"of type {values.type}, not a number", table.num_rows)
    numbers = np.asarray(values.combine_chunks().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    infinite = np.isinf(numbers)
    if infinite.any():
        raise _refused("a table", column.name, "infinite", int(infinite.sum()), float(numbers[infinite][0]))
    return numbers


def _text(table: pa.Table, name: str) -> pa.Array:
    values = _column(table, name).combine_chunks()
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise _refused("a table", name, f"of type {values.type}, not a text", table.num_rows)
    return values.cast(pa.string())


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.schema.names:
        raise _refused("a table", name, "missing", table.num_rows)
    return table.column(name)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, (float, int, Real, np.bool_)):
        raise _refused("one prediction's features", name, "not a number", 1, value)
    try:
        number = float(value)
    except OverflowError:
        number = np.inf
    if number in (np.inf, -np.inf):
        raise _refused("one prediction's features", name, "infinite", 1, value)
    return number


def _refused(subject: str, name: str, what: str, rows: int, *examples: object) -> DataRejectedError:
    return DataRejectedError(
        f"the encoder's input ({subject})",
        [CheckFailure(what, name, rows, examples)],
        next_step=f"give {name!r} as the model's schema.json says",
    )
