"""Late corrections: whoever joins the past sees it as it was known then, and only what is affected is built again."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from tiny_sensors import world
from tiny_sensors.plant import Plant, plant

from airworthy.intervals import Interval

__all__ = ["plant"]

DAYS = [f"2024-01-{day:02d}" for day in range(1, 10)]
READING, HISTORY, SENSOR = "tiny_sensors_reading", "tiny_sensors_history", "tiny_sensors_sensor"
MOMENT = pa.timestamp("us", "UTC")
Asked = list[tuple[dict[str, Any], datetime]]
# A job as it was known from one moment on until another.
Known = dict[str, list[tuple[datetime, datetime | None, list[dict[str, Any]]]]]


def at(day: int, **after: float) -> datetime:
    return Interval.of(DAYS[day]).start + timedelta(**after)


def joined(plant: Plant, asked: Asked) -> list[dict[str, Any]]:
    """Features by the point-in-time join, as training sees them."""
    from airworthy.features import feature_columns, historical

    return historical(plant.use_case, requests(asked)).select(list(feature_columns(plant.use_case))).to_pylist()


def recomputed(plant: Plant, asked: Asked) -> list[dict[str, Any]]:
    """Features recomputed from the clean tables, as the skew job does."""
    from airworthy.features import recompute

    table = requests(asked)
    return recompute(plant.use_case, table, table["predicted_at"]).to_pylist()


def requests(asked: Asked) -> pa.Table:
    rows = [{"site": "north", "sensor_id": 3, "load": 0.5, "starts_at": m, **r, "predicted_at": m} for r, m in asked]
    kinds = {"site": pa.string(), "sensor_id": pa.int64(), "load": pa.float64(), "starts_at": MOMENT}
    return pa.table({n: pa.array([r[n] for r in rows], t) for n, t in {**kinds, "predicted_at": MOMENT}.items()})


def catch_up(plant: Plant) -> Any:
    from airworthy.features import catch_up as real

    return real(plant.use_case, run="test")


def test_before_a_correction_the_past_is_seen_as_it_was(plant: Plant) -> None:
    plant.now(at(8))
    plant.publish(*DAYS[:6])
    catch_up(plant)
    came = at(5, hours=9)
    asked = [({"site": site}, at(2) + timedelta(hours=h)) for site in world.SITES for h in range(0, 120, 3)]
    before = joined(plant, asked)
    plant.publish_rows("jobs", DAYS[3], world.jobs_of(DAYS[3])[:6], known_at=came)
    plant.publish_rows("readings", DAYS[4], [{**r, "heat": 32.0} for r in world.readings_of(DAYS[4])], known_at=came)

    outcome = catch_up(plant)

    after = joined(plant, asked)
    unchanged = [m < came for _, m in asked]
    assert [a for a, u in zip(after, unchanged, strict=True) if u] == [
        b for b, u in zip(before, unchanged, strict=True) if u
    ]
    assert after != before
    assert recomputed(plant, asked) == after
    assert outcome.built == {READING: 1, HISTORY: 3, SENSOR: 0}
    assert "recomputed 1 intervals of tiny_sensors_reading, 3 intervals of tiny_sensors_history" in outcome.reason


@pytest.mark.parametrize("seed", [1, 3])
def test_every_moment_sees_what_was_known_then(plant: Plant, seed: int) -> None:
    """Corrections at random; the rolling view against a recomputation in plain Python from what was known."""
    rng, known = random.Random(seed), Known()
    plant.now(at(8))
    plant.publish(*DAYS[:6])
    for key in DAYS[:6]:
        known[key] = [(Interval.of(key).end + timedelta(hours=2), None, world.jobs_of(key))]
    moments = sorted(at(2) + timedelta(hours=rng.randrange(120)) for _ in range(4))
    for came in moments:
        key = rng.choice([k for k in DAYS[:6] if known[k][-1][0] < came])
        jobs = rng.sample(world.jobs_of(key), rng.choice([0, 1, 5, 15]))  # nothing is left of a site now and then
        known[key][-1] = (known[key][-1][0], came, known[key][-1][2])
        known[key].append((came, None, jobs))
        plant.publish_rows("jobs", key, jobs, known_at=came)
        if rng.random() < 0.5:
            catch_up(plant)
    catch_up(plant)
    times = [at(0, hours=h) for h in range(20, 190, 5)] + [m + d for m in moments for d in (-SECOND, SECOND * 0)]
    asked = [({"site": site}, moment) for site in world.SITES[:2] for moment in times]

    found = joined(plant, asked)

    expected = [history_then(known, request["site"], moment) for request, moment in asked]
    assert [(row["jobs_3d"], row["failed_share_3d"]) for row in found] == expected
    assert recomputed(plant, asked) == found
    assert len({e[0] for e in expected}) > 4


SECOND = timedelta(seconds=1)


def history_then(known: Known, site: str, moment: datetime) -> tuple[Any, Any]:
    """The rolling view at a moment: of the newest interval of which the site was ever known to have jobs."""
    for key in reversed(DAYS[:6]):
        interval = Interval.of(key)
        if interval.end + timedelta(hours=2) > moment:
            continue
        window = [interval.shift(-n).key for n in range(3)]
        ever = [j for k in window for since, _, jobs in known.get(k, []) if since <= moment for j in jobs]
        if not any(j["site"] == site for j in ever):
            continue
        if moment - interval.end > timedelta(days=4):
            return None, None
        jobs = [
            job
            for k in window
            for since, until, jobs in known.get(k, [])
            if since <= moment and (until is None or moment < until)
            for job in jobs
            if job["site"] == site
        ]
        outcomes = [float(j["failed"]) for j in jobs if j["failed"] is not None]
        share = pytest.approx(sum(outcomes) / len(outcomes)) if outcomes else None
        return (len(jobs), share) if jobs else (None, None)
    return None, None


def test_a_row_that_a_correction_takes_away_is_no_longer_served(plant: Plant) -> None:
    from airworthy.features import OnlineFeatures

    plant.now(at(1, hours=3))
    plant.publish(DAYS[0])
    catch_up(plant)
    asked = {"site": "north", "sensor_id": 3, "load": 0.5, "starts_at": at(1)}
    assert OnlineFeatures(plant.use_case).lookup([asked], at(1, hours=3))[0].values["jobs_3d"] is not None
    elsewhere = [j for j in world.jobs_of(DAYS[0]) if j["site"] != "north"]
    plant.publish_rows("jobs", DAYS[0], elsewhere, known_at=at(1, hours=4))
    plant.now(at(1, hours=4))
    catch_up(plant)

    served = OnlineFeatures(plant.use_case).lookup([asked], at(1, hours=4))[0]

    assert served.values["jobs_3d"] is None
    assert joined(plant, [(asked, at(1, hours=4))])[0] == served.values


def test_an_unaffected_key_stays_known_since_it_was(plant: Plant) -> None:
    """A correction at one site does not make the others' values look younger."""
    plant.publish(*DAYS[:4])
    catch_up(plant)
    north = [{**j, "failed": True} if j["site"] == "north" else j for j in world.jobs_of(DAYS[2])]
    plant.publish_rows("jobs", DAYS[2], north, known_at=at(5))

    catch_up(plant)

    late = [r for r in plant.features("history") if r["available_at"] == at(5)]
    assert {(r["site"], r["interval"]) for r in late} == {("north", DAYS[2]), ("north", DAYS[3])}


