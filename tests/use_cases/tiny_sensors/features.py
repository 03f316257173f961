"""Three views: the last reading (pushed), the failures of the last days, what the sensor is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import ibis
from ibis.expr import types as ir

from airworthy.features.definitions import FeatureView


def site_reading(tables: Mapping[str, ir.Table], spine: ir.Table) -> ir.Table:
    """The reading itself, from its own moment on."""
    readings = tables["readings"]
    joined = readings.semi_join(spine, "interval")
    return joined.select(
        "site", "interval", "available_at", event_timestamp=joined.read_at,
        heat=joined.heat, hot=(joined.heat > 60.0).fill_null(False), alarm=joined.alarm, mode=joined["mode"].upper(),
    )  # fmt: skip


def site_history(tables: Mapping[str, ir.Table], spine: ir.Table) -> ir.Table:
    """Jobs and failures of a site in the three days up to an interval's end."""
    jobs = tables["jobs"].mutate(day=tables["jobs"].interval.cast("date"))
    days = spine.select("interval", "end", spine_available="available_at", spine_day=spine.interval.cast("date"))
    age = days.spine_day.delta(jobs.day, unit="day")
    joined = days.join(jobs.drop("interval", "available_at"), [age >= 0, age <= 2])
    return joined.group_by("site", "interval", event_timestamp="end", available_at="spine_available").agg(
        jobs_3d=lambda t: t.count(), failed_share_3d=lambda t: t.failed.cast("float64").mean()
    )


def sensor(tables: Mapping[str, ir.Table], spine: ir.Table) -> ir.Table:
    """What is known of a sensor, from the start of the snapshot's day on."""
    sensors = tables["sensors"]
    joined = sensors.join(spine.select("interval", "start"), "interval")
    return joined.select("sensor_id", "interval", "available_at", "built", "maker", event_timestamp="start")


VIEWS = [
    FeatureView("tiny_sensors_reading", ("site",), ("readings",), site_reading, ttl=timedelta(hours=3), pushed=True),
    FeatureView("tiny_sensors_history", ("site",), ("jobs",), site_history, lookback_days=2, ttl=timedelta(days=4)),
    FeatureView("tiny_sensors_sensor", ("sensor_id",), ("sensors",), sensor),
]


def request_features(request: ir.Table) -> dict[str, ir.Value]:
    """Load, the hour at which the job starts (UTC), and how long it is until then."""
    return {
        "load": request.load,
        "hour": request.starts_at.hour(),
        "minutes_ahead": request.starts_at.delta(request.predicted_at, unit="minute"),
        "by_site": request.site.lower() + "/" + ibis.ifelse(request.load > 0.5, "heavy", "light"),
    }
