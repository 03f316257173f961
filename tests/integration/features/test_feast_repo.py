"""Feast sees the same definitions through the platform and through its own command."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tiny_sensors.plant import Plant, plant

from airworthy.config import Settings, get_settings, load_use_case

__all__ = ["plant"]

REPO = Path(__file__).parents[3] / "feature_repo"


def environment(settings: Settings) -> dict[str, str]:
    """Every variable that ``feature_store.yaml`` names."""
    return {
        "AIRWORTHY_FEAST_REGISTRY_DSN": settings.feast_registry_dsn, "AIRWORTHY_ONLINE_HOST": settings.online_host,
        "AIRWORTHY_ONLINE_PORT": str(settings.online_port), "AIRWORTHY_ONLINE_DATABASE": settings.online_database,
        "AIRWORTHY_ONLINE_USER": settings.online_user,
        "AIRWORTHY_ONLINE_PASSWORD": settings.online_password.get_secret_value(),
    }  # fmt: skip


def test_the_file_says_what_the_platform_uses(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from feast.repo_config import load_repo_config

    from airworthy.features import repo_config

    for name, value in environment(platform_env).items():
        monkeypatch.setenv(name, value)
    ours, theirs = repo_config(get_settings()), load_repo_config(REPO, REPO / "feature_store.yaml")

    assert theirs.registry == ours.registry
    assert theirs.online_store == ours.online_store
    assert theirs.offline_store == ours.offline_store
    for name in ("project", "provider", "entity_key_serialization_version"):
        assert getattr(theirs, name) == getattr(ours, name)


def test_applied_twice_is_registered_once_and_as_defined(plant: Plant) -> None:
    from airworthy.features import apply, feature_columns, feature_digest, store

    apply(plant.use_case)
    registry = store(plant.use_case)
    views = {v.name: v for v in registry.list_feature_views()}
    service = registry.get_feature_service("tiny_sensors_v1")

    assert set(views) == {"tiny_sensors_reading", "tiny_sensors_history", "tiny_sensors_sensor"}
    assert views["tiny_sensors_reading"].ttl == timedelta(hours=3)
    assert not views["tiny_sensors_sensor"].ttl
    assert service.tags["digest"] == feature_digest(plant.use_case)
    served = [f.name for p in service.feature_view_projections for f in p.features]
    own = ["load", "hour", "minutes_ahead", "by_site"]
    assert list(feature_columns(plant.use_case)) == [*own, *served]


def test_what_was_registered_last_is_seen_whatever_feast_remembers(plant: Plant) -> None:
    """Feast remembers by memory address: without a version of its own, a state answers for another one that is gone."""
    from feast import Entity

    from airworthy.features import store

    feast_store = store(plant.use_case)
    for n in range(40):
        feast_store.registry.apply_entity(Entity(name=f"thing_{n}"), "airworthy")
        feast_store.refresh_registry()
        seen = {e.name for e in feast_store.list_entities(allow_cache=True)}
        assert f"thing_{n}" in seen


def test_the_feast_command_registers_flight_delays(platform_env: Settings) -> None:
    from airworthy import ingest
    from airworthy.features import close, store, table_schemas
    from airworthy.lake import tables

    use_case = load_use_case("use_cases.flight_delays")
    for name, schema in {**ingest.table_schemas(use_case), **table_schemas(use_case)}.items():
        tables.create(name, schema)
    env = {**os.environ, **environment(platform_env)}
    feast = "import sys; from feast.cli.cli import cli; sys.exit(cli())"

    done = subprocess.run(
        [sys.executable, "-c", feast, "--chdir", str(REPO), "apply"],
        env=env, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    assert {v.name for v in store(use_case).list_feature_views()} == {n.split("/")[-1] for n in table_schemas(use_case)}
    keys = {"tailnum", "origin", "carrier", "dest"}
    assert keys <= {e.join_key for e in store(use_case).list_entities()}  # an entity may have the name of a view
    close()
