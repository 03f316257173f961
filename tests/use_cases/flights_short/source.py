"""The flights' own cleaning."""

from use_cases.flight_delays.source import clean_airport_state, clean_flights, clean_planes, clean_weather

__all__ = ["clean_airport_state", "clean_flights", "clean_planes", "clean_weather"]
