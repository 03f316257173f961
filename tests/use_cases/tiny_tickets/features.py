"""What the customer asked on the day, and a thing about the ticket itself."""

from __future__ import annotations

from collections.abc import Mapping

from ibis.expr import types as ir

from airworthy.features.definitions import FeatureView


def customer_day(tables: Mapping[str, ir.Table], spine: ir.Table) -> ir.Table:
    """Tickets of each customer in an interval."""
    days = spine.select("interval", "end", spine_available="available_at")
    joined = days.join(tables["tickets"].select("customer", "interval", "ticket"), "interval")
    counted = joined.group_by("customer", "interval", "end", "spine_available").agg(tickets=lambda t: t.ticket.count())
    return counted.rename(event_timestamp="end", available_at="spine_available")


VIEWS = [
    FeatureView(
        name="tiny_tickets_customer",
        entities=("customer",),
        sources=("tickets",),
        build=customer_day,
        description="How many tickets the customer opened on the last day.",
        owner="desk",
    )
]


def request_features(request: ir.Table) -> dict[str, ir.Value]:
    """The hour (UTC) at which the ticket was opened."""
    return {"opened_hour": (request.opened_at.epoch_seconds() // 3600 % 24).cast("int64")}
