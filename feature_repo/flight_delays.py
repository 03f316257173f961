"""The features of ``flight_delays`` for the ``feast`` command: the same objects that the platform registers."""

from __future__ import annotations

from airworthy.config import load_use_case
from airworthy.features.feast_repo import feast_objects

# Feast looks for objects among a module's names.
globals().update(
    {f"object_{n}": found for n, found in enumerate(feast_objects(load_use_case("use_cases.flight_delays")))}
)
