"""The embedded platform, really started: ready, restarted after kill -9, stopped without a trace.

It runs in a folder whose path is too long for a Unix socket, so that what is done about that is always tried.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from tiny_orders import world as shop

from airworthy.config import get_settings
from airworthy.config.use_case import use_cases
from airworthy.errors import ConfigurationError, ServiceUnavailableError
from airworthy.features import feast_repo
from airworthy.lake import landing
from airworthy.ledger.clock import advance
from airworthy.ledger.commits import decided_intervals, newest_commits
from airworthy.ledger.usage import usage_of
from airworthy.platform import postgres, processes
from airworthy.platform.airflow_api import AirflowApi
from airworthy.platform.layout import SOCKET_LIMIT, Layout
from airworthy.platform.programs import PROGRAMS

from ..serving import world  # noqa: TID252 - one small world for both
from .embedded import NAME, Days, Platform, eventually

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    top = Path(tempfile.mkdtemp(prefix="aw", dir="/tmp"))
    folder = top / ("a-folder-with-a-long-name-" * 4)
    folder.mkdir()
    patch = pytest.MonkeyPatch()
    built = Platform(folder)
    for name in [n for n in os.environ if n.startswith("AIRWORTHY_")]:
        patch.delenv(name)
    for name, value in built.environment.items():
        patch.setenv(name, value)
    patch.syspath_prepend(folder)
    get_settings.cache_clear()
    use_cases.cache_clear()
    done = built.run("up")
    if done.returncode:
        built.run("down")
        pytest.fail(done.stdout + done.stderr)
    yield built
    built.run("down")
    feast_repo.close()
    patch.undo()
    get_settings.cache_clear()
    use_cases.cache_clear()
    shutil.rmtree(top, ignore_errors=True)


def test_everything_does_its_work(platform: Platform) -> None:
    # A machine with other work to do may make one of the answers late.
    eventually(lambda: platform.run("status").returncode == 0, 90)
    done = platform.run("status", "--json")

    assert {p["name"] for p in json.loads(done.stdout)} == set(PROGRAMS)
    assert {p["problem"] for p in json.loads(done.stdout)} == {""}


def test_a_long_path_has_its_sockets_elsewhere_and_private(platform: Platform) -> None:
    layout = Layout(platform.settings)

    assert len(str(layout.postgres / ".s.PGSQL.5432")) > SOCKET_LIMIT
    assert platform.settings.socket_dir != layout.postgres
    assert (platform.settings.socket_dir / ".s.PGSQL.5432").stat().st_mode & 0o077 == 0
    assert layout.supervisor_socket.parent.stat().st_mode & 0o077 == 0


def test_databases_and_their_settings(platform: Platform) -> None:
    with postgres.connect(platform.settings.socket_dir) as connection:
        names = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        (connections,) = connection.execute("SHOW max_connections").fetchone() or ("",)
        (addresses,) = connection.execute("SHOW listen_addresses").fetchone() or ("?",)

    assert {"airflow", "mlflow", "feast", "ledger", "online"} <= names
    assert (connections, addresses) == ("200", "")


def test_it_listens_on_this_machine_only(platform: Platform) -> None:
    found = set()
    for process in processes.belonging(platform.settings):
        with suppress(psutil.NoSuchProcess):  # a task of Airflow's that ended meanwhile
            found |= {c.laddr.ip for c in process.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN}

    assert found == {"127.0.0.1"}


def test_a_second_up_says_so_and_starts_nothing(platform: Platform) -> None:
    before = {name: platform.pid(name) for name in PROGRAMS}

    done = platform.run("up")

    assert done.returncode == 0
    assert "is up already" in done.stdout
    assert {name: platform.pid(name) for name in PROGRAMS} == before


def test_migrating_again_changes_nothing(platform: Platform) -> None:
    before = platform.pid("service")

    done = platform.run("migrate")

    assert done.returncode == 0, done.stderr
    assert platform.pid("service") == before


def test_the_doctor_is_content(platform: Platform) -> None:
    findings = {f["subject"]: f for f in json.loads(platform.run("doctor", "--json").stdout)}

    assert findings["ports"]["level"] == findings["pools"]["level"] == findings["leftovers"]["level"] == "ok"
    assert "of all pools in Airflow" in findings["pools"]["words"]


def test_users_have_the_roles_they_should(platform: Platform) -> None:
    viewer, admin = AirflowApi(user="viewer"), AirflowApi()

    assert admin.import_errors() == []
    assert viewer.dags()
    with pytest.raises(ConfigurationError, match="403"):
        viewer.trigger("platform.housekeeping")
    with pytest.raises(ConfigurationError, match="refuses the login"):
        AirflowApi(password="wrong").dags()


def test_a_run_is_triggered_watched_and_noted(platform: Platform) -> None:
    api = AirflowApi()
    eventually(lambda: any(d["dag_id"] == "platform.housekeeping" for d in api.dags()))
    api.unpause("platform.housekeeping")

    run = api.trigger("platform.housekeeping", note="by a test")
    ended = api.wait("platform.housekeeping", run, timeout_s=240)
    api.set_note("platform.housekeeping", run, "seen")

    assert ended["state"] == "success"
    assert {t["state"] for t in api.tasks("platform.housekeeping", run)} <= {"success", "skipped"}
    assert api.run("platform.housekeeping", run)["note"] == "seen"
    assert run in [r["dag_run_id"] for r in api.runs("platform.housekeeping", state="success")]


def test_what_airflow_does_not_know(platform: Platform) -> None:
    api = AirflowApi()

    assert api.runs("no.such_dag") == []
    with pytest.raises(ConfigurationError, match="404"):
        api.trigger("no.such_dag")
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        AirflowApi("http://127.0.0.1:1", patience_s=0).health()


def test_a_scheduled_day_is_waited_for_once_and_taken_when_it_lands(platform: Platform) -> None:
    # Given the schedule's runs of yesterday, of which nothing has landed: the ingest waits in the triggerer.
    shop_days = Days()
    case, api, day = shop_days.case, shop_days.api, shop_days.yesterday
    ingest, score = shop_days.scheduled("ingest"), shop_days.scheduled("score")
    advance(case, day.end + timedelta(hours=1))
    eventually(lambda: shop_days.task(ingest)["state"] == "deferred")

    # When its time is over it fails, with the reason, and is not tried again for another twelve hours. (Not at once: Airflow
    # tries a task again that goes on before the scheduler has heard of its deferral.)
    tried = shop_days.task(ingest)["try_number"]
    over = "UPDATE task_instance SET trigger_timeout = now() + interval '5 s' WHERE run_id = %s AND state = 'deferred' RETURNING dag_id"
    with postgres.connect(platform.settings.socket_dir, "airflow") as connection:
        assert connection.execute(over, (ingest[1],)).fetchall() == [(ingest[0],)]
        connection.commit()
    ended = api.wait(*ingest, timeout_s=300)
    words = "had not landed whole 12 hours after its end; it is taken by .arrivals as soon as it lands"
    assert (ended["state"], ended["note"]) == ("failed", f"{NAME} {day.key}: {words}")
    assert (shop_days.task(ingest)["try_number"], shop_days.task(ingest)["max_tries"]) == (tried, 2)

    # Asked again, with a champion, both wait; the files come, the day is published and then scored.
    assert api.wait(*score, timeout_s=300)["state"] == "failed"  # there was no champion
    world.promote(case, world.release(case, seed=1))
    for run in (score, ingest):
        api.clear(*run)
        eventually(lambda run=run: shop_days.task(run)["state"] == "deferred")
    shop.land_day(case, day.key)
    for run, begins in ((ingest, "published "), (score, f"{shop.ORDERS_A_DAY} rows scored")):
        ended = api.wait(*run, timeout_s=300)
        assert (ended["state"], ended["run_type"]) == ("success", "scheduled"), ended
        assert str(ended["note"]).startswith(begins)
        assert {"deferred", "done"} <= {row.outcome for row in usage_of("/".join(run))}
    assert newest_commits(f"{NAME}/scores/batch")[day.key].rows == newest_commits(f"{NAME}/clean/orders")[day.key].rows


def test_a_refused_day_is_a_red_task_that_leads_to_the_pages_about_it(platform: Platform) -> None:
    shop_days = Days()
    case, api, day = shop_days.case, shop_days.api, shop_days.yesterday.shift(-9)
    rows = [{**row, "amount": row["amount"] * 10_000} for row in shop.orders_of(day.key)]
    landing.land(case, "orders", day, shop.to_csv(rows), len(rows), day.end)

    run = api.trigger(f"{NAME}.ingest", partition_key=day.key)
    ended = api.wait(f"{NAME}.ingest", run, timeout_s=300)

    assert (ended["state"], decided_intervals(NAME)[day.key].status) == ("failed", "rejected")
    for key in ("link_data_docs", "link_profile"):
        page = httpx.get(api.xcom(f"{NAME}.ingest", run, "clean", key), timeout=30, trust_env=False).raise_for_status()
        assert "orders" in page.text


def left_of_an_earlier_life(platform: Platform, program: str) -> list[int]:
    """Pids of a program's processes that were there before its present one started."""
    started, left = psutil.Process(platform.pid(program)).create_time(), []
    for process in processes.belonging(platform.settings, program):
        with suppress(psutil.NoSuchProcess):  # a child that ended meanwhile
            left += [process.pid] if process.create_time() < started else []
    return left


