"""An operator at the command line: sees what was rejected, lets it in after the fix, looks at the data."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest
from sqlalchemy import select
from tiny_orders import world
from typer.testing import CliRunner

from airworthy import features
from airworthy.cli import app
from airworthy.config import Settings, UseCase, get_settings, get_use_case, use_cases
from airworthy.ingest import ingest_interval, table_schemas
from airworthy.intervals import Interval
from airworthy.lake import landing, tables
from airworthy.ledger.clock import advance
from airworthy.ledger.database import transaction
from airworthy.ledger.models import QuarantineRelease

KEY = "2024-01-02"
DAY = Interval.of(KEY)


@pytest.fixture
def shop(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> UseCase:
    """A day of orders with one through a channel that the suite does not know."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    monkeypatch.setenv("COLUMNS", "200")
    get_settings.cache_clear()
    use_cases.cache_clear()
    case = get_use_case("tiny_orders")
    for name, schema in {**table_schemas(case), **features.table_schemas(case)}.items():
        tables.create(name, schema)
    features.apply(case)
    rows = world.orders_of(KEY)
    rows[0]["channel"] = "fax"
    landing.land(case, "orders", DAY, world.to_csv(rows), len(rows), DAY.end)
    advance(case, DAY.shift(1).end)
    assert ingest_interval(case, DAY, run="test").rows_rejected == {"orders": 1}
    return case


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_listed_shown_released_and_profiled(shop: UseCase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "1 rows" in run("quarantine", "list", "tiny_orders", "--from", KEY, "--source", "orders")
    assert KEY not in run("quarantine", "list", "tiny_orders", "--from", "2024-01-03")
    shown = json.loads(run("quarantine", "show", "tiny_orders", KEY))
    assert shown["orders"]["first"][0]["row"]["channel"] == "fax"
    assert "channel: expect_column_values_to_be_in_set" in shown["orders"]["first"][0]["reason"]

    suite = shop.suite_path("orders").read_text().replace('"phone"]', '"phone", "fax"]')
    (tmp_path / "orders.json").write_text(suite)
    own = UseCase.suite_path
    mended = {"orders": tmp_path / "orders.json"}
    monkeypatch.setattr(UseCase, "suite_path", lambda case, table: mended.get(table) or own(case, table))
    told = run("quarantine", "release", "tiny_orders", KEY, "--why", "fax is a channel again")
    assert "1 rows came out of quarantine; 0 stay" in told
    assert "built 1 intervals" in told
    with transaction() as session:
        [asked] = session.scalars(select(QuarantineRelease)).all()
    assert (asked.who, asked.why, asked.status) == (getpass.getuser(), "fax is a channel again", "released")

    seen = run("profile", "tiny_orders", "orders", "--from", KEY, "--to", KEY)
    assert "120 rows, label rate of returned 0." in seen
    assert "fax 1" in seen
    assert "orders_7d" in run("profile", "tiny_orders", "tiny_orders_customer", "--layer", "features")
