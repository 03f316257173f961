"""A game day touches the named release, on trial or serving, and never production."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airworthy.config import get_settings
from airworthy.errors import ConfigurationError, ReleaseError
from airworthy.serving import game_day
from airworthy.training.model_files import LoadedModel, ModelSchema
from airworthy.training.scorer import LinearScorer

DIGEST = "ab" * 32


@pytest.fixture(autouse=True)
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AIRWORTHY_VAR", str(tmp_path))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def model() -> LoadedModel:
    schema = ModelSchema(use_case="x", feature_service="x_v1", feature_digest="f", columns={"a": "float64"})
    encoder: Any = None
    return LoadedModel(DIGEST, schema, encoder, LinearScorer(np.array([1.0]), 0.0), (), {}, ())


def scores(loaded: LoadedModel, times: int = 10) -> list[float | None]:
    found: list[float | None] = []
    for _ in range(times):
        try:
            found.append(float(loaded.predict_matrix(np.array([[0.0]]))[0]))
        except ArithmeticError:
            found.append(None)
    return found


def test_each_fault_is_what_it_says() -> None:
    game_day.plan(DIGEST[:12], "errors")
    assert scores(game_day.sabotaged(model())).count(None) == 2
    game_day.plan(DIGEST[:12], "nan")
    assert all(s is not None and np.isnan(s) for s in scores(game_day.sabotaged(model())))
    game_day.plan(DIGEST[:12], "slow")
    assert scores(game_day.sabotaged(model())) == [0.5] * 10
    game_day.plan(DIGEST[:12], "crash_at_load")
    with pytest.raises(ReleaseError, match="crashes when it is loaded"):
        game_day.sabotaged(model())
    game_day.end()
    assert scores(game_day.sabotaged(model())) == [0.5] * 10


def test_another_release_and_a_staging_check_are_left_alone() -> None:
    game_day.plan("cd" * 8, "nan")
    assert scores(game_day.sabotaged(model())) == [0.5] * 10
    game_day.plan(DIGEST[:12], "crash_at_load")
    assert scores(game_day.sabotaged(model(), staged=True)) == [0.5] * 10


def test_production_has_no_game_days(monkeypatch: pytest.MonkeyPatch) -> None:
    game_day.plan(DIGEST[:12], "nan")
    monkeypatch.setenv("AIRWORTHY_ENV", "prod")
    get_settings.cache_clear()
    assert scores(game_day.sabotaged(model())) == [0.5] * 10
    with pytest.raises(ConfigurationError, match="not for production"):
        game_day.plan(DIGEST[:12], "nan")


def test_a_file_that_cannot_be_read_breaks_nothing() -> None:
    for content in ("no json", '{"release": "x", "fault": "nan"}', '{"release": "abababab", "fault": "fire"}'):
        game_day.path().write_text(content)
        assert scores(game_day.sabotaged(model())) == [0.5] * 10
