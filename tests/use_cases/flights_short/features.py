"""The flights' own features."""

from use_cases.flight_delays.features import VIEWS, request_features

__all__ = ["VIEWS", "request_features"]
