"""The values of personal and secret columns are in the data and nowhere else: not in reports, errors, logs, ledger."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from parcels import world
from sqlalchemy import text

from airworthy.config import UseCase, get_settings
from airworthy.errors import DataRejectedError
from airworthy.ingest import clean_masks, contents, entries, ingest_interval
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Base
from airworthy.validation.profile import profiles

KEY = "2013-11-05"
DAY = Interval.of(KEY)
SECRET, KEY_SECRET = "zz9plural", "p4242424242"
TAGS = {"parcel": ("personal",), "zone": ("secret",), "promised": ("secret",), "weight": ("personal",)}


@pytest.fixture
def tagged(parcels: UseCase) -> UseCase:
    spec = parcels.sources["parcels"]
    columns = {n: c.model_copy(update={"tags": TAGS.get(n, ())}) for n, c in spec.columns.items()}
    source = spec.model_copy(update={"columns": columns})
    return parcels.model_copy(update={"sources": {**parcels.sources, "parcels": source}})


def everything_shown(use_case: UseCase, error: str, log: str) -> dict[str, str]:
    found = {"error": error, "log": log}
    for path in Path(get_settings().docs_url).rglob("*"):
        if path.is_file():
            found[str(path)] = path.read_text()
    for path in Path(get_settings().lake_url).rglob("reason.json"):
        found[str(path)] = path.read_text()
    with transaction() as session:
        for table in Base.metadata.sorted_tables:
            rows = session.execute(text(f"SELECT row_to_json(t)::text FROM {table.name} t")).scalars()
            found[table.name] = "\n".join(rows)
    found["list"] = "\n".join(map(str, entries(use_case)))
    found["show"] = json.dumps(contents(use_case, DAY), default=str)
    return found


def nowhere(found: dict[str, str], *values: str) -> None:
    assert len(found) > 10
    assert [(place, value) for value in values for place, words in found.items() if value in words] == []


def test_rejected_rows_are_told_without_their_values(tagged: UseCase, caplog: pytest.LogCaptureFixture) -> None:
    given = world.parcels("2013-03-10")
    given[3]["zone"] = SECRET
    given[4]["parcel"] = SECRET
    given[5]["promised"] = "2013-03-10 02:31:41"
    given[6]["weight"] = "7654321"
    day = Interval.of("2013-03-10")
    world.land_parcels(tagged, day.key, given)
    world.land_depots(tagged, day.key)
    with caplog.at_level(logging.INFO):
        outcome = ingest_interval(tagged, day, run="test")
    assert outcome.rows_rejected["parcels"] == 4
    found = everything_shown(tagged, "", caplog.text) | {"day": json.dumps(contents(tagged, day), default=str)}
    nowhere(found, SECRET, "02:31:41", "7654321")
    assert "[secret]" in found["day"]
    assert "[personal]" in found["day"]
    assert "does not exist in America/New_York" in found["day"]
    # The data itself is whole.
    rows = tables.read("parcels/quarantine/parcels", day, day)["row"].to_pylist()
    assert sum(SECRET in row for row in rows) == 2
    assert any("02:31:41" in row for row in rows)


def line(cells: str) -> bytes:
    return world.to_csv(world.parcels(KEY)) + cells.encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            world.to_csv([*world.parcels(KEY), *[{**world.parcels(KEY)[0], "parcel": KEY_SECRET}] * 2]),
            "key is not unique",
        ),
        (world.to_csv([*world.parcels(KEY), {**world.parcels(KEY)[0], "promised": SECRET}]), "not of type timestamp"),
        (world.to_csv([*world.parcels(KEY), {**world.parcels(KEY)[0], "weight": SECRET}]), "not of type float64"),
        (line(f"{SECRET},1,2"), "wrong number of columns"),
        (line(f'"{SECRET}'), "wrong number of columns"),
        (world.to_csv([{**row, "zone": SECRET} for row in world.parcels(KEY)]), "more than the share"),
    ],
)
def test_refused_files_are_told_without_their_values(
    tagged: UseCase, caplog: pytest.LogCaptureFixture, content: bytes, words: str
) -> None:
    world.land_parcels(tagged, KEY, content=content, count=content.count(b"\n") - 1)
    world.land_depots(tagged, KEY)
    with caplog.at_level(logging.INFO), pytest.raises(DataRejectedError, match=words) as caught:
        ingest_interval(tagged, DAY, run="test")
    nowhere(everything_shown(tagged, str(caught.value), caplog.text), SECRET, KEY_SECRET)


def test_what_is_made_from_a_tagged_column_is_tagged(tagged: UseCase) -> None:
    assert clean_masks(tagged, "parcels") == {
        "parcel": "[personal]", "zone": "[secret]", "promised": "[secret]", "weight": "[personal]",
        "promised_hour": "[secret]", "heavy": "[personal]",
    }  # fmt: skip
    assert clean_masks(tagged, "depots") == {}


def test_profiles_say_how_many_and_not_what(tagged: UseCase) -> None:
    world.land_day(tagged, KEY)
    ingest_interval(tagged, DAY, run="test")
    rows = tables.read("parcels/clean/parcels", DAY, DAY)
    found = {c.name: c for c in profiles(rows, clean_masks(tagged, "parcels")).columns}
    assert (found["zone"].distinct, found["zone"].low, found["zone"].most) == (2, "[secret]", ())
    assert found["pieces"].low == "1"


def test_a_slice_is_not_tagged_because_a_verdict_shows_its_values(tagged: UseCase) -> None:
    given = tagged.model_dump() | {"gate": {"slices": ["zone"]}}
    with pytest.raises(ValueError, match=r"gate\.slices or gate\.groups names .*zone.*tagged"):
        UseCase.model_validate(given)
