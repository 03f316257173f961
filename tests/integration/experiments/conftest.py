"""The tiny shop with two weeks published, and MLflow beside it."""

from __future__ import annotations

import pytest

from airworthy.config import UseCase, get_settings

from ..training.conftest import shop  # noqa: TID252

__all__ = ["lab", "shop"]


@pytest.fixture
def lab(shop: UseCase, mlflow_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> UseCase:
    """The shop, with an experiment of its own in MLflow; the gate judges holdouts of four days."""
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", mlflow_server)
    monkeypatch.setenv("AIRWORTHY_ENV", "dev")
    get_settings.cache_clear()
    gate = shop.gate.model_copy(update={"min_holdout_rows": 100, "min_roc_auc": 0.55, "min_slice_rows": 2000})
    return shop.model_copy(update={"gate": gate})
