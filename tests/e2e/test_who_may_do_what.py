"""Who may do what, over HTTP on the running platform: each role and each action, and nobody without a login."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from airworthy.config import UseCase, get_settings
from airworthy.config.use_case import use_cases
from airworthy.delivery import again, candidates
from airworthy.errors import PausedError
from airworthy.ledger import audit, promotions, switches
from airworthy.ledger.clock import data_now, wall_now
from airworthy.platform import credentials

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]  # the story takes six minutes, and far more on a busy machine

ROLES = ("viewer", "operator", "approver", "admin")
# Answered without a login: the health of the parts, Airflow's version, the way to log in.
OPEN = ("/api/v2/monitor/health", "/api/v2/version", "/api/v2/auth/login", "/api/v2/auth/logout")
RUN, TRY = "dagRuns/none", "dagRuns/none/taskInstances/none"
EMPTY = {"logical_date": None, "conf": {"why": "", "reason": 5}}  # refused by each form, so that nothing runs
RELEASE = "dags/platform.release/"


def bulk(action: str, *entities: Any) -> dict[str, Any]:
    """A request of Airflow's bulk routes about what there is not, so that nothing changes."""
    return {"actions": [{"action": action, "entities": entities, "action_on_non_existence": "fail"}]}


def runs(*dags: str) -> list[dict[str, Any]]:
    return [{"dag_id": dag, "dag_run_id": "none", "state": "success"} for dag in dags]


