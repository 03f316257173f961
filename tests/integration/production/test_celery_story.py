"""A short story on the production parts: Celery, Redis, PostgreSQL, S3, MLflow, the prediction service.

The commands, variables and health checks are those of docker-compose.yaml; only host names, ports and paths are of
this machine. Nothing is triggered but the backfill: monitor, training and delivery follow by Airflow's own events.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fsspec
import httpx
import pytest
import s3fs
from tiny_orders import world

from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.config.use_case import use_cases
from airworthy.intervals import Interval, days
from airworthy.lake import tables
from airworthy.ledger import promotions
from airworthy.ledger.clock import advance
from airworthy.ledger.commits import decided_intervals
from airworthy.ledger.database import engine
from airworthy.monitoring.collect import log_table
from airworthy.platform.airflow_api import AirflowApi

from . import compose
from .cluster import PASSWORD, Cluster
from .native import eventually

pytestmark = [pytest.mark.production, pytest.mark.timeout(1200)]
FIRST, LAST, DAYS = "2024-01-01", "2024-02-04", 35  # five weeks, Monday to Sunday: a holdout and enough before it
FAMILIES = ("ingest", "monitor", "train", "deliver")


@pytest.fixture(scope="module")
def cluster(postgres_programs: Any, redis_server: str, object_store: int) -> Iterator[Cluster]:
    built = Cluster(postgres_programs, redis_server, object_store, ("tiny_orders", compose.ROOT / "tests/use_cases"))
    patch = pytest.MonkeyPatch()
    try:
        built.up()
        # This test is the outside world and an operator: it uses the settings of a worker.
        for name, value in built.env("airflow-worker").items():
            if name.startswith(("AIRWORTHY_", "AWS_")):
                patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # a client keeps the address that it was made with
        get_settings.cache_clear()
        use_cases.cache_clear()
        yield built
    finally:
        if get_settings().ledger_dsn == built.env("airflow-worker")["AIRWORTHY_LEDGER_DSN"]:
            engine().dispose()
        built.down()
        patch.undo()
        get_settings.cache_clear()
        use_cases.cache_clear()


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[AirflowApi]:
    client = AirflowApi(password="admin-password")
    yield client
    client.close()


@pytest.fixture(scope="module")
def orders(cluster: Cluster) -> UseCase:
    return get_use_case("tiny_orders")


@pytest.fixture(scope="module")
def champion(cluster: Cluster, api: AirflowApi, orders: UseCase) -> promotions.Champion:
    """The story up to the first champion: files land, an operator starts one backfill, the rest follows."""
    story = Story(cluster, api, orders)
    try:
        story.land()
        story.backfill()
        return story.first_champion()
    except AssertionError as error:
        raise AssertionError(f"{error}\n{story.told()}\n{cluster.words()}") from error
    finally:
        print("seconds:", json.dumps(cluster.seconds))  # noqa: T201 - shown with -s, and when the test fails


class Story:
    """The outside world and an operator; each step is bounded in time."""

    def __init__(self, cluster: Cluster, api: AirflowApi, orders: UseCase) -> None:
        self.cluster, self.api, self.orders = cluster, api, orders
        self.keys: list[str] = []

    def land(self) -> None:
        """Files land on object storage, and the replay clock is set behind the last of them."""
        with self.cluster.timed("land"):
            self.keys = world.land_history(self.orders, LAST)
            advance(self.orders, Interval.of(LAST).end + self.orders.sources["orders"].lag)

    def backfill(self) -> None:
        """One native backfill over all days."""
        with self.cluster.timed("backfill"):
            wanted = {f"{self.orders.name}.{family}" for family in FAMILIES}
            eventually(lambda: wanted <= {d["dag_id"] for d in self.api.dags()}, 120, "Airflow knows the DAGs")
            assert self.api.import_errors() == []
            first, last = Interval.of(FIRST).start, Interval.of(LAST).start
            self.api.backfill(f"{self.orders.name}.ingest", first, last, max_active_runs=3)
            eventually(self._published, 420, "every interval of the backfill is decided", every=2)

    def first_champion(self) -> promotions.Champion:
        """Nobody does anything: the monitor asks, training and delivery follow."""
        with self.cluster.timed("monitor, train, deliver"):
            found: promotions.Champion = eventually(self._promoted, 300, "a champion, by Airflow's own events", every=2)
            # Who is champion is decided before every worker of the service has switched; the run ends after that.
            delivered = f"{self.orders.name}.deliver"
            eventually(lambda: self.api.runs(delivered, state="success"), 120, "the delivery ends", every=1)
        return found

    def told(self) -> str:
        """What did not come to a good end, and every note."""
        lines = []
        for family in FAMILIES:
            for run in self.api.runs(f"{self.orders.name}.{family}"):
                tasks = self.api.tasks(run["dag_id"], run["dag_run_id"])
                states = {t["task_id"]: f"{t['state']} (try {t['try_number']})" for t in tasks}
                lines.append(f"{run['dag_run_id']} {run['partition_key']} {run['state']} {states} {run['note']}")
        return "\n".join(lines)

    def _published(self) -> bool:
        self._nothing_failed()
        return set(self.keys) <= set(decided_intervals(self.orders.name))

    def _promoted(self) -> promotions.Champion | None:
        self._nothing_failed()
        return promotions.champion(self.orders.name)

    def _nothing_failed(self) -> None:
        with self.cluster.connect("airflow") as connection:
            failed = connection.execute(
                "SELECT dag_id, run_id, task_id FROM task_instance WHERE state = 'failed'"
            ).fetchall()
        assert not failed, f"failed: {failed}"
        ended = [name for name, program in self.cluster.programs.items() if program.poll() is not None]
        assert not ended, f"ended: {ended}"


def test_the_history_is_published_and_a_champion_follows_by_events(
    champion: promotions.Champion, api: AirflowApi, orders: UseCase
) -> None:
    intervals = {interval.key for interval in days(Interval.of(FIRST), Interval.of(LAST))}
    decided = decided_intervals(orders.name)
    assert {key for key, row in decided.items() if row.status == "published"} == intervals
    runs = [r for r in api.runs(f"{orders.name}.ingest") if r["run_type"] == "backfill"]
    assert {r["partition_key"] for r in runs} == intervals

    (promotion,) = promotions.promotion_log(orders.name)
    assert (promotion.action, promotion.generation, promotion.to_digest) == ("promote", 1, champion.digest)
    assert promotion.why.startswith(f"{orders.name}.deliver/")
    verdict = promotions.get_verdict(str(promotion.verdict_id))
    assert verdict is not None
    assert verdict.decision == "pass"
    # The cron of the use case had asked at once, when there was nothing to train on: that run was skipped.
    runs = [trained(api, orders), *api.runs(f"{orders.name}.deliver", state="success")]
    assert {run["run_type"] for run in runs} == {"asset_triggered"}


def trained(api: AirflowApi, orders: UseCase) -> dict[str, Any]:
    """The one run of ``.train`` that registered a challenger."""
    dag = f"{orders.name}.train"
    (found,) = (
        run
        for run in api.runs(dag, state="success")
        if {"register"} <= {t["task_id"] for t in api.tasks(dag, run["dag_run_id"]) if t["state"] == "success"}
    )
    return found


def test_tasks_ran_on_celery_and_their_logs_can_be_read(
    champion: promotions.Champion, cluster: Cluster, api: AirflowApi, orders: UseCase
) -> None:
    dag = f"{orders.name}.train"
    run = trained(api, orders)["dag_run_id"]
    tasks = api.tasks(dag, run)
    assert {t["task_id"] for t in tasks} == {"claim", "training_set", "trials", "search", "fit", "judge", "register"}
    # The trials of the search were spread over two tasks, and what was best is of all of them.
    assert sorted(t["map_index"] for t in tasks if t["task_id"] == "trials") == [0, 1]
    assert [api.xcom(dag, run, "trials", map_index=n)["done"] for n in (0, 1)] == [2, 2]
    assert api.xcom(dag, run, "search")["trials"] == 4
    assert {(t["state"], t["queue"]) for t in tasks} == {("success", "default")}

    with cluster.connect("airflow") as connection:
        answer = connection.execute("SELECT status, count(*) FROM celery_taskmeta GROUP BY status").fetchall()
    counts = {str(status): int(number) for status, number in answer}
    assert "FAILURE" not in counts
    assert counts["SUCCESS"] >= 2 * DAYS + len(tasks)

    with httpx.Client(base_url=cluster.url(8580), trust_env=False, timeout=30) as client:
        login = {"username": "viewer", "password": "viewer-password"}
        token = client.post("/auth/token", json=login).json()["access_token"]
        logs = client.get(
            f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/fit/logs/1",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
        )
    assert logs.status_code == 200
    assert ": candidate " in logs.text
    assert "Could not read served logs" not in logs.text


def test_everything_is_on_object_storage(champion: promotions.Champion, orders: UseCase, cluster: Cluster) -> None:
    store, _ = fsspec.core.url_to_fs("s3://airworthy", use_listings_cache=False)
    found = [str(path).removeprefix("airworthy/") for path in store.find("airworthy")]

    manifests = [p for p in found if p.startswith(f"landing/{orders.name}/orders/") and p.endswith("/manifest.json")]
    assert len(manifests) == DAYS
    assert [p for p in found if p.startswith(f"lake/{orders.name}/clean/orders/_delta_log/")]
    assert [p for p in found if p.startswith(f"lake/{orders.name}/features/")]
    assert f"releases/releases/{champion.digest}/manifest.json" in found
    assert [p for p in found if p.startswith("mlflow/")]
    assert list(cluster.native.folder.rglob("*.parquet")) == []


def test_predictions_need_the_key_and_reach_the_log(
    champion: promotions.Champion, cluster: Cluster, api: AirflowApi, orders: UseCase
) -> None:
    requests = world.requests_of(LAST)[:5]
    with httpx.Client(base_url=cluster.url(8500), trust_env=False, timeout=30) as client:
        assert client.get("/ready").status_code == 200
        assert client.post("/predict", json=requests[0]).status_code == 401
        assert client.post("/predict", json=requests[0], headers={"X-API-Key": "wrong"}).status_code == 401
        answer = client.post("/predict", json={"requests": requests}, headers={"X-API-Key": PASSWORD})
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    assert len(predictions) == len(requests)
    assert all(0 < p["probability"] < 1 for p in predictions)

    # A worker collects what the service wrote: both must have the same spool folder.
    week = f"{Interval.of(LAST).shift(-6).start:%Y-%m-%d (W%V)}"
    run = api.trigger(f"{orders.name}.monitor", partition_key=week)
    assert api.wait(f"{orders.name}.monitor", run, timeout_s=120)["state"] == "success", cluster.words()
    logged = set(tables.read(log_table(orders))["prediction_id"].to_pylist())
    assert {p["prediction_id"] for p in predictions} <= logged


def test_reports_can_be_read(champion: promotions.Champion, cluster: Cluster, orders: UseCase) -> None:
    with httpx.Client(base_url=cluster.url(8501), trust_env=False, timeout=30) as client:
        assert client.get("/").status_code == 200
        (promotion,) = promotions.promotion_log(orders.name)
        page = client.get(f"/verdicts/{orders.name}/{promotion.verdict_id}.html")
    assert page.status_code == 200, page.text
    assert str(promotion.verdict_id) in page.text or orders.name in page.text


def test_the_settings_are_those_of_the_compose_file(cluster: Cluster) -> None:
    settings: Settings = get_settings()
    assert settings.env == "prod"
    assert settings.lake_url == "s3://airworthy/lake"
    assert str(cluster.ports[5432]) in settings.ledger_dsn
