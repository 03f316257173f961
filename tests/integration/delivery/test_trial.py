"""A challenger on trial over HTTP: a bad one aborts by itself and no client notices; a good one comes through, killed or not."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from airworthy import ingest, registry
from airworthy.config import UseCase
from airworthy.delivery import deliver, rollback
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger import commits, deliveries, promotions
from airworthy.monitoring import collect
from airworthy.monitoring.collect import log_table, table_schemas
from airworthy.records import DeliveryOutcome, Release
from airworthy.serving import game_day
from ports import free_port

from ..serving.world import NOW, ORDER, Service, inputs, promote, release, service  # noqa: TID252 - one small world for both

pytestmark = pytest.mark.timeout(600)


def tuned(orders: UseCase, **changes: Any) -> UseCase:
    """Small steps, so that a trial takes seconds."""
    wanted = {"min_requests": 60, "steps": [0.2, 0.5], "idle_wait_s": 30, "watch_s": 1, "on_inconclusive": "abort"}
    return orders.model_copy(update={"delivery": orders.delivery.model_copy(update=wanted | changes)})


def amount_of(count: int) -> float:
    return 20.0 + count % 80


class Clients:
    """Clients that ask about one order after the other, each with an id of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            count = 0
            while not self._stop.is_set():
                count += 1
                body = {
                    **ORDER,
                    "order_id": f"o-{number}-{count}",
                    "customer": f"c0{count % 10}",
                    "amount": amount_of(count),
                }
                try:
                    answer = client.post("/predict", json=body)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.answers.extend(answer.json()["predictions"])
                else:
                    self.failures.append(f"{answer.status_code} {answer.text[:200]}")
                self._stop.wait(0.005)

    @contextmanager
    def asking(self) -> Iterator[Clients]:
        threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


@pytest.fixture
def api(orders: UseCase, tmp_path: Path) -> Iterator[Service]:
    """A service that answers with a first champion."""
    promote(orders, release(orders, seed=1, version=1))
    with service(free_port(), tmp_path) as running:
        running.wait_generation(orders, 1, 120)
        yield running


def challenger(orders: UseCase, **made: Any) -> Release:
    return release(orders, **{"seed": 2, "version": 2, "against": promotions.champion(orders.name).digest} | made)


def actions(orders: UseCase) -> list[str]:
    return [row.action for row in promotions.promotion_log(orders.name)]


def until(check: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.1)


def aborted(orders: UseCase, api: Service, made: Release) -> DeliveryOutcome:
    """Deliver it under load: it must abort, the champion answer on, and no client notice."""
    champion = promotions.champion(orders.name).digest
    with Clients(api.url).asking() as clients:
        outcome = deliver(orders, run="test")
        clients.answers.clear()
        until(lambda: len(clients.answers) > 20)
    assert clients.failures == []
    assert outcome.status == "aborted", outcome.reason
    assert {a["version"] for a in clients.answers[10:]} == {f"v1-{champion[:12]}"}
    assert promotions.traffic(orders.name).challenger is None
    assert promotions.champion(orders.name).digest == champion
    assert {r.digest: r.state for r in promotions.releases(orders.name)}[made.digest] == "refused"
    return outcome


def test_each_fault_aborts_by_itself_and_no_client_notices(orders: UseCase, api: Service) -> None:
    expected: dict[game_day.Fault, str] = {
        "errors": "errors: ", "nan": "errors: ", "slow": "model time", "crash_at_load": "crashes when it is loaded",
    }  # fmt: skip
    for number, (fault, words) in enumerate(expected.items(), start=2):
        made = challenger(orders, seed=number, version=number)
        game_day.plan(made.digest, fault)
        outcome = aborted(tuned(orders, min_requests=400, longest_wait_s=120), api, made)
        assert words in outcome.reason, (fault, outcome.reason)
        assert outcome.reason.startswith("shadow: "), (fault, outcome.reason)
        game_day.end()


def publish_labels(orders: UseCase, ids: list[str], amounts: list[float]) -> None:
    """The orders as they were counted in the night: dear ones came back."""
    schema = ingest.table_schemas(orders)[orders.table("clean", "orders")]
    tables.create(orders.table("clean", "orders"), schema)
    count, day = len(ids), Interval.containing(NOW)
    values = {
        "order_id": ids, "customer": ["c1"] * count, "channel": ["web"] * count, "amount": amounts, "items": [1] * count,
        "ordered_at": [NOW] * count, "returned": [amount > 60 for amount in amounts], "available_at": [NOW] * count,
    }  # fmt: skip
    rows = pa.table({f.name: pa.array(values[f.name], f.type) for f in schema if f.name != tables.INTERVAL})
    resource = f"{orders.name}/ingest/{day.key}"
    token = commits.claim(resource, "test")
    tables.publish(
        orders.table("clean", "orders"), {day.key: rows}, resource=resource, token=token, inputs={day.key: "x"}
    )


