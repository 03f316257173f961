"""A small, fixed piece of 2013: what a new revision of the pipeline is tried on, and what its metrics are compared by."""

from __future__ import annotations

from datetime import datetime

from airworthy.config import UseCase
from airworthy.intervals import days
from use_cases.flight_delays.world import World

SPARE_DAYS = 4


def land_sample(use_case: UseCase) -> tuple[list[str], datetime]:
    """Land the first weeks: as many days as a training needs, and a few more.

    Returns:
        The landed intervals' keys, and the data time at which they are all known.
    """
    first = use_case.data.first_interval
    needed = use_case.training.min_train_days + use_case.training.holdout_days + SPARE_DAYS
    world = World(use_case)
    keys = [interval.key for interval in days(first, first.shift(needed - 1))]
    for key in keys:
        world.land_day(key)
    return keys, world.landing_time(keys[-1])
