"""The prediction API over HTTP: good requests, every kind of bad one, no champion, keys, a full disk, observations."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from airworthy import features, registry
from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.config.use_case import use_cases
from airworthy.features import feast_repo
from airworthy.ledger.clock import advance
from airworthy.serving import spool
from airworthy.serving.contract import MAX_BODY
from airworthy.serving.predictor import Predictor
from airworthy.training.trees import BoostedTrees
from ports import free_port

from . import world
from .world import NOW, ORDER, Service, inputs, promote, release, same, service

BAD_BODIES: list[tuple[bytes, set[str]]] = [
    (b"", {"body"}),
    (b"{", {"body"}),
    (b"null", {"body"}),
    (b"[]", {"body"}),
    (b"\xff\xfe", {"body"}),
    (b"[" * 50_000, {"body"}),
    (b'{"requests": []}', {"requests"}),
    (b'{"requests": [{}]}', {f"requests.0.{name}" for name in ORDER}),
    (json.dumps({**ORDER, "amount": math.nan}).encode(), {"amount"}),
    (json.dumps({**ORDER, "amount": math.inf}).encode(), {"amount"}),
    (json.dumps({**ORDER, "amount": 0}).replace('"amount": 0', '"amount": 1e999').encode(), {"amount"}),
    (json.dumps({**ORDER, "items": 10**400}).encode(), {"items"}),
    (json.dumps({**ORDER, "customer": "x" * 65}).encode(), {"customer"}),
    (json.dumps({**ORDER, "customer": "\ud800"}).encode(), {"customer"}),
    (json.dumps({**ORDER, "colour": "red"}).encode(), {"colour"}),
    (json.dumps({**ORDER, "ordered_at": "0001-01-01T00:00:00+14:00"}).encode(), {"ordered_at"}),
    (json.dumps({k: v for k, v in ORDER.items() if k not in ("amount", "items")}).encode(), {"amount", "items"}),
]


def logged(use_case: UseCase) -> dict[str, dict[str, Any]]:
    """The prediction log's first copy, by prediction id."""
    paths = spool.files(get_settings().spool, use_case.name)
    return {record["prediction_id"]: record for path in paths for record, _ in spool.read(path)}


def test_no_champion_then_answers_then_every_kind_of_bad_input(orders: UseCase, tmp_path: Path) -> None:
    with service(free_port(), tmp_path) as api:
        # Given a service without a champion: it is alive, not ready, and says why and what to do.
        assert api.get("/health").json() == {"status": "alive"}
        for answer in (api.post("/predict", ORDER), api.get("/model"), api.get("/model-card")):
            assert answer.status_code == 503
            assert "no champion" in answer.json()["error"]
            assert "tiny_orders.deliver" in answer.json()["next_step"]
        assert "no release was ever promoted" in api.get("/tiny_orders/ready").json()["reason"]
        assert api.get("/ready").status_code == 503

        # When a release becomes champion.
        made = release(orders, seed=1)
        api.wait_generation(orders, promote(orders, made).generation)
        assert api.get("/ready").status_code == 200

        check_answers(api, orders, made.digest)
        check_bad_bodies(api)
        check_descriptions(api, made.digest)


