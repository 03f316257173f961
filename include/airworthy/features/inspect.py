"""Profiles of published tables over any range of intervals, for people who analyse data."""

from __future__ import annotations

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.features.catalog import catalog
from airworthy.ingest import clean_masks
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.lake.tables import INTERVAL
from airworthy.validation.profile import TableProfile, profiles


def profile_table(
    use_case: UseCase, layer: str, name: str, first: Interval | None = None, last: Interval | None = None
) -> TableProfile:
    """Profile a published table.

    Args:
        use_case: The use case.
        layer: ``raw``, ``clean``, ``features`` or ``scores``.
        name: The source, the feature view, or ``batch``.
        first, last: Intervals, both included; all when not given.

    Raises:
        ConfigurationError: there is no such table.
    """
    masks = {"raw": _raw, "clean": _clean, "features": _features, "scores": _scores}.get(layer)
    known = masks(use_case) if masks else {}
    if name not in known:
        raise ConfigurationError(
            f"{use_case.name} has no table {layer}/{name}",
            next_step=f"choose one of {', '.join(known)}" if known else "give --layer raw, clean, features or scores",
        )
    rows = tables.read(use_case.table(layer, name), first, last)
    span = f"{first or 'the first'} to {last or 'the last'}" if (first, last) != (None, None) else "all intervals"
    label = use_case.prediction.label if (layer, name) == ("clean", use_case.prediction.source) else ""
    title = f"{use_case.table(layer, name)}, {span}"
    return profiles(rows.drop_columns([INTERVAL]), known[name], title=title, label=label)


def _raw(use_case: UseCase) -> dict[str, dict[str, str]]:
    return {name: source.masks for name, source in use_case.sources.items()}


def _clean(use_case: UseCase) -> dict[str, dict[str, str]]:
    return {name: clean_masks(use_case, name) for name in use_case.sources}


def _features(use_case: UseCase) -> dict[str, dict[str, str]]:
    return {view.name: view.masks for view in catalog(use_case).views}


def _scores(use_case: UseCase) -> dict[str, dict[str, str]]:
    return {"batch": clean_masks(use_case, use_case.prediction.source)}
