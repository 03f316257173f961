"""What production tells: the prediction log, drift, decay, staleness, and when to ask for a training."""

from airworthy.monitoring.blast_radius import blast_radius
from airworthy.monitoring.blast_radius_page import publish_page
from airworthy.monitoring.collect import collect, table_schemas
from airworthy.monitoring.skew_check import skew
from airworthy.monitoring.window import monitor

__all__ = ["blast_radius", "collect", "monitor", "publish_page", "skew", "table_schemas"]
