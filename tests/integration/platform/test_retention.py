"""Tidying up: what is joined, what goes, what stays."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from deltalake.exceptions import CommitFailedError
from sqlalchemy import text
from typer.testing import CliRunner

from airworthy.cli import app
from airworthy.config import Settings, UseCase, get_settings, get_use_case, load_use_case
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger import commits, usage
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import transaction
from airworthy.measuring import Usage
from airworthy.platform import retention
from airworthy.platform.every_table import table_schemas
from airworthy.platform.page_retention import remove_old_pages
from airworthy.training.search import history
from airworthy.training.studies import Study
from airworthy.validation import write_data_docs

TABLE, KEY, OTHER = "tiny_orders/raw/numbers", "2024-01-01", "2024-01-02"
USED = Usage(1.0, 1.0, 1, 1)


def rows(*values: int) -> pa.Table:
    return pa.table({"number": pa.array(values, pa.int64())})


@pytest.fixture
def table(platform_env: Settings) -> str:
    """Two intervals, the first of them in three files."""
    tables.create(TABLE, rows().schema)
    for key in (KEY, OTHER):
        publish(key, 1, 2, 3)
    for number in (4, 5):
        more = rows(number).append_column(tables.INTERVAL, pa.array([KEY]))
        write_deltalake(tables.url(TABLE), more, mode="append")
    return TABLE


def publish(key: str, *values: int) -> None:
    token = commits.claim(f"{TABLE}/{key}", "test")
    tables.publish(TABLE, {key: rows(*values)}, resource=f"{TABLE}/{key}", token=token, inputs={key: "x"})


def numbers(key: str) -> list[int]:
    return sorted(tables.read(TABLE, Interval.of(key), Interval.of(key))["number"].to_pylist())


def test_small_files_are_joined_and_the_rows_stay(table: str) -> None:
    assert retention.compact(table) == 3
    assert (numbers(KEY), numbers(OTHER)) == ([1, 2, 3, 4, 5], [1, 2, 3])
    version = tables.open_table(table).version()
    assert retention.compact(table) == 0
    assert tables.open_table(table).version() == version


def test_joining_gives_way_to_a_writer_and_a_writer_looks_again(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a handle that was loaded before somebody replaced the interval,
    stale, real = tables.open_table(table), tables.open_table
    publish(KEY, 7)
    monkeypatch.setattr(tables, "open_table", lambda *_: stale)
    # then joining on it fails, and the new rows stay;
    with pytest.raises(CommitFailedError):
        retention.compact(table)
    monkeypatch.setattr(tables, "open_table", real)
    assert numbers(KEY) == [7]
    # and a publisher whose handle is older than a joining tries again.
    more = rows(8).append_column(tables.INTERVAL, pa.array([KEY]))
    write_deltalake(tables.url(table), more, mode="append")
    handles = [tables.open_table(table)]
    retention.compact(table)
    monkeypatch.setattr(tables, "open_table", lambda *_: handles.pop() if handles else real(table))
    publish(KEY, 9)
    assert numbers(KEY) == [9]


def test_tidying_removes_what_is_old_and_only_that(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given Data Docs of three runs, the first two of them old, and a half-written file of a dead process,
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    get_settings.cache_clear()
    case: UseCase = get_use_case("tiny_orders")
    for name, schema in table_schemas(case).items():
        tables.create(name, schema)
    for token in (1, 2, 10):
        write_data_docs(case.name, f"{KEY}/{token}", [])
    docs = Path(get_settings().docs_url) / "data_docs" / case.name / KEY
    half, fresh = docs / ".index.html.0.tmp", docs / ".index.html.1.tmp"
    for path in (half, fresh):
        path.write_text("<html>")
    for path in (docs / "1" / "index.html", docs / "2" / "index.html", half):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    # when it is tidied up, then the newest run's and what may still be written stay.
    outcome = retention.tidy()
    assert (outcome.data_docs, outcome.remnants) == (2, 1)
    assert sorted(path.name for path in docs.iterdir()) == [".index.html.1.tmp", "10"]
    assert outcome.busy == ()
    assert retention.tidy().data_docs == 0


def test_pages_of_features_training_sets_and_windows_go_too(
    platform_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = load_use_case("tiny_orders")
    docs = Path(get_settings().docs_url) / "data_docs" / case.name
    kept = Path(get_settings().release_url) / "training_sets" / f"{'a' * 64}.parquet"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"")
    gone = ["features/view-1", "features/view-9", f"training/{'b' * 16}", "predictions/w1/r1", "predictions/w2/r1"]
    stay = ["features/view-10", "features/other-1", f"training/{'a' * 16}", "predictions/w1/r2"]
    for place in [*gone, *stay, "features/view-2"]:
        write_data_docs(case.name, place, [])
    month, years = (wall_now() - timedelta(days=60)).timestamp(), 1_000_000_000
    for place in [*gone, *stay]:
        moment = years if place in ("predictions/w1/r1", "predictions/w2/r1") else month
        os.utime(docs / place / "index.html", (moment, moment))
    assert remove_old_pages(case, timedelta(days=30)) == len(gone)
    for place in stay:
        assert (docs / place).exists(), place
    assert (docs / "features/view-2").exists()  # replaced, and young
    assert not [place for place in gone if (docs / place).exists()]
    assert remove_old_pages(case, timedelta(days=30)) == 0


def test_trials_of_old_searches_and_old_usage_go_and_the_rest_stays(
    platform_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two searches, the trials of one of them long ago, and what two tasks used, one of them two years ago.
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    get_settings.cache_clear()
    case = get_use_case("tiny_orders")
    for name in ("old", "new"):
        study = Study.of(f"{case.name}/{name}/1", maximise=True, facts={})
        study.end(study.begin(0, {}, {}, "{}"), 0.5, 1.0)
        usage.record_usage(
            usage.TaskName(run=f"{case.name}.train/{name}", dag=f"{case.name}.train", task="fit"), USED, ""
        )
    with transaction() as session:
        session.execute(
            text(
                "UPDATE optuna.trials SET datetime_start = '2020-01-01', datetime_complete = '2020-01-01' WHERE study_id = "
                "(SELECT study_id FROM optuna.studies WHERE study_name LIKE '%/old/1')"
            )
        )
        session.execute(text("UPDATE task_usage SET ended_at = now() - interval '2 years' WHERE run LIKE '%/old'"))
    for table_, schema in table_schemas(case).items():
        tables.create(table_, schema)

    # When it is asked what would go, then it is told, and stays;
    shown = CliRunner().invoke(app, ["tidy", "--dry-run"]).output
    assert "trials of 1 searches and what 1 tries of tasks used would go" in " ".join(shown.split())
    assert history(f"{case.name}/old/1")

    # when it is tidied up, it goes, and only that.
    outcome = retention.tidy()
    assert (outcome.studies, outcome.usage) == (1, 1)
    assert [row.run for row in usage.usages(case.name)] == [f"{case.name}.train/new"]
    assert history(f"{case.name}/new/1")
    with pytest.raises(KeyError):
        history(f"{case.name}/old/1")
