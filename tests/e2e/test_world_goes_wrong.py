"""After the story: a day lands damaged beside a good one, then is mended. Seen in Airflow, not only in the stage."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from airworthy.config import get_use_case
from airworthy.intervals import Interval
from airworthy.lake import quarantine
from airworthy.lake.landing import data_file, landed, read_bytes, write_file
from airworthy.ledger.clock import advance
from airworthy.ledger.commits import decided_intervals, newest_commits
from airworthy.platform.airflow_api import AirflowApi

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]  # the story takes six minutes, and far more on a busy machine
BAD, GOOD = "2013-02-18", "2013-02-19"


def until(check: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what}: not so after {seconds:.0f} s"
        time.sleep(0.5)


def status(case) -> dict[str, str]:
    return {key: row.status for key, row in decided_intervals(case.name).items()}


def test_a_damaged_day_is_a_red_run_that_says_why_and_holds_no_other_day_up(played):
    from use_cases.flight_delays.replay import World

    case, api = get_use_case("flight_delays"), AirflowApi()
    world, dag = World(case), "flight_delays.arrivals"
    before = {run["dag_run_id"] for run in api.runs(dag)}

    # The upload of one day's flights breaks off in the middle; the day after it is whole.
    for key in (BAD, GOOD):
        world.land_day(key)
    found = landed(case, Interval.of(BAD))
    url = data_file(case, found.manifests["flights"])
    whole = read_bytes(url)
    write_file(url.rsplit("/", 1)[0], url.rsplit("/", 1)[1], whole[: len(whole) // 2])
    advance(case, world.landing_time(GOOD))

    until(lambda: {BAD, GOOD} <= set(status(case)), 120, "both days are decided")
    assert (status(case)[BAD], status(case)[GOOD]) == ("rejected", "published")
    carriers = case.table("features", "flight_delays_carrier")
    until(lambda: GOOD in newest_commits(carriers), 60, "the good day's features are built")
    assert BAD not in newest_commits(case.table("clean", "flights"))
    until(lambda: any(run["state"] == "failed" for run in api.runs(dag)), 60, "the run of the damaged day is red")
    (red,) = [run for run in api.runs(dag) if run["state"] == "failed" and run["dag_run_id"] not in before]
    assert BAD in red["note"]
    assert "flights" in red["note"]
    reason = quarantine.read_reason(case, Interval.of(BAD), found.digest, "flights")
    assert reason["failures"]

    # The upstream sends the same file again, whole: it is taken without anybody's help.
    world.land_day(BAD)
    until(lambda: status(case)[BAD] == "published", 120, "the mended day is published")
    until(lambda: BAD in newest_commits(carriers), 60, "its features are built")
