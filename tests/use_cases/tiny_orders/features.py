"""One rolling view of the customer and three things about the order itself."""

from __future__ import annotations

from collections.abc import Mapping

import ibis
from ibis.expr import types as ir

from airworthy.features.definitions import FeatureView

LOOKBACK = 7
PRIOR_RATE, PRIOR_ORDERS = 0.25, 4.0


def customer_history(tables: Mapping[str, ir.Table], spine: ir.Table) -> ir.Table:
    """Orders, returns and spending of each customer in the seven days up to an interval's end."""
    orders = tables["orders"]
    days = spine.select("interval", "end", spine_available="available_at", day=spine.interval.cast("date"))
    daily = (
        orders.mutate(order_day=orders.interval.cast("date"))
        .group_by("customer", "order_day")
        .agg(
            orders=lambda t: t.count(),
            known=lambda t: t.returned.count(),
            returns=lambda t: t.returned.cast("int64").sum().coalesce(0),
            spent=lambda t: t.amount.sum(),
        )
    )
    age = days.day.delta(daily.order_day, unit="day")
    joined = days.join(daily, [age >= 0, age < LOOKBACK])
    return (
        joined.group_by("customer", "interval", "end", "spine_available")
        .agg(
            returned_share_7d=lambda t: (t.returns.sum() + PRIOR_RATE * PRIOR_ORDERS) / (t.known.sum() + PRIOR_ORDERS),
            orders_7d=lambda t: t.orders.sum().cast("int64"),
            mean_amount_7d=lambda t: t.spent.sum() / t.orders.sum(),
        )
        .rename(event_timestamp="end", available_at="spine_available")
    )


VIEWS = [
    FeatureView(
        name="tiny_orders_customer",
        entities=("customer",),
        sources=("orders",),
        build=customer_history,
        lookback_days=LOOKBACK - 1,
        on_outage="null",
        description="What the customer ordered and returned in the last seven days.",
        owner="shop",
    )
]


def request_features(request: ir.Table) -> dict[str, ir.Value]:
    """The order as it is placed: channel, amount, amount of one item, hour of the day (UTC)."""
    return {
        "order_channel": request.channel.lower(),
        "order_amount": request.amount,
        "amount_of_one": request.amount / ibis.greatest(request["items"], 1),
        "order_hour": (request.ordered_at.epoch_seconds() // 3600 % 24).cast("int64"),
    }