def test_ingest_keeps_what_a_corrected_file_replaces(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Landed files through real ingest: the row that changed is kept with both moments; the same file again keeps no more."""
    from tiny_orders import world as shop

    from airworthy import ingest
    from airworthy.config import get_settings, get_use_case, use_cases
    from airworthy.lake import tables
    from airworthy.lake.landing import land
    from airworthy.ledger.clock import advance

    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    get_settings.cache_clear()
    use_cases.cache_clear()
    case, day = get_use_case("tiny_orders"), Interval.of("2024-01-03")
    for name, schema in ingest.table_schemas(case).items():
        tables.create(name, schema)
    shop.land_day(case, day.key)
    known, came = day.end + timedelta(hours=6), day.end + timedelta(days=3)
    advance(case, known)
    ingest.ingest_interval(case, day, run="test")
    rows = shop.orders_of(day.key)
    corrected = [{**rows[0], "amount": 1.5}, *rows[2:]]  # one order changed, one taken away

    advance(case, came)
    land(case, "orders", day, shop.to_csv(corrected), len(corrected), came)
    ingest.ingest_interval(case, day, run="test")
    ingest.ingest_interval(case, day, run="test", again=True)

    kept = tables.read(case.table("superseded", "orders")).sort_by("order_id").to_pylist()
    assert [(r["order_id"], r["amount"], r["available_at"], r["superseded_at"]) for r in kept] == [
        (row["order_id"], row["amount"], known, came) for row in rows[:2]
    ]
    clean = {r["order_id"]: r for r in tables.read(case.table("clean", "orders")).to_pylist()}
    assert (clean[rows[0]["order_id"]]["amount"], clean[rows[0]["order_id"]]["available_at"]) == (1.5, came)
    assert len(clean) == len(corrected)
