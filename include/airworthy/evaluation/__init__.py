"""The gate: what a candidate must show before it may serve."""

from airworthy.evaluation.judge import judge, report_link

__all__ = ["judge", "report_link"]
