"""Pushed observations: judged as a landed file is, online at once, and equal to what the table holds later."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from tiny_sensors import world
from tiny_sensors.plant import Plant, plant

from airworthy.errors import ConfigurationError
from airworthy.intervals import Interval
from airworthy.lake.landing import land

__all__ = ["plant"]

DAY = "2024-01-05"
START = Interval.of(DAY).start
READING = "tiny_sensors_reading"


def reading(**fields: Any) -> dict[str, Any]:
    return {"site": "north", "read_at": START, "heat": 212.0, "alarm": False, "mode": "auto", **fields}


def push(plant: Plant, *rows: dict[str, Any]) -> Any:
    from airworthy.features import push as real

    return real(plant.use_case, "readings", list(rows))


def served(plant: Plant, moment: datetime, site: str = "north") -> dict[str, Any]:
    from airworthy.features import OnlineFeatures

    request = {"site": site, "sensor_id": None, "load": 0.1, "starts_at": moment}
    values = OnlineFeatures(plant.use_case).lookup([request], moment)[0].values
    return {name: values[name] for name in ("heat", "hot", "alarm", "mode")}


def test_a_pushed_value_is_served_at_once_and_cleaned_as_in_a_file(plant: Plant) -> None:
    moment = START + timedelta(minutes=10)
    plant.now(moment)

    outcome = push(plant, reading(), reading(site="south", heat=None, read_at="2024-01-05T00:00:00Z"))

    assert (outcome.accepted, outcome.rejected) == (2, [])
    assert served(plant, moment) == {"heat": 100.0, "hot": True, "alarm": False, "mode": "AUTO"}
    assert served(plant, moment, "south") == {"heat": None, "hot": False, "alarm": False, "mode": "AUTO"}


def test_bad_rows_are_counted_with_their_reason_and_keep_no_good_one_back(plant: Plant) -> None:
    moment = START + timedelta(minutes=10)
    plant.now(moment)

    outcome = push(
        plant, reading(site="nowhere"), reading(heat="warm"), {"site": "north"}, reading(read_at=None),
        reading(heat=9_999.0),
        reading(read_at=START + timedelta(days=300)), reading(colour="red"), reading(heat=32.0),
    )  # fmt: skip

    assert outcome.accepted == 1
    assert [line.split(":")[0] for line in outcome.rejected] == [f"row {n}" for n in range(1, 8)]
    reasons = " | ".join(outcome.rejected)
    for word in ("suite", "heat", "missing column", "read_at", "cannot be known yet", "colour"):
        assert word in reasons
    assert served(plant, moment)["heat"] == 0.0


def test_nothing_from_the_future_blocks_what_comes(plant: Plant) -> None:
    plant.now(START + timedelta(minutes=10))
    assert push(plant, reading(read_at=START + timedelta(hours=9), heat=0.0)).accepted == 0

    moment = START + timedelta(hours=1, minutes=10)
    plant.now(moment)
    assert push(plant, reading(read_at=START + timedelta(hours=1))).accepted == 1
    assert served(plant, moment)["heat"] == 100.0


def test_an_older_observation_never_replaces_a_newer_one(plant: Plant) -> None:
    moment = START + timedelta(hours=2, minutes=10)
    plant.now(moment)
    push(plant, reading(read_at=START + timedelta(hours=2), heat=50.0))

    outcome = push(
        plant, reading(read_at=START + timedelta(hours=1)), reading(read_at=START + timedelta(hours=2), heat=50.0)
    )

    assert outcome.accepted == 2
    assert served(plant, moment)["heat"] == 10.0


def test_no_rows_and_a_source_that_takes_none(plant: Plant) -> None:
    from airworthy.features import push as real

    assert push(plant).accepted == 0
    for source in ("jobs", "weather"):
        with pytest.raises(ConfigurationError, match="push to one of: readings"):
            real(plant.use_case, source, [])


def test_what_was_pushed_is_what_the_table_holds_after_ingest(plant: Plant) -> None:
    """The real way round: push each reading, then land the day's files, ingest, catch up, and compare."""
    from airworthy.features import catch_up, publish
    from airworthy.ingest import ingest_interval

    rows = [json.loads(json.dumps(r, default=datetime.isoformat)) for r in world.readings_of(DAY)]
    online: list[Any] = []
    written = publish.write
    plant.now(Interval.of(DAY).end)
    with pytest.MonkeyPatch.context() as patch:
        from airworthy.features import pushing

        def noted(use_case: Any, view: Any, built: Any) -> None:
            online.extend(built.to_pylist())
            written(use_case, view, built)

        patch.setattr(pushing, "write", noted)
        for row in rows:
            assert push(plant, row).rejected == []

    for source, content in {"readings": rows, "jobs": world.jobs_of(DAY)}.items():
        names = list(content[0])
        lines = [",".join(names), *(",".join(_cell(r[n]) for n in names) for r in content)]
        text = "\n".join(lines) + "\n"
        land(plant.use_case, source, Interval.of(DAY), text.encode(), len(content), Interval.of(DAY).end)
    plant.now(Interval.of(DAY).end + timedelta(hours=2))
    assert ingest_interval(plant.use_case, Interval.of(DAY), run="test").status == "published"
    catch_up(plant.use_case, run="test")

    table = plant.features("reading")
    assert sorted(online, key=lambda r: (r["site"], r["event_timestamp"])) == table
    last = {site: [r for r in table if r["site"] == site][-1] for site in world.SITES}
    moment = Interval.of(DAY).end + timedelta(minutes=5)
    for site in world.SITES:
        if moment - last[site]["event_timestamp"] <= timedelta(hours=3):
            assert served(plant, moment, site) == {n: last[site][n] for n in ("heat", "hot", "alarm", "mode")}


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
