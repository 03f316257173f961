"""Every number that a model is made of, looked at: NaN and infinity hide in parameters that few rows reach."""

from __future__ import annotations

from typing import Any

import numpy as np

from airworthy.training.compiling import RecordedScorer
from airworthy.training.model_files import LoadedModel

DEPTH = 12


def not_finite(model: LoadedModel) -> tuple[str, ...] | None:
    """Where the parameters of the serving form and of the encoder are no finite numbers; empty when all are.

    None for a candidate without a serving form: nobody knows where its numbers are.
    """
    if isinstance(model.scorer, RecordedScorer):
        return None
    found: list[str] = []
    _look("scorer", model.scorer, found, 0)
    _look("encoder", model.encoder.columns, found, 0)
    return tuple(dict.fromkeys(found))


def _look(where: str, thing: Any, found: list[str], depth: int) -> None:
    if depth > DEPTH:
        return
    if isinstance(thing, (float, np.ndarray, np.floating)):
        if not _all_finite(thing):
            found.append(where)
    elif isinstance(thing, dict):
        for key, value in thing.items():
            _look(f"{where}.{key}", value, found, depth + 1)
    elif isinstance(thing, (list, tuple)):
        for i, value in enumerate(thing):
            _look(f"{where}[{i}]", value, found, depth + 1)
    elif hasattr(thing, "get_tree_accessor"):
        _trees(where, thing, found)
    elif type(thing).__module__.startswith("airworthy."):
        _look(where, vars(thing), found, depth + 1)


def _trees(where: str, model: Any, found: list[str]) -> None:
    """The trees of a treelite model: the values of its leaves, and the thresholds of its numerical tests."""
    for i in range(model.num_tree):
        tree = model.get_tree_accessor(i)
        # A leaf has no child; a test's leaf value, and a leaf's threshold, mean nothing.
        leaf = np.asarray(tree.get_field("cleft")) == -1
        kind = np.asarray(tree.get_field("node_type"))
        values, thresholds = np.asarray(tree.get_field("leaf_value")), np.asarray(tree.get_field("threshold"))
        vector = np.asarray(tree.get_field("leaf_vector"))
        if vector.size and not _all_finite(vector):
            found.append(f"{where}.tree[{i}].leaf_vector")
        elif not vector.size and not _all_finite(values[leaf]):
            found.append(f"{where}.tree[{i}].leaf_value")
        # Infinity is a threshold: everything known on one side, nothing known on the other.
        if np.isnan(thresholds[~leaf & (kind == 1)]).any():
            found.append(f"{where}.tree[{i}].threshold")
    if not _all_finite(np.asarray(model.get_header_accessor().get_field("base_scores"))):
        found.append(f"{where}.base_scores")


def _all_finite(values: Any) -> bool:
    array = np.asarray(values)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