# What is asked for, and the least role. The body is such that whoever may ask is told what is wrong with it.
ACTIONS: dict[str, tuple[str, str, Any, str]] = {
    "look at runs": ("GET", "dags/{uc}.train/dagRuns", None, "viewer"),
    "look at a rollback's values": ("GET", "dags/{uc}.rollback/dagRuns/~/taskInstances/~/xcomEntries", None, "viewer"),
    "train": ("POST", "dags/{uc}.train/dagRuns", EMPTY, "operator"),
    "roll back": ("POST", "dags/{uc}.rollback/dagRuns", EMPTY, "operator"),
    "pull the kill switch": ("POST", "dags/platform.pause/dagRuns", EMPTY, "operator"),
    "end a pause": ("POST", "dags/platform.resume/dagRuns", EMPTY, "approver"),
    "release quarantine": ("POST", "dags/{uc}.quarantine/dagRuns", EMPTY, "approver"),
    "release quarantine by clearing": (
        "POST", "dags/{uc}.quarantine/clearTaskInstances", {"dag_run_id": "none", "dry_run": False}, "approver"
    ),
    "backfill": (
        "POST", "backfills", {"dag_id": "{uc}.ingest", "from_date": "then", "to_date": "now"}, "operator"
    ),
    "clear a run": ("POST", "dags/{uc}.ingest/" + RUN + "/clear", {"dry_run": False}, "operator"),
    "write a note": ("PATCH", "dags/{uc}.train/" + RUN, {"note": "x"}, "operator"),
    "switch a DAG on": ("PATCH", "dags/{uc}.train", {"is_paused": False}, "operator"),
    "answer an approval": (
        "PATCH", "dags/{uc}.deliver/" + TRY + "/-1/hitlDetails", {"chosen_options": ["Approve"], "params_input": {}}, "approver"
    ),
    "mark an approval as done": ("PATCH", "dags/{uc}.deliver/" + TRY, {"new_state": "success"}, "approver"),
    "mark a delivery as done": ("PATCH", "dags/{uc}.deliver/" + RUN, {"state": "success"}, "approver"),
    "release the pipeline": (
        "POST", RELEASE + "dagRuns", {"logical_date": None, "conf": {"target": "the moon"}}, "operator"
    ),
    "approve a release of the pipeline": (
        "PATCH", RELEASE + "dagRuns/none/taskInstances/approve/-1/hitlDetails",
        {"chosen_options": ["Approve"], "params_input": {}}, "approver"
    ),
    "mark that approval as done": (
        "PATCH", RELEASE + "dagRuns/none/taskInstances/approve", {"new_state": "success"}, "approver"
    ),
    "mark that release as done": ("PATCH", RELEASE + RUN, {"state": "success"}, "approver"),
    "clear that release": ("POST", RELEASE + RUN + "/clear", {"dry_run": False}, "approver"),
    "clear that release's switch": (
        "POST", RELEASE + "clearTaskInstances", {"dag_run_id": "none", "dry_run": False}, "approver"
    ),
    "delete that release's run": ("DELETE", RELEASE + RUN, None, "admin"),
    "mark runs of several DAGs": (
        "PATCH", "dags/~/dagRuns", bulk("update", *runs("{uc}.ingest", "{uc}.train")), "operator"
    ),
    "mark a delivery among other runs": (
        "PATCH", "dags/~/dagRuns", bulk("update", *runs("{uc}.ingest", "{uc}.deliver")), "approver"
    ),
    "mark a release by another DAG's address": (
        "PATCH", "dags/{uc}.ingest/dagRuns", bulk("update", *runs("platform.release")), "approver"
    ),
    "clear a release among other runs": (
        "POST", "dags/~/clearDagRuns", {"dry_run": False, "dag_runs": runs("{uc}.ingest", "platform.release")}, "approver"
    ),
    "clear a release by another DAG's address": (
        "POST", "dags/{uc}.ingest/clearDagRuns", {"dry_run": False, "dag_runs": runs("platform.release")}, "approver"
    ),
    "delete runs in bulk": ("PATCH", "dags/{uc}.train/dagRuns", bulk("delete", "none"), "admin"),
    "mark tasks of several DAGs": (
        "PATCH", "dags/~/dagRuns/~/taskInstances",
        bulk("update", {"dag_id": "{uc}.ingest", "dag_run_id": "none", "task_id": "none", "new_state": "success"}), "approver"
    ),
    "mark a release's tasks in bulk": (
        "PATCH", RELEASE + "dagRuns/none/taskInstances", bulk("update", {"task_id": "approve", "new_state": "success"}),
        "approver"
    ),
    "change pools in bulk": ("PATCH", "pools", bulk("update", {"name": "none", "slots": 1}), "admin"),
    "change connections in bulk": (
        "PATCH", "connections", bulk("update", {"connection_id": "none", "conn_type": "http"}), "admin"
    ),
    "change variables in bulk": ("PATCH", "variables", bulk("update", {"key": "none", "value": "1"}), "admin"),
    "change a value between tasks": ("POST", "dags/{uc}.deliver/" + TRY + "/xcomEntries", {"key": "k", "value": 1}, "admin"),
    "delete a run": ("DELETE", "dags/{uc}.train/" + RUN, None, "admin"),
    "look at connections": ("GET", "connections", None, "admin"),
    "add a connection": ("POST", "connections", {}, "admin"),
    "look at variables": ("GET", "variables", None, "admin"),
    "add a variable": ("POST", "variables", {}, "admin"),
    "change a pool": ("PATCH", "pools/default_pool", {"slots": "many"}, "admin"),
    "send an event of an asset": ("POST", "assets/events", {}, "admin"),
}  # fmt: skip


@pytest.fixture(scope="module")
def case(played: Any) -> UseCase:
    return next(iter(use_cases().values()))


@pytest.fixture(scope="module")
def people(case: UseCase) -> Iterator[dict[str, httpx.Client]]:
    """A client of each role, logged in."""
    settings = get_settings()
    found = {}
    for role, password in credentials.passwords(settings).items():
        client = httpx.Client(base_url=settings.airflow_url, timeout=60, trust_env=False)
        answer = client.post("/auth/token", json={"username": role, "password": password})
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        found[role] = client
    yield found
    for client in found.values():
        client.close()


