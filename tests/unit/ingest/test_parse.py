"""Landed files and pushed rows -> raw rows: anything undeclared, mistyped or damaged is named."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parcels import world

from airworthy.config import UseCase, load_use_case
from airworthy.errors import DataRejectedError
from airworthy.ingest import parse_rows
from airworthy.ingest.parse import Parsed, parse_file
from airworthy.ingest.schemas import raw_schema

KEY = "2013-11-05"


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    return load_use_case("parcels")


def parcels(use_case: UseCase, content: bytes) -> Parsed:
    return parse_file(use_case.sources["parcels"], content)


def texts_of(parsed: Parsed) -> str:
    return "\n".join(map(str, parsed.failures))


def test_a_good_csv_is_typed_in_full(use_case: UseCase) -> None:
    found = parcels(use_case, world.to_csv(world.parcels(KEY)))
    assert (found.failures, found.rejected) == ((), {})
    assert found.rows.schema == raw_schema(use_case.sources["parcels"])
    assert found.rows.slice(7, 1).to_pylist() == [
        {
            "parcel": "p20131105007", "zone": "south", "weight": None, "pieces": 2,
            "promised": datetime(2013, 11, 5, 20, 15, tzinfo=UTC), "delivered": datetime(2013, 11, 5, 21, tzinfo=UTC),
            "late": False,
        }
    ]  # fmt: skip


def test_order_of_columns_a_bom_and_quoted_line_breaks_do_not_matter(use_case: UseCase) -> None:
    rows = world.parcels(KEY, 2)
    rows[0]["zone"] = '"no\nrth"'
    content = b"\xef\xbb\xbf" + world.to_csv(rows, tuple(reversed(world.COLUMNS)))
    assert parcels(use_case, content).rows.column("zone").to_pylist() == ["no\nrth", "south"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (world.COLUMNS[:-1], "late: missing column"),
        ((*world.COLUMNS, "parcel"), "parcel: column given twice"),
        ((*world.COLUMNS[:-1], "lateness"), "lateness: unexpected column"),
    ],
)
def test_other_columns_are_schema_skew(use_case: UseCase, columns: tuple[str, ...], words: str) -> None:
    rows = [{**row, "lateness": "1"} for row in world.parcels(KEY)]
    assert words in texts_of(parcels(use_case, world.to_csv(rows, columns)))


def test_a_wrong_type_names_column_count_and_examples(use_case: UseCase) -> None:
    rows = world.parcels(KEY)
    for number in (1, 5, 6):
        rows[number]["pieces"] = "two"
    assert "pieces: not of type int64, 3 rows (e.g. two, two, two)" in texts_of(parcels(use_case, world.to_csv(rows)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe" + world.to_csv(world.parcels(KEY)), "not UTF-8 at byte 0"),
        (world.to_csv(world.parcels(KEY))[:-30], "wrong number of columns"),
        (b"parcel\n", "missing column"),
        (b"", "missing column"),
        (world.to_csv(world.parcels(KEY, 1)).replace(b"north", b'"north'), ""),
    ],
)
def test_a_damaged_csv_is_refused(use_case: UseCase, content: bytes, words: str) -> None:
    found = parcels(use_case, content)
    assert found.failures
    assert words in texts_of(found)
    assert found.rows.num_rows == 0


def test_a_header_alone_is_a_file_without_rows(use_case: UseCase) -> None:
    found = parcels(use_case, world.to_csv([]))
    assert (found.rows.num_rows, found.failures) == (0, ())


def test_rows_that_lack_something_are_rejected_one_by_one(use_case: UseCase) -> None:
    rows = world.parcels("2013-03-10", 4)
    rows[1]["promised"] = "2013-03-10 02:10:00"
    rows[3].update(pieces="", parcel="")
    found = parcels(use_case, world.to_csv(rows))
    assert found.failures == ()
    assert set(found.rejected) == {1, 3}
    assert "does not exist" in found.rejected[1]
    assert found.rejected[3] == "parcel: empty; pieces: empty"
    assert found.texts == {1: {"promised": "2013-03-10 02:10:00"}}
    assert found.rows.num_rows == 4


def test_a_good_jsonl_is_typed_in_full(use_case: UseCase) -> None:
    rows = world.depots(KEY)
    del rows[0]["note"]
    rows[1]["note"] = "line\u2028separator"
    content = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
    found = parse_file(use_case.sources["depots"], content)
    assert found.failures == ()
    assert found.rows.num_rows == 8
    assert found.rows.column("note").to_pylist()[:2] == [None, "line\u2028separator"]
    assert found.rows.column("at").to_pylist()[1] == datetime(2013, 11, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"depot": "a"\n', "no JSON object"),
        (b"[1]\n", "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
        (b"\xff\n", "not UTF-8"),
        (b'{"depot": "a", "at": "2013-01-01T00:00:00Z", "queue": "5"}\n', "queue: not of type int64"),
        (b'{"depot": "a", "at": "2013-01-01T00:00:00", "queue": 5}\n', "at: has no offset from UTC"),
        (b'{"depot": "a", "at": "2013-01-01T00:00:00Z"}\n', "queue: missing column"),
        (b'{"depot": "a", "at": "2013-01-01T00:00:00Z", "queue": 5, "x": 1}\n', "x: unexpected column"),
    ],
)
def test_a_damaged_jsonl_is_refused(use_case: UseCase, content: bytes, words: str) -> None:
    assert words in texts_of(parse_file(use_case.sources["depots"], content))


def test_parquet_is_widened_and_a_damaged_one_refused(use_case: UseCase) -> None:
    vans = use_case.sources["vans"]
    assert parse_file(vans, world.vans()).rows.column("built").to_pylist() == [2001, None, 2012]
    assert "not readable as Parquet" in texts_of(parse_file(vans, world.vans()[:-9]))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"van": ["v"], "built": ["old"]}), buffer)
    assert "built: of type string in the file, declared int64" in texts_of(parse_file(vans, buffer.getvalue()))


def test_pushed_rows_are_typed_as_the_file_would_be(use_case: UseCase) -> None:
    (row,) = world.parcels(KEY, 1)
    as_texts = parse_rows(use_case, "parcels", [row])
    values = {**row, "weight": 1.0, "pieces": 1, "late": True}
    assert parse_rows(use_case, "parcels", [values]).equals(as_texts)
    assert as_texts.equals(parcels(use_case, world.to_csv([row])).rows)
    assert parse_rows(use_case, "parcels", []).schema == as_texts.schema


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pieces": "many"}, "pieces: not of type int64"),
        ({"pieces": None}, "pieces: empty"),
        ({"promised": "2013-03-10 02:30:00"}, "promised: 2013-03-10 02:30:00 does not exist"),
        ({"colour": "red"}, "colour: unexpected column"),
    ],
)
def test_a_pushed_row_that_cannot_be_used_names_the_field(
    use_case: UseCase, changes: dict[str, object], words: str
) -> None:
    rows: list[dict[str, object]] = [{**world.parcels(KEY, 1)[0], **changes}]
    with pytest.raises(DataRejectedError) as caught:
        parse_rows(use_case, "parcels", rows)
    assert words in str(caught.value)
    assert "use_case.yaml" in caught.value.next_step