@pytest.mark.parametrize("program", ["service", "scheduler", "api-server", "postgres", "mlflow"])
def test_a_killed_program_comes_back(platform: Platform, program: str) -> None:
    before, server = platform.pid(program), platform.postmaster()

    os.kill(before, signal.SIGKILL)

    eventually(lambda: platform.pid(program) not in (0, before))
    eventually(lambda: not platform.problem(program))
    if program != "postgres":  # whose server is to outlive it
        eventually(lambda: not left_of_an_earlier_life(platform, program))
    assert platform.postmaster() == server


def test_a_killed_postgres_comes_back_with_its_data(platform: Platform) -> None:
    with postgres.connect(platform.settings.socket_dir, "ledger") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    before = platform.postmaster()
    assert before is not None

    os.kill(before, signal.SIGKILL)

    eventually(lambda: platform.postmaster() not in (None, before) and not platform.problem("postgres"))
    with postgres.connect(platform.settings.socket_dir, "ledger") as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
    for program in PROGRAMS:
        eventually(lambda program=program: not platform.problem(program), 300)


def test_up_takes_over_when_the_supervisor_was_killed(platform: Platform) -> None:
    supervisor = processes.alive(Layout(platform.settings).supervisor_pid)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not platform.supervisor.is_running(), 10)

    done = platform.run("up")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "left behind" in done.stdout
    with postgres.connect(platform.settings.socket_dir, "ledger") as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
    assert platform.run("status").returncode == 0


def test_down_leaves_nothing(platform: Platform) -> None:
    socket_dir = platform.settings.socket_dir

    done = platform.run("down")

    assert done.returncode == 0, done.stderr
    assert "left behind" not in done.stdout
    assert processes.belonging(platform.settings) == []
    assert platform.postmaster() is None
    with pytest.raises(psycopg.OperationalError):
        postgres.connect(socket_dir)
    for url in (platform.settings.airflow_url, platform.settings.mlflow_url, platform.settings.service_url):
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
