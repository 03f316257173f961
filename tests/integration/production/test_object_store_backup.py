"""A platform on a server of its own and on object storage is backed up and restored there, MLflow's and Airflow's databases too."""

from __future__ import annotations

import secrets
from pathlib import Path

import psycopg
import pytest
from tiny_orders import world

from airworthy import features, ingest
from airworthy.config import Settings, UseCase, get_settings
from airworthy.config.use_case import use_cases
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.lake.landing import filesystem
from airworthy.ledger.clock import advance
from airworthy.ledger.database import engine
from airworthy.platform import backup as backups
from airworthy.platform import migrations
from airworthy.platform.every_table import table_schemas
from airworthy.platform.restoring import restore

from .test_object_store import orders, s3

__all__ = ["orders", "s3"]
KEY = "2024-01-01"
OTHERS = {"MLFLOW_BACKEND_STORE_URI": "mlflow", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "airflow"}


def sql(postgres: Path, database: str, *statements: str) -> None:
    with psycopg.connect(f"host={postgres} user=postgres dbname={database}", autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def point_at(monkeypatch: pytest.MonkeyPatch, postgres: Path, suffix: str, bucket: str) -> None:
    """Settings of a platform on that server and in that bucket."""
    for variable, name in OTHERS.items():
        monkeypatch.setenv(variable, f"postgresql+psycopg2://postgres@/{name}_{suffix}?host={postgres}")
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", f"{bucket}/artifacts")
    for name in ("LAKE", "LANDING", "RELEASE"):
        monkeypatch.setenv(f"AIRWORTHY_{name}_URL", f"{bucket}/{name.lower()}s")
    get_settings.cache_clear()
    use_cases.cache_clear()


def test_databases_of_a_server_and_folders_of_a_bucket(
    s3: Settings, orders: UseCase, postgres: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a platform whose folders are in a bucket, and MLflow's and Airflow's databases with a row each,
    suffix, again, bucket = secrets.token_hex(4), secrets.token_hex(4), s3.lake_url.rpartition("/")[0]
    monkeypatch.setenv("AIRWORTHY_BACKUP_URL", f"s3://aw-{secrets.token_hex(4)}/backups")
    point_at(monkeypatch, postgres, suffix, bucket)
    backup_bucket = filesystem(get_settings().backup_url)
    backup_bucket[0].mkdir(backup_bucket[1].partition("/")[0])
    for name in OTHERS.values():
        sql(postgres, "postgres", f"CREATE DATABASE {name}_{suffix}")
        sql(
            postgres,
            f"{name}_{suffix}",
            "CREATE TABLE runs (id int, name text)",
            f"INSERT INTO runs VALUES (1, '{name}')",
        )
    store, path = filesystem(f"{bucket}/artifacts/1")
    store.pipe_file(f"{path}/model.txt", b"a model")
    for name, schema in table_schemas(orders).items():
        tables.create(name, schema)
    features.apply(orders)
    advance(orders, Interval.of("2024-01-10").end)
    world.land_day(orders, KEY)
    ingest.ingest_interval(orders, Interval.of(KEY), run="test")
    clean = tables.digest(tables.read("tiny_orders/clean/orders"))
    # when it is saved, and restored on empty databases and an empty bucket,
    url, saved = backups.backup(with_airflow=True)
    assert saved.counts["mlflow"] == saved.counts["airflow"] == {"runs": 1}
    features.close()
    engine().dispose()
    fresh = f"s3://aw-{secrets.token_hex(4)}"
    for name in ("LEDGER", "FEAST_REGISTRY"):
        dsn = f"postgresql+psycopg://postgres@/{name.lower()}_{again}?host={postgres}"
        monkeypatch.setenv(f"AIRWORTHY_{name}_DSN", dsn)
    monkeypatch.setenv("AIRWORTHY_SPOOL", str(tmp_path / "spool"))
    point_at(monkeypatch, postgres, again, fresh)
    migrations.buckets(get_settings())
    try:
        restored = restore(url)
        # then all of it is there.
        assert restored.checked["databases"] == 4
        assert tables.digest(tables.read("tiny_orders/clean/orders")) == clean
        assert store.cat_file(f"{filesystem(fresh)[1]}/artifacts/1/model.txt") == b"a model"
        for name in OTHERS.values():
            with psycopg.connect(f"host={postgres} user=postgres dbname={name}_{again}") as connection:
                assert connection.execute("SELECT * FROM runs").fetchall() == [(1, name)]
    finally:
        features.close()
        engine().dispose()
        for name in ("mlflow", "airflow", "ledger", "feast_registry"):
            for mark in (suffix, again):
                sql(postgres, "postgres", f"DROP DATABASE IF EXISTS {name}_{mark} WITH (FORCE)")
