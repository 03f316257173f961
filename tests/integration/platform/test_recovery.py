"""Backup, restore and the drill, on a real PostgreSQL and real tables."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select, text
from tiny_orders import world

from airworthy import features, ingest
from airworthy.config import UseCase, get_settings
from airworthy.delivery.rehearsal import RehearsalError
from airworthy.errors import ConfigurationError, DataRejectedError
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger import commits
from airworthy.ledger.clock import wall_now
from airworthy.ledger.database import engine, transaction
from airworthy.ledger.models import RecoveryDrill
from airworthy.platform import backup as backups
from airworthy.platform import forgotten_journal
from airworthy.platform.drills import check_drills
from airworthy.platform.forgetting import forget
from airworthy.platform.restoring import drill, restore

from .conftest import KEYS

LATER = "2024-01-03"


def _during(case: UseCase) -> Callable[[str], None]:
    """Publishes another day, and a correction, as soon as the ledger is dumped: neither is in the snapshot."""

    def say(words: str) -> None:
        if words.startswith("dumped ledger"):
            world.land_day(case, LATER)
            interval, rows = Interval.of(KEYS[0]), world.orders_of(KEYS[0])[1:]
            world.land(case, "orders", interval, world.to_csv(rows), len(rows), interval.end)
            for key in (LATER, KEYS[0]):
                assert ingest.ingest_interval(case, Interval.of(key), run="meanwhile").status == "published"

    return say


def _scratch_databases(postgres: Path) -> list[str]:
    with psycopg.connect(f"host={postgres} user=postgres dbname=postgres") as connection:
        return [n for (n,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'scratch_%'")]


def test_a_backup_is_the_platform_as_of_one_moment_and_the_drill_shows_it(shop: UseCase, postgres: Path) -> None:
    # Given a backup during which the platform went on,
    url, saved = backups.backup(say=_during(shop))
    assert backups.backups() == [url]
    # when the drill restores it, then every row, file and partition is what the ledger of that moment says,
    restored = drill()
    assert restored.checked["partitions"] == 3 * 2 + 2
    assert restored.checked["files"] == len(saved.files) > 10
    assert restored.checked["rows"] == sum(sum(counts.values()) for counts in saved.counts.values())
    # nothing of the scratch place is left, and the ledger knows of it.
    assert _scratch_databases(postgres) == []
    assert not Path(restored.environment["AIRWORTHY_LAKE_URL"]).exists()
    with transaction() as session:
        (noted,) = session.scalars(select(RecoveryDrill)).all()
    assert (noted.backup, noted.passed, noted.words) == (url, True, "")
    assert noted.recovery_point == saved.at


@pytest.mark.parametrize("damage", ["altered", "not in the manifest"])
def test_the_drill_says_what_differs(shop: UseCase, postgres: Path, damage: str) -> None:
    url, saved = backups.backup()
    name = next(n for n in sorted(saved.files) if n.startswith("lake/tiny_orders/clean") and n.endswith(".parquet"))
    file = Path(url) / name
    if damage == "altered":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    else:
        file.unlink()
    if damage == "not in the manifest":
        manifest = Path(url) / backups.MANIFEST
        record = json.loads(manifest.read_text())
        del record["files"][name]
        manifest.write_text(json.dumps(record))
    with pytest.raises(DataRejectedError) as caught:
        drill()
    assert "tiny_orders/clean/orders" in str(caught.value)
    with transaction() as session:
        (noted,) = session.scalars(select(RecoveryDrill)).all()
    assert (noted.passed, noted.words) == (False, str(caught.value)[:2000])
    assert _scratch_databases(postgres) == []


def test_a_lost_platform_goes_on_from_its_backup(
    shop: UseCase, postgres: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a backup, and a machine that has nothing else,
    url, _ = backups.backup(str(tmp_path / "elsewhere"))
    # (and a customer who was forgotten since: the backup holds her, the next one notes it beside itself)
    forget(shop, "customer", "c07", who="test")
    backups.backup(str(tmp_path / "elsewhere"))
    before = commits.newest_commits("tiny_orders/clean/orders")
    secret = (get_settings().var / "secrets" / "forget.key").read_text()
    monkeypatch.setenv("AIRWORTHY_FORGET_KEY", secret)
    landing = get_settings().landing_url
    features.close()
    engine().dispose()
    suffix, var = secrets.token_hex(4), tmp_path / "new"
    for name in ("LEDGER", "FEAST_REGISTRY"):
        monkeypatch.setenv(
            f"AIRWORTHY_{name}_DSN", f"postgresql+psycopg://postgres@/new_{name.lower()}_{suffix}?host={postgres}"
        )
    monkeypatch.setenv("AIRWORTHY_VAR", str(var))
    monkeypatch.setenv("AIRWORTHY_LANDING_URL", landing)
    get_settings.cache_clear()
    try:
        # when it is restored there,
        restored = restore(url)
        assert restored.checked["partitions"] == 8
        assert "c07" in tables.read("tiny_orders/clean/orders")["customer"].to_pylist()
        # then she is forgotten again before anything starts,
        assert forgotten_journal.finish(shop) == 1
        for layer in ("raw", "clean"):
            assert "c07" not in tables.read(f"tiny_orders/{layer}/orders")["customer"].to_pylist()
        # the tables are those, work that was done is done, and features are online again.
        after = commits.newest_commits("tiny_orders/clean/orders")
        assert {k: c.digest for k, c in after.items()} == {k: c.digest for k, c in before.items()}
        assert ingest.ingest_interval(shop, Interval.of(KEYS[0]), run="after").status == "already"
        assert features.catch_up(shop, run="after").reason == "features are up to date"
        # And nobody restores over it.
        with pytest.raises(ConfigurationError, match="never overwrites ledger"):
            restore(url)
        features.close()
        engine().dispose()
    finally:
        with psycopg.connect(f"host={postgres} user=postgres dbname=postgres", autocommit=True) as connection:
            for name in ("ledger", "feast_registry"):
                connection.execute(f"DROP DATABASE IF EXISTS new_{name}_{suffix} WITH (FORCE)")


def test_a_backup_goes_with_its_age_and_the_newest_never(shop: UseCase) -> None:
    urls = [backups.backup()[0] for _ in range(2)]
    for url in urls:
        manifest = Path(url) / backups.MANIFEST
        record = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**record, "at": "2020-01-01T00:00:00+00:00"}))
    # Nothing newer is there yet: what is old is better than nothing.
    assert backups.backups() == urls
    newest = backups.backup()[0]
    assert backups.backups() == [newest]
    assert backups.kept_until() > wall_now().isoformat()


def test_a_backup_that_no_drill_restored_for_a_week_is_reported(shop: UseCase) -> None:
    # Given nothing yet, and then a backup of today.
    assert "nothing to rehearse yet" in check_drills()
    url = backups.backup()[0]
    check_drills()
    # When it is older than a week and a day, then it is said that nobody ever restored one;
    manifest = Path(url) / backups.MANIFEST
    old = (wall_now() - timedelta(days=8, minutes=1)).isoformat()
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "at": old}))
    with pytest.raises(RehearsalError, match=r"a restore was not rehearsed for 8 days: none went well yet"):
        check_drills()
    # one that failed does not count, one that went well does, as long as it is not as old itself.
    drilled = {"backup": url, "recovery_point": wall_now(), "seconds": 1.0}
    with transaction() as session:
        session.add(RecoveryDrill(**drilled, passed=False, words="it differs"))
    with pytest.raises(RehearsalError):
        check_drills()
    with transaction() as session:
        session.add(RecoveryDrill(**drilled, passed=True, words=""))
    check_drills()
    with transaction() as session:
        session.execute(text("UPDATE recovery_drill SET at = at - interval '9 days'"))
    with pytest.raises(RehearsalError, match="the last one that went well was"):
        check_drills()


def test_only_whole_backups_count_and_old_ones_go(shop: UseCase) -> None:
    urls = [backups.backup(keep=2)[0] for _ in range(3)]
    assert backups.backups() == urls[1:]
    shutil.copytree(urls[1], f"{urls[2]}-copying", ignore=shutil.ignore_patterns(backups.MANIFEST))
    assert backups.backups() == urls[1:]
    with pytest.raises(ConfigurationError, match="no complete backup"):
        restore(f"{urls[2]}-copying", into="/nowhere")