def test_worse_decisions_abort_once_their_labels_are_in(orders: UseCase, api: Service) -> None:
    publish_labels(
        orders, *zip(*[(f"o-{n}-{count}", amount_of(count)) for n in range(2) for count in range(1, 4000)], strict=True)
    )
    made = challenger(orders, flip=True)
    outcome = aborted(tuned(orders, min_requests=2000, steps=[], longest_wait_s=200), api, made)
    assert "costly decisions: " in outcome.reason


def test_a_good_one_comes_through_and_a_rollback_comes_first_while_another_is_tried(
    orders: UseCase, api: Service
) -> None:
    first, second = promotions.champion(orders.name).digest, challenger(orders)
    with Clients(api.url).asking() as clients:
        # When a good one is delivered.
        outcome = deliver(tuned(orders), run="test")
        # Then it went through every step, and its scores were its own.
        assert outcome.status == "done", outcome.reason
        assert actions(orders) == ["promote", "shadow", "canary", "canary", "promote"]
        (delivery,) = deliveries.deliveries(orders.name)
        steps = [m for m in deliveries.moves(delivery.id) if m.from_state in ("shadow", "canary")]
        assert all("scores are the release's own" in m.reason for m in steps)
        assert [m.figures and next(iter(m.figures)) for m in steps] == ["shadow", "canary 20%", "canary 50%"]
        # When it is rolled back, and when the next is on trial and somebody rolls back or forward.
        back = rollback(orders, who="op", why="after the canary")
        assert (back.to_digest, back.seconds < 30) == (first, True)
        third = challenger(orders, seed=3, version=3)
        held = tuned(orders, min_requests=100_000)
        ended: list[DeliveryOutcome] = []
        thread = threading.Thread(target=lambda: ended.append(deliver(held, run="test")))
        thread.start()
        until(lambda: promotions.traffic(orders.name).challenger == third.digest)
        forward = rollback(orders, to=second.digest, who="op", why="during the canary")
        thread.join(60)
        mark = len(clients.answers)
        until(lambda: len(clients.answers) > mark + 20)
    assert forward.seconds < 30
    assert clients.failures == []
    assert (ended[0].status, "rollback by op" in ended[0].reason) == ("stale", True)
    assert promotions.traffic(orders.name) == promotions.Traffic(second.digest, forward.generation)
    assert clients.answers[-1]["version"] == f"v2-{second.digest[:12]}"


@contextmanager
def crowd(url: str, rows: list[dict[str, Any]]) -> Iterator[None]:
    """Eight clients without a pause that give the model's own inputs."""
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            for row in itertools.cycle(rows):
                if stop.is_set():
                    return
                client.post("/invocations", json={"instances": [row]})

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_model_is_not_found_slower_than_itself(orders: UseCase, api: Service) -> None:
    # Given the champion's model once more, which may not be slower at all; no chance to speak of to be aborted by chance.
    made = challenger(orders, seed=1)
    same = tuned(
        orders,
        steps=[0.1, 0.5],
        min_requests=1,
        min_timed=300,
        max_slowdown=1.0,
        max_false_abort=1e-7,
        longest_wait_s=400,
    )
    # When it is tried as a shadow and as a canary, under more requests than can be answered one by one;
    with crowd(api.url, inputs(registry.load(made.digest), 5000)):
        outcome = deliver(same, run="test")
    # then both got their times under the same conditions: it is no slower.
    assert outcome.status == "done", outcome.reason


def workers(orders: UseCase, generation: int, without: set[int]) -> set[int]:
    """Process ids of the live workers that answer with a generation, once there are two but for these."""

    def found() -> set[int]:
        return {w.pid for w in promotions.live_workers(orders.name) if w.generation == generation} - without

    # A busy machine takes most of a minute to start one.
    until(lambda: len(found()) == 2 or promotions.traffic(orders.name).generation != generation, 240)
    assert len(found()) == 2, [m.reason for d in deliveries.deliveries(orders.name) for m in deliveries.moves(d.id)]
    return found()


def kill_while_asked(api: Service, pids: Iterable[int]) -> list[dict[str, Any]]:
    """Kill processes while clients ask; what they were answered."""
    with Clients(api.url).asking() as clients:
        until(lambda: len(clients.answers) > 20)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    return clients.answers


