"""What production tells: the prediction log, drift, decay, staleness, and when to ask for a training."""

from airworthy.monitoring.collect import collect, table_schemas
from airworthy.monitoring.window import monitor

__all__ = ["collect", "monitor", "table_schemas"]
