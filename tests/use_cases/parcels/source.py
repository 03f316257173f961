"""From the landed files to the clean tables."""

from __future__ import annotations

from ibis.expr import types as ir


def clean_parcels(raw: ir.Table) -> ir.Table:
    """One row for each parcel; the hour of the promise loses its zone in Ibis, which ingest must mend."""
    return raw.mutate(
        zone=raw.zone.upper(), promised_hour=raw.promised.truncate("h"), heavy=(raw.weight > 20).ifelse(1, 0)
    )


def clean_depots(raw: ir.Table) -> ir.Table:
    """As landed."""
    return raw


def clean_vans(raw: ir.Table) -> ir.Table:
    """As landed."""
    return raw
