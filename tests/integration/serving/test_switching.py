"""The service follows the promotion log without a failed request, and keeps the last good release whatever happens."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.errors import StaleVerdictError
from airworthy.features.catalog import catalog
from airworthy.ledger import promotions
from airworthy.ledger.database import transaction
from airworthy.ledger.models import OnlineWatermark
from airworthy.records import Release
from airworthy.serving import spool
from ports import free_port

from .test_prediction_api import logged
from .world import NOW, ORDER, Traffic, promote, release, same, service

REQUESTS = 1500


def test_switch_and_rollback_under_load_without_a_failed_request(orders: UseCase, tmp_path: Path) -> None:
    # Given two workers that serve a champion under continuous load from four clients.
    first, second = release(orders, seed=1, version=1), release(orders, seed=2, version=2)
    promote(orders, first)
    with service(free_port(), tmp_path, AIRWORTHY_SERVICE_WORKERS="2") as api:
        deadline = time.monotonic() + 60
        while len(promotions.live_workers(orders.name)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        api.wait_generation(orders, 1, 60)
        with Traffic(api.url).running() as traffic:
            traffic.wait(REQUESTS // 3)
            # When another becomes champion, and then the first one again.
            promote(orders, second, expected=first.digest)
            api.wait_generation(orders, 2)
            switched = len(traffic.answers)
            traffic.wait(REQUESTS // 3)
            promote(orders, first, expected=second.digest, action="rollback")
            api.wait_generation(orders, 3)
            back = len(traffic.answers)
            traffic.wait(REQUESTS // 3)
        assert {w.digest for w in promotions.live_workers(orders.name)} == {first.digest}
        # And when many hands promote and roll back at once, the workers come to rest on the last row of the log.
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: attempt(orders, first, second), range(64)))
        log = promotions.promotion_log(orders.name)
        assert 3 < len(log) < 3 + 64, "nobody ever lost: they did not race"
        api.wait_generation(orders, log[-1].generation)
        resting = {(w.generation, w.digest) for w in promotions.live_workers(orders.name)}
        assert resting == {(log[-1].generation, log[-1].to_digest)}
        assert len({w.pid for w in promotions.live_workers(orders.name)}) == 2
        # Whichever worker is asked for figures, they are those of both, half a second later at the latest.
        line = f'airworthy_http_answers_total{{route="/predict",status="200"}} {len(traffic.answers)}.0'
        deadline = time.monotonic() + 10
        while line not in (figures := api.get("/metrics").text):
            assert time.monotonic() < deadline, figures
            time.sleep(0.1)

    # Then no request failed, and every answer is its own version's answer, logged as such.
    assert traffic.failures == []
    assert len(traffic.answers) >= REQUESTS
    versions = {1: f"v1-{first.digest[:12]}", 2: f"v2-{second.digest[:12]}", 3: f"v1-{first.digest[:12]}"}
    assert {(a["generation"], a["version"]) for a in traffic.answers} == set(versions.items())
    assert {a["generation"] for a in traffic.answers[switched + 8 : back - 8]} <= {2, 3}
    log = logged(orders)
    for made in (first, second):
        answers = [a for a in traffic.answers if a["version"].endswith(made.digest[:12])]
        expected = registry.load(made.digest).predict([log[a["prediction_id"]]["features"] for a in answers])
        same([a["probability"] for a in answers], expected)
    # And a service that ends in good order leaves no worker behind for anyone to wait for.
    assert promotions.live_workers(orders.name) == []


def attempt(use_case: UseCase, first: Release, second: Release) -> None:
    seen = promotions.champion(use_case.name)
    assert seen is not None
    with suppress(StaleVerdictError):
        promote(use_case, second if seen.digest == first.digest else first, expected=seen.digest)


def test_every_acknowledged_prediction_survives_kill_9(orders: UseCase, tmp_path: Path) -> None:
    champion = promote(orders, release(orders, seed=1))
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, champion.generation, 60)
        with Traffic(api.url).running() as traffic:
            traffic.wait(300)
            api.kill()
    # Then what was acknowledged is in the log, also when the last frame is torn.
    acknowledged = {a["prediction_id"] for a in traffic.answers}
    assert len(acknowledged) >= 300
    (path,) = spool.files(get_settings().spool, orders.name)
    assert not spool.in_use(path)
    with path.open("ab") as file:
        file.write(spool.frame({"prediction_id": "torn"})[:-1])
    assert acknowledged <= set(logged(orders))
    assert "torn" not in logged(orders)


def test_a_tampered_release_is_refused_and_the_old_one_goes_on(orders: UseCase, tmp_path: Path) -> None:
    first, second = release(orders, seed=1), release(orders, seed=2)
    promote(orders, first)
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, 1, 60)
        # Given a release whose scorer was altered after the verdict.
        scorer = Path(registry.release_folder(second.digest)) / "scorer.json"
        intact = scorer.read_bytes()
        scorer.write_bytes(intact + b" ")
        # When it becomes champion.
        promote(orders, second, expected=first.digest)
        assert promotions.wait_for_generation(orders.name, 2, 5), "the worker says that it serves an altered release"
        # Then the old one answers, and the worker tells why.
        (prediction,) = api.post("/predict", ORDER).json()["predictions"]
        assert prediction["version"].endswith(first.digest[:12])
        assert "altered" in api.get("/tiny_orders/ready").json()["reason"]
        (worker,) = promotions.live_workers(orders.name)
        assert worker.digest == first.digest
        assert "altered" in str(worker.error)
        # And when the store is mended, it follows by itself.
        scorer.write_bytes(intact)
        api.wait_generation(orders, 2)
        assert api.get("/ready").json()["use_cases"]["tiny_orders"]["reason"] is None


def test_a_restart_while_ledger_and_store_are_away_serves_the_last_good_release(
    orders: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that has served a champion, and another machine that has not.
    made = release(orders, seed=1)
    promote(orders, made)
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, 1, 60)
        (before,) = api.post("/predict", ORDER).json()["predictions"]
    away = {
        "AIRWORTHY_LEDGER_DSN": f"postgresql+psycopg://postgres@/ledger?host={tmp_path}",
        "AIRWORTHY_RELEASE_URL": str(tmp_path / "nothing"),
    }
    # When both start while ledger and release store are away.
    with service(free_port(), tmp_path, **away) as api:
        ready = api.wait("/ready", 200).json()["use_cases"]["tiny_orders"]
        assert (ready["ledger"], ready["generation"]) == ("away", 1)
        (after,) = api.post("/predict", ORDER).json()["predictions"]
        assert (after["probability"], after["version"]) == (before["probability"], before["version"])
        assert api.get("/model").json()["verdict"] is None
    fresh = {"AIRWORTHY_VAR": str(tmp_path / "fresh"), "AIRWORTHY_SPOOL": str(tmp_path / "fresh" / "spool")}
    with service(free_port(), tmp_path, **away, **fresh) as api:
        # Then the one without a copy says so.
        reason = api.wait("/tiny_orders/ready", 503).json()["reason"]
        deadline = time.monotonic() + 20
        while "ledger does not answer" not in reason and time.monotonic() < deadline:
            time.sleep(0.2)
            reason = api.get("/tiny_orders/ready").json()["reason"]
        assert "ledger does not answer" in reason
        assert "AIRWORTHY_LEDGER_DSN" in api.post("/predict", ORDER).json()["next_step"]
    # And an altered copy is not served.
    copy = get_settings().var / "serving_cache" / orders.name / made.digest / "scorer.json"
    copy.write_bytes(copy.read_bytes() + b" ")
    with service(free_port(), tmp_path, **away) as api:
        deadline = time.monotonic() + 30
        while "altered" not in str(api.get("/tiny_orders/ready").json()["reason"]) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert api.post("/predict", ORDER).status_code == 503


def test_the_copy_on_disk_is_one_release(orders: UseCase, tmp_path: Path) -> None:
    first, second = release(orders, seed=1), release(orders, seed=2)
    promote(orders, first)
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, 1, 60)
        promote(orders, second, expected=first.digest)
        api.wait_generation(orders, 2)
        folder = get_settings().var / "serving_cache" / orders.name
        deadline = time.monotonic() + 10
        while (folder / first.digest).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert sorted(p.name for p in folder.iterdir()) == sorted([second.digest, "champion.json"])
        # Without it nothing is lost but the fall-back.
        shutil.rmtree(folder)
        assert api.post("/predict", ORDER).status_code == 200


def test_a_champion_is_not_fed_with_features_that_it_was_not_trained_on(orders: UseCase, tmp_path: Path) -> None:
    (view,) = catalog(orders).views
    fit = release(orders, seed=1)
    unfit = release(orders, seed=2, version=2, definitions={view.name: "another"})
    promote(orders, fit)
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, 1, 60)
        (answered,) = api.post("/predict", ORDER).json()["predictions"]
        # When a model of other definitions becomes champion, the one that fits goes on.
        promote(orders, unfit, expected=fit.digest)
        assert promotions.wait_for_generation(orders.name, 2, 3)
        assert f"{view.name} changed" in api.get("/tiny_orders/ready").json()["reason"]
        assert api.post("/predict", ORDER).status_code == 200
        promote(orders, fit, expected=unfit.digest, action="rollback")
        api.wait_generation(orders, 3)
        # When values by another definition are published online, it does not answer with them.
        define(view.name, "another")
        api.wait("/ready", 503, 10)
        refused = api.post("/predict", ORDER)
        assert refused.status_code == 503
        assert f"the online values of {view.name} changed" in refused.text
        # And it goes on by itself when they are made by the definition that it knows.
        define(view.name, view.definition)
        api.wait("/ready", 200, 10)
        assert api.post("/predict", ORDER).status_code == 200
    # And the log tells the definitions of each vector.
    entry = logged(orders)[answered["prediction_id"]]
    assert (entry["feature_service"], entry["feature_digest"]) == ("tiny_orders_v1", catalog(orders).digest)


def define(view: str, definition: str) -> None:
    """As publishing does before it writes the first value."""
    with transaction() as session:
        session.merge(OnlineWatermark(view=view, inputs="0", definition=definition, event_time=NOW))
