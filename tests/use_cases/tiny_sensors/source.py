"""From the landed files to the clean tables."""

from __future__ import annotations

import ibis
from ibis.expr import types as ir


def clean_jobs(raw: ir.Table) -> ir.Table:
    """One row for each job; the prediction is made an hour before it starts."""
    return raw.mutate(predicted_at=raw.starts_at - ibis.interval(hours=1))


def clean_readings(raw: ir.Table) -> ir.Table:
    """One row for each reading; heat in degrees Celsius."""
    return raw.mutate(heat=(raw.heat - 32.0) / 1.8)


def clean_sensors(raw: ir.Table) -> ir.Table:
    """One row for each sensor."""
    return raw
