"""The shop's first weeks: what a new revision of the pipeline is tried on."""

from __future__ import annotations

from datetime import datetime

from airworthy.config import UseCase
from airworthy.intervals import Interval, days

from . import world


def land_sample(use_case: UseCase) -> tuple[list[str], datetime]:
    """Land as many days as a training needs, and two more."""
    first = use_case.data.first_interval
    needed = use_case.training.min_train_days + use_case.training.holdout_days + 2
    keys = [interval.key for interval in days(first, first.shift(needed - 1))]
    for key in keys:
        world.land_day(use_case, key)
    return keys, Interval.of(keys[-1]).end + use_case.sources["orders"].lag
