"""A challenger beside the champion in the real service: the split, shadow mode, a broken challenger, the log and the tallies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger import promotions
from airworthy.ledger.tallies import Tally, tallies
from airworthy.monitoring import collect
from airworthy.monitoring.collect import log_table, predictions, table_schemas
from airworthy.records import Release
from airworthy.serving import game_day
from airworthy.serving.champion import REPORT_SECONDS, UNREAD
from ports import free_port

from .test_prediction_api import logged
from .world import NOW, ORDER, Traffic, promote, release, same, service


def trial(case: UseCase, made: Release | None, share: float) -> promotions.Traffic:
    """The next row of the promotion log."""
    present = promotions.traffic(case.name)
    assert present is not None
    action = "abort" if made is None else "canary" if share else "shadow"
    return promotions.try_out(
        case.name, made.digest if made else None, share=share, expected=present, action=action, who="test", why="test",
        data_time=NOW,
    )  # fmt: skip


def wait(true: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.1)


def test_a_trial_from_shadow_to_champion_without_a_failed_request(orders: UseCase, tmp_path: Path) -> None:
    first, second = release(orders, seed=1, version=1), release(orders, seed=2, version=2)
    promote(orders, first)
    ids = [f"o-{n}" for n in range(120)]
    with service(free_port(), tmp_path) as api, httpx.Client(base_url=api.url, timeout=20) as client:
        api.wait_generation(orders, 1, 60)

        def sides() -> dict[str, str]:
            """Who answers each order: the release's version."""
            answers = {i: client.post("/predict", json={**ORDER, "order_id": i}) for i in ids}
            for answer in answers.values():
                (one,) = answer.json()["predictions"]
                assert answer.headers["X-Airworthy-Version"] == one["version"]
                assert f"/why/{one['prediction_id']}>" in answer.headers["Link"]
            return {i: answer.headers["X-Airworthy-Version"][:2] for i, answer in answers.items()}

        with Traffic(api.url, threads=2).running() as traffic:
            # In shadow mode the champion answers everything, and the challenger scores the same, unseen.
            shadow = trial(orders, second, 0)
            api.wait_generation(orders, shadow.generation)
            assert set(sides().values()) == {"v1"}
            wait(lambda: tallies(orders.name, shadow.generation).get("shadow", Tally()).requests > len(ids))
            # With a share it answers that share of the keys, always the same ones; a larger share only adds some.
            small = trial(orders, second, 0.2)
            api.wait_generation(orders, small.generation)
            at_small = sides()
            assert sides() == at_small
            large = trial(orders, second, 0.6)
            api.wait_generation(orders, large.generation)
            at_large = sides()
            kept, grown = ({i for i, v in found.items() if v == "v2"} for found in (at_small, at_large))
            assert 0 < len(kept) < len(grown) < len(ids)
            assert kept < grown
            # Who asks for the champion's version by name gets it, whatever the key; a batch has the answers of both.
            batch = api.post("/predict", {"requests": [{**ORDER, "order_id": i} for i in ids]})
            assert [p["version"][:2] for p in batch.json()["predictions"]] == [at_large[i] for i in ids]
            assert batch.headers["X-Airworthy-Version"].count("v") == 2
            assert "{prediction_id}" in batch.headers["Link-Template"]
            column = [
                {"name": n, "datatype": "BYTES", "shape": [len(ids)], "data": [str(ORDER[n])] * len(ids)} for n in ORDER
            ]
            for tensor in column:
                if tensor["name"] in ("amount", "items"):
                    tensor |= {"datatype": "FP64", "data": [ORDER[tensor["name"]]] * len(ids)}
                if tensor["name"] == "order_id":
                    tensor["data"] = ids
            for path, versions in (("", {"v1", "v2"}), ("/versions/1", {"v1"})):
                answer = api.post(f"/v2/models/tiny_orders{path}/infer", {"inputs": column})
                found = {v[:2] for v in answer.headers["X-Airworthy-Version"].split(", ")}
                assert (answer.status_code, found) == (200, versions), answer.text
            promote(orders, second, expected=first.digest)
            api.wait_generation(orders, large.generation + 1)
            assert set(sides().values()) == {"v2"}
        assert traffic.failures == []
        wait(lambda: tallies(orders.name, large.generation).get("challenger", Tally()).requests > 0)
    check_log(orders, first, second)


