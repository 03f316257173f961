"""What tasks used, written and summed; attempts told piece by piece. On the real ledger."""

from __future__ import annotations

import multiprocessing
import os

import pytest
from typer.testing import CliRunner

from airworthy.cli import app
from airworthy.config import Settings, get_settings
from airworthy.errors import ConfigurationError
from airworthy.evaluation.run_record import run_record
from airworthy.ledger import attempts, usage
from airworthy.measuring import Usage

RUN = "tiny_orders.train/manual__1"


def task(name: str, run: str = RUN, **changes: object) -> usage.TaskName:
    return usage.TaskName(run=run, dag=run.partition("/")[0], task=name, executor="LocalExecutor", **changes)


def test_a_run_costs_what_its_tasks_used_by_the_rates(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage.record_usage(task("fit", try_number=1), Usage(100.0, 40.0, 2_000_000_000, 0), "error")
    usage.record_usage(task("fit", try_number=2), Usage(1800.0, 1760.0, 4_000_000_000, 3_000_000_000), "done")
    usage.record_usage(task("fit", run="tiny_orders.train/other"), Usage(9.0, 9.0, 9, 9), "done")
    for name, rate in {"CPU_HOUR": "2", "GB_HOUR": "0.5", "GB_WRITTEN": "0.1"}.items():
        monkeypatch.setenv(f"AIRWORTHY_COST_PER_{name}", rate)
    get_settings.cache_clear()

    found = usage.cost(usage.usage_of(RUN))

    # By hand: half a CPU-hour, (2 GB x 100 s + 4 GB x 1800 s) / 3600, three gigabytes.
    assert found.amount == pytest.approx(1800 / 3600 * 2 + (200 + 7200) / 3600 * 0.5 + 3 * 0.1, rel=1e-4)
    assert (found.tasks, found.peak_memory_bytes) == (2, 4_000_000_000)
    record = run_record(RUN)
    assert record["cost"]["amount"] == pytest.approx(found.amount)
    assert sum(step["amount"] for step in record["steps"]) == pytest.approx(found.amount)
    assert [(s["try"], s["outcome"]) for s in record["steps"]] == [(1, "error"), (2, "done")]
    assert record["executor"] == ["LocalExecutor"]
    assert record["started_at"] < record["ended_at"]


def test_a_ledger_that_is_away_fails_no_task(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRWORTHY_LEDGER_DSN", "postgresql+psycopg://postgres@127.0.0.1:1/none")
    get_settings.cache_clear()

    usage.record_usage(task("fit"), Usage(1, 1, 1, 1), "done")  # does not raise


def test_the_commands_show_it(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    usage.record_usage(task("fit"), Usage(2.0, 1.5, 3_000_000_000, 4_000_000), "done")
    usage.record_usage(task("judge"), Usage(1.0, 0.5, 1_000_000_000, 0), "done")

    listed, one, costs = (CliRunner().invoke(app, a).output for a in (["runs"], ["runs", RUN], ["cost"]))

    assert RUN in listed
    assert "judge" in one
    assert "2.0 CPU-s, peak 3.00 GB" in one
    assert "tiny_orders.train" in costs
    assert "EUR a CPU-hour" in costs
    with pytest.raises(ConfigurationError, match="nothing is known of run 'nope'"):
        CliRunner().invoke(app, ["runs", "nope"], catch_exceptions=False)


def _note(number: int) -> None:
    attempts.note_attempt("tiny_orders", RUN, "train", **{f"fact_{number}": number})
    os._exit(0)


def test_facts_of_several_processes_are_all_kept(platform_env: Settings) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_note, args=(n,)) for n in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    attempts.note_attempt("tiny_orders", RUN, "train", fact_0="again")

    assert attempts.attempt_of(RUN).record == {"fact_0": "again", **{f"fact_{n}": n for n in range(1, 8)}}
    assert [row.run for row in attempts.attempts("tiny_orders")] == [RUN]
    assert attempts.attempts("other") == []
