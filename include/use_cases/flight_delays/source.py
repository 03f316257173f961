"""From the landed files to the clean tables. Timestamps arrive in UTC; domains are checked by the GX suites."""

from __future__ import annotations

import ibis
from ibis.expr import types as ir

LATE_MINUTES = 15
HOURS_AHEAD = 2


def clean_flights(raw: ir.Table) -> ir.Table:
    """One row for each scheduled flight, with the moment of its prediction and its label.

    ``late`` is empty for flights that were cancelled or diverted, and for the few that had not arrived when the file
    was published: there is no arrival to be late, so they never reach a training set.
    """
    return raw.select(
        "carrier",
        "flight",
        "origin",
        "dest",
        "tailnum",
        "distance",
        "sched_dep",
        prediction_time=raw.sched_dep - ibis.interval(hours=HOURS_AHEAD),
        dep_delay=raw.dep_delay,
        arr_delay=raw.arr_delay,
        late=raw.arr_delay >= LATE_MINUTES,
    )


def clean_weather(raw: ir.Table) -> ir.Table:
    """One row for each airport and hour; what was not measured stays empty."""
    return raw.rename(observed_at="time_hour")


def clean_airport_state(raw: ir.Table) -> ir.Table:
    """One row for each airport and hour, as the airport published it."""
    return raw


def clean_planes(raw: ir.Table) -> ir.Table:
    """One row for each aircraft. A maker's several names (divisions, owners) become one."""
    maker = raw.manufacturer.upper()
    return raw.select(
        "tailnum",
        "engines",
        "seats",
        "engine",
        built=raw.year,
        maker=ibis.cases(
            (maker.startswith("AIRBUS"), "AIRBUS"),
            (maker.startswith("MCDONNELL"), "MCDONNELL DOUGLAS"),
            else_=maker,
        ),
    )
