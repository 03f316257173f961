"""Training: a training set as it could be known, a fitted candidate, its files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airworthy.training.fitting import fit
    from airworthy.training.training_set import (
        build_training_set,
        data_docs_link,
        read_training_set,
        rebuild_training_set,
    )

__all__ = ["build_training_set", "data_docs_link", "fit", "read_training_set", "rebuild_training_set"]

# Looked up on demand: the prediction service imports the model files and needs neither Feast nor MLflow.
_HOME = {
    "build_training_set": "training_set",
    "data_docs_link": "training_set",
    "fit": "fitting",
    "read_training_set": "training_set",
    "rebuild_training_set": "training_set",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