def check_answers(api: Service, orders: UseCase, digest: str) -> None:
    # Known customer, unknown customer, one by one and as a batch, at the root and under the use case's name.
    stranger = {**ORDER, "customer": "c99"}
    (known,) = api.post("/predict", ORDER).json()["predictions"]
    (unknown,) = api.post("/tiny_orders/predict", stranger).json()["predictions"]
    batch = api.post("/predict", {"requests": [ORDER, stranger] * 500}).json()["predictions"]
    assert known["missing"] == []
    assert unknown["missing"] == ["tiny_orders_customer"]
    assert [b["probability"] for b in batch] == [known["probability"], unknown["probability"]] * 500
    assert known["version"] == f"v1-{digest[:12]}"
    assert (known["generation"], known["threshold"]) == (1, 0.25)
    assert known["decision"] == (known["probability"] >= 0.25)
    # Each is in the log, and is what the model says of the logged vector.
    log = logged(orders)
    answered = [known, unknown, *batch]
    assert {a["prediction_id"] for a in answered} == set(log)
    records = [log[a["prediction_id"]] for a in answered]
    offline = registry.load(digest).predict([r["features"] for r in records])
    same([a["probability"] for a in answered], offline)
    assert records[0]["features"]["returned_share_7d"] == 0.1
    assert records[1]["features"]["returned_share_7d"] is None
    first = records[0]
    assert first["prediction_time"] == NOW.isoformat()
    assert (first["id"], first["request"]) == (
        {"order_id": "o-1"},
        {**ORDER, "ordered_at": "2024-03-11T12:00:00+00:00"},
    )
    assert (first["release"], first["generation"], first["use_case"]) == (digest, 1, "tiny_orders")
    assert first["latency_ms"] > 0


def check_bad_bodies(api: Service) -> None:
    headers = {"Content-Type": "application/json"}
    for body, fields in BAD_BODIES:
        answer = httpx.post(f"{api.url}/predict", content=body, headers=headers, timeout=20)
        assert answer.status_code in (400, 422), (body[:80], answer.text)
        if answer.status_code == 422:
            assert {p["field"] for p in answer.json()["problems"]} == fields, body[:80]
    # Too many, too large, no JSON, other methods and paths: all answered, none with 500.
    assert api.post("/predict", {"requests": [ORDER] * 1001}).status_code == 422
    assert api.post("/predict", {"requests": [{**ORDER, "customer": "x" * 2000}] * 1000}).status_code == 413
    chunked = httpx.post(f"{api.url}/predict", content=iter([b"x" * MAX_BODY, b"x"]), headers=headers, timeout=20)
    assert chunked.status_code == 413
    assert httpx.post(f"{api.url}/predict", content=b"a=b", timeout=20).status_code == 422
    assert api.get("/predict").status_code == 405
    assert api.get("/other_case/predict").status_code == 404
    assert api.post("/observations/orders", {"rows": [{"a": 1}]}).status_code == 404
    assert api.post("/predict", ORDER).status_code == 200
    assert 'status="500"' not in api.get("/metrics").text


def check_descriptions(api: Service, digest: str) -> None:
    model = api.get("/model").json()
    assert (model["release"], model["generation"]) == (digest, 1)
    assert model["verdict"]["decision"] == "pass"
    assert api.get("/model-card").json()["title"] == "Will this order be returned?"
    schema = api.get("/openapi.json").json()
    content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    # The documented examples really work.
    for shown in content["examples"].values():
        assert api.post("/predict", shown["value"]).status_code == 200
    assert set(schema["components"]["schemas"]["tiny_orders_request"]["properties"]) == set(ORDER)
    assert api.get("/docs").status_code == 200
    metrics = api.get("/metrics").text
    assert "airworthy_feature_gaps_total{" in metrics
    assert "airworthy_champion_generation{" in metrics


def test_with_a_key_nothing_is_answered_without_it(orders: UseCase, tmp_path: Path) -> None:
    made = release(orders, seed=1)
    champion = promote(orders, made)
    with service(free_port(), tmp_path, AIRWORTHY_SERVICE_API_KEY="a-secret", AIRWORTHY_SERVICE_WORKERS="1") as api:
        api.wait_generation(orders, champion.generation)
        for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}):
            for path in ("/predict", "/tiny_orders/predict", "/observations/orders"):
                assert api.post(path, ORDER, headers=headers).status_code == 401
        assert api.get("/model").status_code == 401
        assert api.post("/predict", ORDER, headers={"X-API-Key": "a-secret"}).status_code == 200
        assert api.get("/health").status_code == 200
    assert len(logged(orders)) == 1