def send(client: httpx.Client, method: str, path: str, body: Any, case: UseCase) -> httpx.Response:
    text = json.dumps(body).replace("{uc}", case.name)
    return client.request(
        method, f"/api/v2/{path.format(uc=case.name)}", json=None if body is None else json.loads(text)
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_each_role_may_do_what_it_is_there_for_and_nothing_else(
    people: dict[str, httpx.Client], case: UseCase, action: str
) -> None:
    method, path, body, least = ACTIONS[action]
    for role in ROLES:
        answer = send(people[role], method, path, body, case)
        words = f"{role} is answered with {answer.status_code}: {answer.text[:300]}"
        if ROLES.index(role) < ROLES.index(least):
            assert answer.status_code == 403, words
        else:
            assert answer.status_code not in (401, 403), words
            assert answer.status_code < 500, words


@pytest.mark.parametrize(
    ("dag", "action", "least"),
    [
        ("{uc}.train", "update", "operator"),
        ("platform.release", "update", "approver"),
        ("{uc}.deliver", "update", "approver"),
        ("{uc}.quarantine", "update", "approver"),
        ("{uc}.train", "delete", "admin"),
    ],
)
def test_tasks_in_bulk_are_refused_one_by_one(
    people: dict[str, httpx.Client], case: UseCase, dag: str, action: str, least: str
) -> None:
    """The route is asked about one DAG, and each of its tasks may be of another."""
    task = {"dag_id": dag, "dag_run_id": "none", "task_id": "none"} | (
        {"new_state": "success"} if action == "update" else {}
    )
    for role in ROLES[1:]:
        answer = send(people[role], "PATCH", "dags/{uc}.ingest/dagRuns/none/taskInstances", bulk(action, task), case)
        assert answer.status_code == 200, f"{role}: {answer.text[:300]}"
        found = answer.json()[action]
        refused = ROLES.index(role) < ROLES.index(least)
        assert found["success"] == []
        assert [e["status_code"] for e in found["errors"]] == [403 if refused else 404], f"{role}: {found}"


def test_without_a_login_there_is_nothing(people: dict[str, httpx.Client]) -> None:
    settings, seen, let_in = get_settings(), 0, []
    with httpx.Client(base_url=settings.airflow_url, timeout=60, trust_env=False) as nobody:
        routes = nobody.get("/openapi.json").json()["paths"]
        for headers in ({}, {"Authorization": "Bearer junk"}):
            for path, methods in routes.items():
                for method in methods:
                    place = path.replace("{dag_id}", "platform.pause").replace("{", "").replace("}", "")
                    answer = nobody.request(method.upper(), place, json={}, headers=headers)
                    seen += 1
                    if answer.status_code not in (401, 403) and not place.startswith(OPEN):
                        let_in.append(f"{method} {path}: {answer.status_code}")
        assert nobody.post("/auth/token", json={"username": "admin", "password": "admin"}).status_code == 401
        assert nobody.get("/auth/token").status_code == 403  # what Airflow has for a platform without logins
        # What tasks talk to needs a task's token; a person's is none.
        for headers in ({}, {"Authorization": people["admin"].headers["Authorization"]}):
            assert nobody.get("/execution/variables/x", headers=headers).status_code in (401, 403)
    assert let_in == []
    assert seen > 200


def finished(client: httpx.Client, dag: str, conf: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Send a form off; the run when it has ended."""
    answer = client.post(f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf, **more})
    assert answer.status_code == 200, answer.text
    return ended(client, dag, answer.json()["dag_run_id"])


def ended(client: httpx.Client, dag: str, run: str, seconds: float = 240) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        found = client.get(f"/api/v2/dags/{dag}/dagRuns/{run}").json()
        # The note comes a moment after the end.
        if found["state"] in ("success", "failed") and (found["note"] or time.monotonic() > deadline - seconds + 30):
            return dict(found)
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


def newest(case: UseCase, action: str) -> Any:
    return [row for row in audit.actions(case.name) if row.action == action][-1]


def test_the_kill_switch_is_pulled_by_an_operator_and_ended_by_an_approver(
    people: dict[str, httpx.Client], case: UseCase
) -> None:
    # When an operator pulls it by the form.
    run = finished(people["operator"], "platform.pause", {"use_case": case.name, "why": "the pager rings"})

    # Then promotions are refused, and it is known who did it.
    assert (run["state"], run["note"]) == ("success", "paused by operator: the pager rings")
    present = promotions.traffic(case.name)
    assert present is not None
    with pytest.raises(PausedError, match="paused by operator"):
        promotions.try_out(
            case.name, present.champion, share=0.0, expected=present, action="shadow", who="test", why="test",
            data_time=data_now(case),
        )  # fmt: skip
    # And an approver ends it.
    run = finished(people["approver"], "platform.resume", {"use_case": case.name, "why": "mended"})
    assert (run["state"], switches.paused(case.name)) == ("success", None)
    assert (newest(case, "pause").who, newest(case, "resume").who) == ("operator", "approver")


@pytest.fixture(scope="module")
def way_back(people: dict[str, httpx.Client], case: UseCase) -> None:
    """A release to go back to: what the story's game day had aborted is delivered once more, in good order."""
    if not candidates(case):
        again(case, promotions.releases(case.name, "refused")[-1].digest, why="the game day is over")
        run = finished(people["operator"], f"{case.name}.deliver", {})
        assert candidates(case), run["note"]


@pytest.mark.usefixtures("way_back")
def test_a_rollback_by_the_form_is_one_row_in_the_name_of_who_sent_it_off_and_is_never_repeated(
    people: dict[str, httpx.Client], case: UseCase
) -> None:
    dag = f"{case.name}.rollback"
    before = promotions.champion(case.name)
    assert before is not None
    # The form offers what served before, with the words that a person chooses by.
    deadline = time.monotonic() + 120  # until the DAG processor has read the file
    wanted = candidates(case)[0].digest[:12]
    while not (
        offered := [
            words
            for words in people["viewer"]
            .get(f"/api/v2/dags/{dag}/details")
            .json()["params"]["to"]["schema"]["examples"]
            if words.startswith(wanted)
        ]
    ):
        assert time.monotonic() < deadline, f"the form does not offer {wanted}"
        time.sleep(1)
    (chosen,) = offered

    # When an operator chooses one of them.
    run = finished(people["operator"], dag, {"to": chosen, "why": "it flags everyone"})
    assert run["state"] == "success", run["note"]
    last = promotions.changes(case.name)[-1]
    assert (last.who, last.action, last.to_digest[:12]) == ("operator", "rollback", chosen[:12])
    row = newest(case, "rollback")
    assert (row.who, row.via, row.why) == ("operator", "airflow", "it flags everyone")
    assert row.outcome == f"{before.digest[:12]} to {chosen[:12]}"

    # When an approver clears that run, then nothing is done a second time in the operator's name.
    cleared = people["approver"].post(f"/api/v2/dags/{dag}/dagRuns/{run['dag_run_id']}/clear", json={"dry_run": False})
    assert cleared.status_code == 200, cleared.text
    cleared_run = ended(people["approver"], dag, run["dag_run_id"])
    assert "not repeated" in cleared_run["note"], cleared_run
    assert promotions.changes(case.name)[-1].generation == last.generation

    # And back to where it was, so that what follows finds the champion that it knows.
    finished(people["operator"], dag, {"to": before.digest[:12], "why": "the drill is over"})
    assert promotions.champion(case.name).digest == before.digest  # type: ignore[union-attr]


def test_the_rehearsal_runs_in_airflow_and_its_page_is_linked(people: dict[str, httpx.Client], case: UseCase) -> None:
    dag = f"{case.name}.rollback_drill"
    run = finished(people["operator"], dag, {})
    assert run["state"] == "success", run["note"]
    assert "can take over" in run["note"]
    links = people["viewer"].get(f"/api/v2/dags/{dag}/dagRuns/{run['dag_run_id']}/taskInstances/rehearse/links").json()
    page = links["extra_links"]["Rollback drill"]
    assert "fit" in httpx.get(page, trust_env=False).text
    row = newest(case, "rollback_drill")
    assert (row.who, row.outcome) == ("operator", "started")


def test_quarantine_is_released_by_the_form_of_approvers(people: dict[str, httpx.Client], case: UseCase) -> None:
    from airworthy.ingest import entries

    day = next(e.interval for e in entries(case, None, None, None) if e.rows)
    run = finished(people["approver"], f"{case.name}.quarantine", {"interval": day, "why": "the rule was looked at"})

    # By the same rules the same rows stay; that somebody asked is kept.
    assert run["state"] == "success", run["note"]
    row = newest(case, "release quarantine")
    assert (row.who, row.subject, row.outcome) == ("approver", day, "kept")


def test_what_was_done_is_shown_by_the_command(people: dict[str, httpx.Client], case: UseCase) -> None:
    from typer.testing import CliRunner

    from airworthy.cli import app

    shown = CliRunner().invoke(app, ["audit", case.name, "--since", f"{wall_now():%Y-%m-%d}"], env={"COLUMNS": "250"})
    assert shown.exit_code == 0
    for word in ("operator", "approver", "rollback", "pause", "release quarantine", "it flags everyone"):
        assert word in shown.output
