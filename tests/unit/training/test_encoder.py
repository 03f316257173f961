"""The encoder: the same values for a table and for one dict, and as JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airworthy.errors import ConfigurationError, DataRejectedError, ReleaseError
from airworthy.training.encoder import MAX_CATEGORIES, Encoder

COLUMNS = {"carrier": "string", "distance": "int64", "wind": "float64", "holiday": "boolean"}
TYPES = {"carrier": pa.string(), "distance": pa.int64(), "wind": pa.float64(), "holiday": pa.bool_()}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.table({name: pa.array([r[name] for r in rows], type_) for name, type_ in TYPES.items()})


TRAINED_ON = table(
    [
        {"carrier": "UA", "distance": 1400, "wind": 3.5, "holiday": True},
        {"carrier": "AA", "distance": 700, "wind": None, "holiday": False},
        {"carrier": None, "distance": 2100, "wind": 9.25, "holiday": None},
    ]
)
ROWS = st.fixed_dictionaries(
    {
        "carrier": st.none() | st.sampled_from(["AA", "UA", "ZZ", "", "aa"]) | st.text(max_size=3),
        "distance": st.none() | st.integers(-(2**63), 2**63 - 1),
        "wind": st.none() | st.floats(allow_infinity=False),
        "holiday": st.none() | st.booleans(),
    }
)


@pytest.mark.parametrize("style", ["codes", "dense"])
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=8))
def test_a_table_and_single_dicts_are_encoded_alike(style: Any, rows: list[dict[str, Any]]) -> None:
    encoder = Encoder.from_json(Encoder.fit(TRAINED_ON, COLUMNS, style).to_json())

    as_table = encoder.transform(table(rows))
    one_by_one = np.stack([encoder.encode_one(r) for r in rows])

    assert as_table.shape == (len(rows), encoder.width)
    np.testing.assert_array_equal(as_table, one_by_one)
    assert style == "codes" or np.isfinite(as_table).all()


def test_codes_are_the_sorted_categories_and_what_is_not_known_is_nan() -> None:
    encoder = Encoder.fit(TRAINED_ON, COLUMNS)

    encoded = encoder.encode_one({"carrier": "UA", "distance": 7, "wind": float("nan"), "holiday": True})
    unknown = encoder.encode_one({"carrier": "ZZ", "distance": None, "wind": 2, "holiday": False})

    assert encoder.columns[0].categories == ("AA", "UA")
    assert encoder.categorical_mask == [True, False, False, False]
    np.testing.assert_array_equal(encoded, [1.0, 7.0, np.nan, 1.0])
    np.testing.assert_array_equal(unknown, [np.nan, np.nan, 2.0, 0.0])


def test_dense_standardises_fills_and_flags() -> None:
    encoder = Encoder.fit(TRAINED_ON, COLUMNS, "dense")

    known = encoder.encode_one({"carrier": "AA", "distance": 1400, "wind": 9.25, "holiday": True})
    nothing = encoder.encode_one(dict.fromkeys(COLUMNS))

    # carrier AA, UA | distance | wind, wind missing | holiday, holiday missing
    assert known.tolist() == pytest.approx([1, 0, 0, 1, 0, 1, 0])
    assert nothing.tolist() == [0, 0, 0, 0, 1, 0, 1]


def test_the_text_is_stable_and_complete() -> None:
    encoder = Encoder.fit(TRAINED_ON, COLUMNS, "dense")

    again = Encoder.from_json(encoder.to_json())

    assert again.to_json() == encoder.to_json()
    assert (again.columns, again.style) == (encoder.columns, encoder.style)


def test_the_rarest_of_too_many_categories_count_as_unknown() -> None:
    values = [f"v{i:04d}" for i in range(MAX_CATEGORIES + 10) for _ in range(1 if i < 10 else 2)]
    encoder = Encoder.fit(pa.table({"c": values}), {"c": "string"})

    assert len(encoder.columns[0].categories or ()) == MAX_CATEGORIES
    assert math.isnan(encoder.encode_one({"c": "v0000"})[0])
    assert not math.isnan(encoder.encode_one({"c": "v0100"})[0])


@pytest.mark.parametrize("value", [math.inf, -math.inf, 10**400])
def test_an_infinite_number_is_refused(value: float) -> None:
    encoder = Encoder.fit(TRAINED_ON, COLUMNS)

    with pytest.raises(DataRejectedError, match=r"wind: infinite"):
        encoder.encode_one({"carrier": "AA", "distance": 1, "wind": value, "holiday": None})


def test_an_infinite_number_in_a_table_is_refused_with_its_count() -> None:
    encoder = Encoder.fit(TRAINED_ON, COLUMNS)
    rows = TRAINED_ON.set_column(2, "wind", pa.array([math.inf, 1.0, -math.inf]))

    with pytest.raises(DataRejectedError, match=r"wind: infinite, 2 rows"):
        encoder.transform(rows)


@pytest.mark.parametrize(("name", "value"), [("carrier", 7), ("wind", "3.5"), ("distance", [1])])
def test_a_value_of_another_kind_is_refused(name: str, value: object) -> None:
    encoder = Encoder.fit(TRAINED_ON, COLUMNS)

    with pytest.raises(DataRejectedError, match=f"{name}: not a"):
        encoder.encode_one({**dict.fromkeys(COLUMNS), name: value})


def test_a_missing_key_or_column_is_refused() -> None:
    encoder = Encoder.fit(TRAINED_ON, COLUMNS)

    with pytest.raises(DataRejectedError, match="wind: missing"):
        encoder.encode_one({"carrier": "AA", "distance": 1, "holiday": None})
    with pytest.raises(DataRejectedError, match="holiday: missing"):
        encoder.transform(TRAINED_ON.drop_columns(["holiday"]))


def test_a_column_of_another_kind_is_refused() -> None:
    encoder = Encoder.fit(TRAINED_ON, COLUMNS)

    with pytest.raises(DataRejectedError, match="distance: of type string, not a number"):
        encoder.transform(TRAINED_ON.set_column(1, "distance", pa.array(["1", "2", "3"])))
    with pytest.raises(DataRejectedError, match="carrier: of type int64, not a text"):
        encoder.transform(TRAINED_ON.set_column(0, "carrier", pa.array([1, 2, 3])))


def test_a_type_that_no_model_takes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'at' has the type 'timestamp'"):
        Encoder.fit(TRAINED_ON, {"at": "timestamp"})


@pytest.mark.parametrize(
    "text", ["", "{}", '{"style": "magic", "columns": []}', '{"style": "codes", "columns": [{"name": "a"}]}']
)
def test_a_text_that_is_no_encoder_is_refused(text: str) -> None:
    with pytest.raises(ReleaseError, match="encoder"):
        Encoder.from_json(text)
