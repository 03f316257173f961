"""The features of a flight: its schedule, its aircraft, the weather, the airport's day, and delays of the last weeks.

Left out on purpose: the month and the day of the year. With one year of data each occurs once, so a model would learn
"July was bad" from July itself and be tested on months that it has never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import ibis
from ibis.expr import types as ir

from airworthy.features.definitions import FeatureView

OWNER = "flight-operations"
LOCAL = "America/New_York"

# Rates are pulled towards these by so many flights, because a route with three flights says little. They are round
# figures of US air traffic before 2013 and not means of this data: a mean over the year would know the future.
PRIOR_FLIGHTS = 20.0
PRIOR_LATE = 0.2
PRIOR_DELAY = 5.0


@ibis.udf.scalar.builtin(name="timezone", signature=(("string", "timestamp('UTC')"), "timestamp"))
def wall_time(zone: str, moment: object) -> object:
    """Wall time, without a zone, that clocks in a zone show at a moment (the query engine's own function)."""


def request_features(request: ir.Table) -> dict[str, ir.Value]:
    """What the schedule says: route, carrier and local time of departure (New York, daylight saving observed)."""
    local = wall_time(LOCAL, request.sched_dep)
    return {
        "carrier_code": request.carrier,
        "origin_airport": request.origin,
        "dest_airport": request.dest,
        "distance_miles": request.distance,
        "departure_hour": local.hour().cast("int64"),
        "departure_minute": (local.hour().cast("int64") * 60 + local.minute()).cast("int64"),
        "departure_weekday": local.day_of_week.index().cast("int64"),
    }


def aircraft(tables: Mapping[str, ir.Table], spine: ir.Table) -> ir.Table:
    """The aircraft as the registry describes it."""
    planes = tables["planes"]
    return planes.join(spine.select("interval", "start"), "interval").select(
        "tailnum",
        "interval",
        event_timestamp="start",
        available_at=planes.available_at,
        plane_built=planes.built,
        plane_seats=planes.seats,
        plane_engines=planes.engines,
        plane_engine=planes.engine,
        plane_maker=planes.maker,
    )


def _hourly(table: ir.Table, spine: ir.Table, columns: list[str]) -> ir.Table:
    """Rows as observed, each in the interval that holds its hour."""
    spans = spine.select("interval", "start", "end")
    rows = table.select("origin", "observed_at", "available_at", *columns)
    inside = rows.join(spans, [rows.observed_at >= spans.start, rows.observed_at < spans.end])
    return inside.select("origin", "interval", "available_at", *columns, event_timestamp="observed_at")


def weather(tables: Mapping[str, ir.Table], spine: ir.Table) -> ir.Table:
    """Weather at the origin."""
    names = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    return _hourly(tables["weather"], spine, names)


def airport(tables: Mapping[str, ir.Table], spine: ir.Table) -> ir.Table:
    """How the origin's day goes so far."""
    names = [
        "departures_1h", "departures_3h", "dep_delay_1h", "dep_delay_3h", "dep_delay_6h", "late_share_3h", "overdue",
    ]  # fmt: skip
    return _hourly(tables["airport_state"], spine, names)


def _recent(flights: ir.Table, spine: ir.Table, keys: list[str], lookback: int) -> ir.Table:
    """Daily sums of the lookback before each interval's end: one row for each interval, key and day with flights.

    Columns: the keys, ``interval``, ``end``, ``known`` (when the interval is known), ``age`` (days before the interval,
    0 is its own day), ``arrived``, ``late`` and ``delay`` (sums over the day's flights that have a label).
    """
    spans = spine.select("interval", "end", known="available_at", day=spine.interval.cast("date"))
    daily = (
        flights.filter(flights.late.notnull())
        .mutate(flown=lambda t: t.interval.cast("date"))
        .group_by(*keys, "flown")
        .agg(
            arrived=lambda t: t.count(),
            late=lambda t: t.late.cast("int64").sum(),
            delay=lambda t: t.arr_delay.sum(),
        )
    )
    age = spans.day.delta(daily.flown, unit="day")
    joined = spans.join(daily, [age >= 0, age < lookback])
    return joined.mutate(age=joined.day.delta(joined.flown, unit="day"))


def _late_rate(t: ir.Table, days: int) -> ir.Value:
    late, arrived = _sum(t, t.late, days), _sum(t, t.arrived, days)
    return (late + PRIOR_LATE * PRIOR_FLIGHTS) / (arrived + PRIOR_FLIGHTS)


def _mean_delay(t: ir.Table, days: int) -> ir.Value:
    delay, arrived = _sum(t, t.delay, days), _sum(t, t.arrived, days)
    return (delay + PRIOR_DELAY * PRIOR_FLIGHTS) / (arrived + PRIOR_FLIGHTS)


def _sum(t: ir.Table, column: ir.Value, days: int) -> ir.Value:
    # Sums of whole numbers: exact in any order, so that every engine and every range gives the same value.
    return ibis.coalesce(column.sum(where=t.age < days), 0).cast("float64")


def carrier(tables: Mapping[str, ir.Table], spine: ir.Table) -> ir.Table:
    """How late a carrier's flights from an origin arrived in the last day, week and four weeks."""
    keys = ["carrier", "origin"]
    recent = _recent(tables["flights"], spine, keys, 28)
    values = {
        **{f"carrier_late_{n}d": _late_rate(recent, n) for n in (1, 7, 28)},
        **{f"carrier_delay_{n}d": _mean_delay(recent, n) for n in (1, 7, 28)},
    }
    return recent.group_by(*keys, "interval", event_timestamp="end", available_at="known").agg(**values)


def route(tables: Mapping[str, ir.Table], spine: ir.Table) -> ir.Table:
    """How late flights on a route arrived in the last week and four weeks."""
    keys = ["origin", "dest"]
    recent = _recent(tables["flights"], spine, keys, 28)
    values = {f"route_late_{n}d": _late_rate(recent, n) for n in (7, 28)}
    return recent.group_by(*keys, "interval", event_timestamp="end", available_at="known").agg(**values)


VIEWS = [
    FeatureView(
        name="flight_delays_aircraft",
        entities=("tailnum",),
        sources=("planes",),
        build=aircraft,
        on_outage="null",
        description="The aircraft as the registry describes it; holds without limit.",
        owner=OWNER,
    ),
    FeatureView(
        name="flight_delays_weather",
        entities=("origin",),
        sources=("weather",),
        build=weather,
        ttl=timedelta(hours=3),
        pushed=True,
        on_outage="null",
        description="Weather observed at the origin, hourly.",
        owner=OWNER,
    ),
    FeatureView(
        name="flight_delays_airport",
        entities=("origin",),
        sources=("airport_state",),
        build=airport,
        ttl=timedelta(hours=2),
        pushed=True,
        on_outage="null",
        description="Departures and delays at the origin in the last hours, hourly.",
        owner=OWNER,
    ),
    FeatureView(
        name="flight_delays_carrier",
        entities=("carrier", "origin"),
        sources=("flights",),
        build=carrier,
        lookback_days=27,
        ttl=timedelta(days=7),
        on_outage="null",
        description="Late arrivals of the carrier's flights from the origin over the last days.",
        owner=OWNER,
    ),
    FeatureView(
        name="flight_delays_route",
        entities=("origin", "dest"),
        sources=("flights",),
        build=route,
        lookback_days=27,
        ttl=timedelta(days=7),
        on_outage="null",
        description="Late arrivals on the route over the last days.",
        owner=OWNER,
    ),
]
