"""Definitions that models were trained on: they keep their name's meaning, and one can see who uses which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tiny_sensors import features
from tiny_sensors.plant import Plant, plant
from typer.testing import CliRunner

from airworthy.errors import ConfigurationError
from airworthy.ledger import promotions
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TrainingSet
from airworthy.records import Release, Verdict

__all__ = ["plant"]

READING, HISTORY, SENSOR = features.VIEWS
TRAINING_SET = "7" * 64


@pytest.fixture(autouse=True)
def compiled_anew() -> Iterator[None]:
    """Definitions are compiled once in a process, and these tests change them."""
    from airworthy.features import catalog

    yield
    catalog.forget()


def redefine(monkeypatch: pytest.MonkeyPatch, *views: object) -> None:
    from airworthy.features import catalog

    monkeypatch.setattr(features, "VIEWS", list(views))
    catalog.forget()


def train(plant: Plant) -> None:
    """A training set in the ledger, as training records it."""
    from airworthy.features import feature_digest, view_digests

    ref = {
        "feature_service": plant.use_case.training.feature_service, "feature_digest": feature_digest(plant.use_case),
        "view_digests": view_digests(plant.use_case),
    }  # fmt: skip
    with transaction() as session:
        session.add(TrainingSet(digest=TRAINING_SET, use_case=plant.use_case.name, ref=ref))


def release(plant: Plant) -> None:
    """A challenger that was trained on that training set."""
    now = datetime(2024, 2, 1, tzinfo=UTC)
    verdict = Verdict(
        id="v-1", use_case=plant.use_case.name, model_digest="m", champion_digest=None, decision="pass", mode="enabled",
        checks=(), metrics={}, champion_metrics={}, holdout_rows=1, training_set_digest=TRAINING_SET, summary="passed",
        data_time=now,
    )  # fmt: skip
    promotions.record_verdict(verdict, {})
    promotions.record_release(
        Release(
            use_case=plant.use_case.name, digest="r" * 64, model_digest="m", version=4, verdict_id="v-1",
            champion_digest=None, run_id="run",
        )
    )  # fmt: skip


def test_before_the_first_training_definitions_change_freely(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from airworthy.features import apply

    redefine(monkeypatch, replace(READING, ttl=timedelta(hours=9)), HISTORY, SENSOR)

    apply(plant.use_case)


def test_a_changed_definition_needs_a_new_service(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from airworthy.features import apply, catch_up, store

    train(plant)
    apply(plant.use_case)  # the same definitions again
    redefine(monkeypatch, replace(READING, ttl=timedelta(hours=9)), HISTORY)
    words = r"tiny_sensors_v1 was used by training set 777777777777 .*: tiny_sensors_reading changed, tiny_sensors_sensor is gone"

    for step in (lambda: apply(plant.use_case), lambda: catch_up(plant.use_case, run="test")):
        with pytest.raises(ConfigurationError, match=words) as refused:
            step()
        assert "set training.feature_service to tiny_sensors_v2" in refused.value.next_step

    training = plant.use_case.training.model_copy(update={"feature_service": "tiny_sensors_v2"})
    renamed = plant.use_case.model_copy(update={"training": training})
    apply(renamed)
    assert {s.name for s in store(renamed).list_feature_services()} == {"tiny_sensors_v1", "tiny_sensors_v2"}
    catch_up(renamed, run="test")


def test_changed_request_features_are_named_too(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from airworthy.features import apply, catalog

    train(plant)
    monkeypatch.setattr(features, "request_features", lambda request: {"load": request.load * 2})
    catalog.forget()

    with pytest.raises(ConfigurationError, match="the request features changed"):
        apply(plant.use_case)


def command(*arguments: str) -> str:
    from airworthy.cli import app

    done = CliRunner().invoke(app, ["features", *arguments], env={"COLUMNS": "250"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_list_and_show_tell_who_uses_a_view(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    from airworthy.features import view_digests

    train(plant)
    assert "no release" in command("list")
    release(plant)

    listed, shown = command("list", "tiny_sensors"), command("show", READING.name)

    (row,) = [line for line in listed.splitlines() if READING.name in line]
    digest = view_digests(plant.use_case)[READING.name]
    for word in ("site", "readings", "3:00:00", "plant", digest[:12], "challenger v4"):
        assert word in row, word
    for word in (
        "site string",
        "heat float64",
        "tiny_sensors/clean/readings",
        "pushed",
        digest,
        "SELECT",
        "tiny_sensors_v1",
    ):
        assert word in shown, word
    assert "challenger v4, release rrrrrrrrrrrr, by tiny_sensors_v1" in shown

    redefine(monkeypatch, replace(READING, ttl=timedelta(hours=9)), HISTORY, SENSOR)
    assert "challenger v4, release rrrrrrrrrrrr, by tiny_sensors_v1 (with another definition)" in command(
        "show", READING.name
    )
    with pytest.raises(ConfigurationError, match="no feature view 'nope'"):
        command("show", "nope")


def test_one_definition_under_two_names_is_pointed_out(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from airworthy.features import apply

    twin = replace(
        SENSOR, name="tiny_sensors_machine",
        build=lambda tables, spine: SENSOR.build(tables, spine).rename(year="built", brand="maker"),
    )  # fmt: skip
    near = replace(
        SENSOR,
        name="tiny_sensors_old",
        ttl=timedelta(days=1),
        build=lambda t, s: twin.build(t, s).rename(y="year", b="brand"),
    )
    redefine(monkeypatch, READING, SENSOR, twin, near)
    words = "the same definition under 2 names, one is enough: tiny_sensors_machine, tiny_sensors_sensor"

    assert words in command("list")
    apply(plant.use_case)
    assert words in caplog.text