def check_log(case: UseCase, first: Release, second: Release) -> None:
    # Every record is its release's own answer, under its role.
    log = list(logged(case).values())
    roles = {(r["role"], r["release"]) for r in log}
    assert roles == {
        ("champion", first.digest), ("shadow", second.digest), ("challenger", second.digest), ("champion", second.digest)
    }  # fmt: skip
    for made in (first, second):
        own = [r for r in log if r["release"] == made.digest]
        same([r["probability"] for r in own], registry.load(made.digest).predict([r["features"] for r in own]))
    # Of a generation the tally counts what the log has.
    for generation in {r["generation"] for r in log}:
        for role, tally in tallies(case.name, generation).items():
            kept = sum(r["generation"] == generation and r["role"] == role for r in log)
            assert 0 < tally.requests - tally.errors <= kept
    # In the table the roles stay; monitoring sees what was answered.
    for table, schema in table_schemas(case).items():
        tables.create(table, schema)
    assert collect(case) == len(log)
    day = Interval.containing(NOW)
    assert set(tables.read(log_table(case), day, day)["role"].to_pylist()) == {"champion", "challenger", "shadow"}
    assert set(predictions(case, day, day)["role"].to_pylist()) == {"champion", "challenger"}
    assert predictions(case, day, day).num_rows == sum(r["role"] != "shadow" for r in log)


def test_what_the_champion_fails_is_counted_once_however_it_was_asked(orders: UseCase, tmp_path: Path) -> None:
    first = release(orders, seed=1, version=1)
    promote(orders, first)
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, 1, 60)
        assert api.post("/predict", ORDER).status_code == 200
        broken = release(orders, seed=2, version=2)
        game_day.plan(broken.digest, "nan")
        try:
            generation = promote(orders, broken, expected=first.digest).generation
            api.wait_generation(orders, generation)
        finally:
            game_day.end()
        batch = {"requests": [{**ORDER, "order_id": f"o-{n}"} for n in range(100)]}
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda n: api.post("/predict", batch if n == 20 else ORDER).status_code, range(40)))
        assert set(found) == {503}
        wait(lambda: tallies(orders.name, generation).get("champion", Tally()).requests >= 139)
        time.sleep(2 * REPORT_SECONDS)
        tally = tallies(orders.name, generation)["champion"]
        assert (tally.requests, tally.errors) == (139, 139)


def test_a_challenger_that_cannot_be_loaded_costs_nobody_an_answer(orders: UseCase, tmp_path: Path) -> None:
    first, second = release(orders, seed=1, version=1), release(orders, seed=2, version=2)
    promote(orders, first)
    scorer = Path(registry.release_folder(second.digest)) / "scorer.json"
    intact = scorer.read_bytes()
    scorer.write_bytes(intact + b" ")
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, 1, 60)
        begun = trial(orders, second, 0.9)
        api.wait_generation(orders, begun.generation)
        # Then the champion answers, and the worker tells why: it is no matter of counts.
        body = {"requests": [{**ORDER, "order_id": f"o-{n}"} for n in range(100)]}
        answer = api.post("/predict", body)
        assert {p["version"][:2] for p in answer.json()["predictions"]} == {"v1"}
        (worker,) = promotions.live_workers(orders.name)
        assert "altered" in str(worker.error)
        assert api.get("/tiny_orders/ready").json()["trial"] == {
            "release": second.digest,
            "share": 0.9,
            "loaded": False,
        }
        assert UNREAD not in str(worker.error)
        wait(lambda: "champion" in tallies(orders.name, begun.generation))
        assert "challenger" not in tallies(orders.name, begun.generation)
        # When it cannot even be read, the worker says so.
        away = scorer.rename(scorer.with_suffix(".away"))
        wait(lambda: UNREAD in str(promotions.live_workers(orders.name)[0].error))
        away.rename(scorer)
        # And it joins by itself when it can be loaded; a service that starts anew does the same.
        scorer.write_bytes(intact)
        wait(lambda: api.get("/tiny_orders/ready").json()["trial"]["loaded"])
        assert "v2" in api.post("/predict", body).headers["X-Airworthy-Version"]
        assert json.loads(api.get("/tiny_orders/ready").text)["reason"] is None
    assert get_settings().spool.exists()
