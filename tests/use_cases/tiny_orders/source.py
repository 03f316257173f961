"""From the landed file to the clean table."""

from __future__ import annotations

from ibis.expr import types as ir


def clean_orders(raw: ir.Table) -> ir.Table:
    """One row for each order; channels are written in one way."""
    return raw.mutate(channel=raw.channel.lower())