def test_it_does_not_start_beyond_this_machine_without_a_key(orders: UseCase) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "airworthy.serving"], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(world.TESTS / "use_cases"), "AIRWORTHY_SERVICE_HOST": "0.0.0.0"},
    )  # fmt: skip
    assert run.returncode == 2
    assert "without an API key" in run.stderr


def test_a_full_disk_refuses_predictions_until_there_is_room(orders: UseCase, tmp_path: Path) -> None:
    champion = promote(orders, release(orders, seed=1))
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, champion.generation)
        answered = [api.post("/predict", ORDER).json()["predictions"][0]["prediction_id"]]
        # When the system lets the process write no more.
        pid, full = api.process.pid, 1
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (full, hard))
        refused = api.post("/predict", ORDER)
        # Then nobody gets an answer that is not in the log; and with room again the service goes on.
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert refused.status_code == 503
        assert "prediction log" in refused.json()["error"]
        answered.append(api.post("/predict", ORDER).json()["predictions"][0]["prediction_id"])
    assert set(logged(orders)) == set(answered)


@pytest.fixture
def sensors(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> UseCase:
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_sensors,tiny_orders")
    world.restart_settings()
    use_cases.cache_clear()
    use_case = get_use_case("tiny_sensors")
    features.apply(use_case)
    advance(use_case, NOW.replace(month=2, day=1))
    return use_case


def test_observations_are_online_at_once_and_bad_rows_are_told(sensors: UseCase, tmp_path: Path) -> None:
    good = {"site": "north", "read_at": "2024-02-01T12:00:00Z", "heat": 71.5, "alarm": False, "mode": "auto"}
    with service(free_port(), tmp_path) as api:
        answer = api.post("/tiny_sensors/observations/readings", {"rows": [good, {**good, "read_at": "soon"}]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["accepted"] == 1
        assert "row 2" in answer.json()["rejected"][0]
        # Two use cases: no routes at the root, and only pushed sources take observations.
        assert api.post("/observations/readings", {"rows": [good]}).status_code == 404
        assert "readings" in api.post("/tiny_sensors/observations/jobs", {"rows": [good]}).json()["error"]
        assert api.post("/tiny_orders/observations/orders", {"rows": [good]}).status_code == 404
        for rows in ([], [1], [{"site": [1]}], [{"heat": math.nan}], [{"site": {"a": 1}}]):
            body = json.dumps({"rows": rows})
            headers = {"Content-Type": "application/json"}
            bad = httpx.post(f"{api.url}/tiny_sensors/observations/readings", content=body, headers=headers, timeout=20)
            assert bad.status_code == 422, (rows, bad.text)
    (vector,) = features.OnlineFeatures(sensors).lookup(
        [{"site": "north", "sensor_id": 1, "load": 0.5, "starts_at": NOW.replace(month=2, day=1)}],
        NOW.replace(month=2, day=1),
    )
    assert vector.values["heat"] == pytest.approx((71.5 - 32) / 1.8)  # the source cleans to Celsius
    feast_repo.close()


def test_boosted_trees_are_walked_by_the_compiled_walk(orders: UseCase, monkeypatch: pytest.MonkeyPatch) -> None:
    boosted = {"algorithm": "sklearn.ensemble.HistGradientBoostingClassifier", "parameters": {"max_iter": 5}}
    trees = orders.model_copy(update={"training": orders.training.model_copy(update=boosted)})
    promote(trees, release(trees, seed=1))
    walked: list[int] = []
    walk = BoostedTrees.run
    monkeypatch.setattr(
        BoostedTrees, "run", lambda own, matrix, **more: walked.append(len(matrix)) or walk(own, matrix, **more)
    )
    predictor = Predictor(trees, get_settings())
    predictor.keeper.start()
    try:
        deadline = time.monotonic() + 60
        while predictor.keeper.serving is None:
            assert time.monotonic() < deadline, predictor.why_not()
            time.sleep(0.05)
        walked.clear()
        predictor.serving().model.predict(inputs(predictor.serving().model, 3))
    finally:
        predictor.keeper.stop()
    assert walked == [3]
