"""Counts of a trial's roles, summed over the workers that report them."""

from __future__ import annotations

import pytest

from airworthy.config import Settings
from airworthy.ledger import promotions, tallies
from airworthy.ledger.tallies import BUCKETS_MS, Tally, bucket, report_tally


def times(**counts: int) -> tuple[int, ...]:
    found = [0] * (len(BUCKETS_MS) + 1)
    for name, count in counts.items():
        found[int(name[1:])] = count
    return tuple(found)


def test_tallies_are_cumulative_for_a_process_and_summed_over_processes(
    platform_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that reports twice, another one, and the first one's successor with the same name and process id.
    report_tally("a", 7, "orders", 2, "challenger", Tally(10, 1, times(_3=9)))
    report_tally("a", 7, "orders", 2, "challenger", Tally(30, 2, times(_3=20, _4=8)))
    report_tally("b", 8, "orders", 2, "challenger", Tally(5, 0, times(_4=5)))
    report_tally("b", 8, "orders", 2, "champion", Tally(70, 0, times(_1=70)))
    monkeypatch.setattr(tallies, "PROCESS", "restarted")
    report_tally("a", 7, "orders", 2, "challenger", Tally(1, 1))
    # And counts of another generation and another use case.
    report_tally("a", 7, "orders", 1, "champion", Tally(1000))
    report_tally("a", 7, "flights", 2, "champion", Tally(1000))
    # Then the last word of each process counts, and the processes are summed.
    assert tallies.tallies("orders", 2) == {
        "challenger": Tally(36, 3, times(_3=20, _4=13)), "champion": Tally(70, 0, times(_1=70))
    }  # fmt: skip
    assert tallies.tallies("orders", 3) == {}


def test_workers_that_share_instance_and_process_id_are_two(
    platform_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two containers in which the service has the same name and the same process id.
    said = {"one": (3, None), "other": (2, "it cannot")}
    for process, (generation, error) in said.items():
        monkeypatch.setattr(promotions, "PROCESS", process)
        promotions.report_worker("local", 1, "orders", generation, "d", error)
    # Then neither writes over the other, and a switch waits for both.
    assert {w.process: (w.generation, w.error) for w in promotions.live_workers("orders")} == said
    assert [w.process for w in promotions.wait_for_generation("orders", 3, 0)] == ["other"]
    promotions.retire_worker("local", 1)
    assert [w.process for w in promotions.live_workers("orders")] == ["one"]


def test_a_time_is_counted_in_the_first_bucket_whose_bound_it_does_not_exceed() -> None:
    assert [bucket(ms) for ms in (0, 0.01, 0.011, 10_000, 10_001)] == [0, 0, 1, len(BUCKETS_MS) - 1, len(BUCKETS_MS)]
