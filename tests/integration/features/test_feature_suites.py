"""Feature tables are validated before they are published: once for a range, by Great Expectations where it matters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select
from tiny_sensors.plant import Plant, plant

from airworthy.config import get_settings
from airworthy.errors import DataRejectedError
from airworthy.features import catch_up
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Validation
from airworthy.validation import gx
from stage_suites import between, give_suite

__all__ = ["plant"]

DAYS = [f"2024-01-{day:02d}" for day in range(1, 5)]
HISTORY = "features/tiny_sensors_history"


def validations() -> list[Validation]:
    with transaction() as session:
        return list(session.scalars(select(Validation).order_by(Validation.id)))


def test_a_range_is_judged_by_great_expectations_and_a_day_by_the_compiled_rules(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give_suite(monkeypatch, tmp_path, HISTORY, between("failed_share_3d", 0, 1), between("jobs_3d", 0, 900))
    plant.publish(*DAYS[:3])
    first = catch_up(plant.use_case, run="test")
    monkeypatch.setattr(gx, "run", lambda *_: pytest.fail("a good day does not ask Great Expectations"))
    plant.publish(DAYS[3])
    second = catch_up(plant.use_case, run="test")
    found = [(v.table_name, v.interval, v.passed, v.report["engine"]) for v in validations()]
    table = plant.use_case.table("features", "tiny_sensors_history")
    assert found == [(table, DAYS[2], True, "great_expectations"), (table, DAYS[3], True, "compiled")]
    assert validations()[0].report["first"]["start"] == "2024-01-01T00:00:00Z"
    for outcome in (first, second):
        page = Path(outcome.links["Data Docs"].replace(get_settings().reports_url, get_settings().docs_url))
        assert table in page.read_text()
    # What was built is profiled too, also where there is no suite.
    profile = Path(first.links["Profile"].replace(get_settings().reports_url, get_settings().docs_url))
    rows = {
        one["title"].rpartition("/")[2]: one["rows"]
        for one in json.loads((profile.parent / "profile.json").read_text())
    }
    assert {title.partition(" ")[0] for title in rows} >= {"tiny_sensors_history", "tiny_sensors_reading"}
    built = [row for row in plant.features("history") if row["interval"] != DAYS[3]]
    assert rows[f"tiny_sensors_history {DAYS[0]} to {DAYS[2]}"] == len(built) > 0
    assert "jobs_3d" in profile.read_text()
    assert catch_up(plant.use_case, run="test").links == {}


def test_rows_outside_of_their_domain_are_not_published_and_the_error_names_the_column(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give_suite(monkeypatch, tmp_path, HISTORY, between("jobs_3d", 0, 1), between("jobs_3d", 0, 2, "warning"))
    plant.publish(*DAYS[:1])
    with pytest.raises(DataRejectedError) as caught:
        catch_up(plant.use_case, run="test")
    assert "jobs_3d: expect_column_values_to_be_between(min_value=0, max_value=1)" in str(caught.value)
    assert "max_value=2" not in str(caught.value)  # a warning is reported, and stops nothing
    assert "correct tiny_sensors_history in features.py, or its suite" in caught.value.next_step
    assert "/data_docs/tiny_sensors/features/" in caught.value.next_step
    assert caught.value.links["Data Docs"] in caught.value.next_step
    assert "Profile" in caught.value.links  # of the rows that were refused
    assert plant.features("history") == []
    [row] = validations()
    assert (row.passed, row.report["engine"]) == (False, "great_expectations")
    # Mended, it is published by the next catch-up.
    give_suite(monkeypatch, tmp_path, HISTORY, between("jobs_3d", 0, 900))
    catch_up(plant.use_case, run="test")
    assert len(plant.features("history")) > 0


def test_a_view_that_fails_its_suite_holds_no_other_up(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give_suite(monkeypatch, tmp_path, "features/tiny_sensors_reading", between("heat", -500, -400))
    give_suite(monkeypatch, tmp_path, HISTORY, between("jobs_3d", 0, 900))
    plant.publish(*DAYS)
    with pytest.raises(DataRejectedError, match="tiny_sensors_reading"):
        catch_up(plant.use_case, run="test")
    assert plant.features("reading") == []
    assert {row["interval"] for row in plant.features("history")} == set(DAYS)
    assert sorted((v.table_name.rsplit("_", 1)[1], v.passed) for v in validations()) == [
        ("history", True),
        ("reading", False),
    ]