def test_a_service_that_is_killed_during_a_trial_comes_back_to_the_logs_split_and_loses_no_prediction(
    orders: UseCase, tmp_path: Path
) -> None:
    # Given a canary in two workers, which has lasted longer than a worker may take to load.
    promote(orders, release(orders, seed=1, version=1))
    second, ids, port = challenger(orders), [f"o-{n}" for n in range(60)], free_port()
    slow = tuned(
        orders,
        shadow=False,
        steps=[0.3],
        min_requests=200,
        switch_timeout_s=1.0,
        look_s=0.1,
        idle_wait_s=900,
        longest_wait_s=900,
    )
    answers: list[dict[str, Any]] = []
    ended: list[DeliveryOutcome] = []

    def sides(api: Service) -> dict[str, str]:
        """Who answers each order, when a worker or the other is asked; all workers have the trial of the log."""
        found = {}
        for i in ids:
            (one,) = api.post("/predict", {**ORDER, "order_id": i}).json()["predictions"]
            answers.append(one)
            found[i] = one["version"][:2]
        shown = api.get("/tiny_orders/ready").json()["trial"]
        assert shown == {"release": second.digest, "share": 0.3, "loaded": True}
        return found

    with service(port, tmp_path, AIRWORTHY_SERVICE_WORKERS="2") as api:
        first_ones = workers(orders, 1, set())
        delivering = threading.Thread(target=lambda: ended.append(deliver(slow, run="test")), daemon=True)
        delivering.start()
        until(lambda: promotions.traffic(orders.name).challenger == second.digest)
        trial = promotions.traffic(orders.name)
        workers(orders, trial.generation, set())
        before = sides(api)
        assert set(before.values()) == {"v1", "v2"}
        # When a worker is killed, then its successor splits as it did;
        until(lambda: deliveries.waited_s(deliveries.open_delivery(orders.name)) > 2)
        killed = {min(first_ones)}
        answers += kill_while_asked(api, killed)
        present = workers(orders, trial.generation, killed)
        assert sides(api) == before
        # and when all of it is killed, the trial holds until it is there again.
        answers += kill_while_asked(api, {api.process.pid, *present})
        api.process.wait()
    with service(port, tmp_path, AIRWORTHY_SERVICE_WORKERS="2") as api:
        workers(orders, trial.generation, killed | present)
        assert (promotions.traffic(orders.name), deliveries.open_delivery(orders.name).state) == (trial, "canary")
        assert sides(api) == before
        with Clients(api.url).asking() as clients:
            delivering.join(240)
        answers += clients.answers
    # Then it comes to its good end, and every prediction that was answered is in the log once.
    assert [outcome.status for outcome in ended] == ["done"], ended
    assert actions(orders) == ["promote", "canary", "promote"]
    for table, schema in table_schemas(orders).items():
        tables.create(table, schema)
    collect(orders)
    kept = tables.read(log_table(orders), columns=["prediction_id"])["prediction_id"].to_pylist()
    assert len(kept) == len(set(kept))
    assert {answer["prediction_id"] for answer in answers} <= set(kept)


def test_killed_after_every_kind_of_write_it_comes_to_the_same_end(
    orders: UseCase, api: Service, tmp_path: Path
) -> None:
    # Given a delivery whose process is killed again and again.
    made = challenger(orders)
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2] / "use_cases"), str(Path(__file__).parents[2])])
    }  # fmt: skip
    with Clients(api.url).asking():
        done = subprocess.run(
            [sys.executable, str(Path(__file__).parent / "killed.py"), "test", str(tmp_path)], env=environment,
            stdout=subprocess.PIPE, text=True, check=True, timeout=500,
        )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    # Then it was done, every step once, in the order of an undisturbed one.
    assert told["outcome"]["status"] == "done", told
    assert actions(orders) == ["promote", "shadow", *["canary"] * 3, "promote"]
    assert promotions.champion(orders.name).digest == made.digest
    (delivery,) = deliveries.deliveries(orders.name)
    states = [(m.to_state, m.step) for m in deliveries.moves(delivery.id)]
    assert states == [
        ("staging", 0), ("approval", 0), ("shadow", 0), ("canary", 1), ("canary", 2), ("canary", 3), ("promote", 0),
        ("watch", 0), ("done", 0),
    ]  # fmt: skip
    assert {kill.partition(":")[0] for kill in told["kills"]} == {"begin", "move", "note", "try_out", "promote"}
    assert len(told["kills"]) >= 14
