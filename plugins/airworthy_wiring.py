"""What every DAG of the platform shares: its assets, tags, owner and retries."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher, CronPartitionTimetable, CronTriggerTimetable

from airworthy.config import UseCase, get_settings
from airworthy_triggers import LandingWatcher, RequestWatcher

RETRIES = {
    "retries": 2,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
}
# A training waits some ten minutes for a service that is away: what is made once a week should not be lost to a restart.
PATIENT = {"train": 7, "experiment": 7}


def dag_arguments(use_case: UseCase, family: str, *, level: int, doc: str | None) -> dict[str, Any]:
    """Arguments of a DAG: id, owner, tags, documentation, retries."""
    return {
        "dag_id": f"{use_case.name}.{family}",
        "description": (doc or "").strip().splitlines()[0],
        "doc_md": doc,
        "tags": [f"level-{level}", use_case.name],
        "default_args": {"owner": use_case.owner, **RETRIES, "retries": PATIENT.get(family, RETRIES["retries"])},
        "catchup": False,
        "start_date": datetime.combine(use_case.data.first, time(), UTC),
    }


def daily_intervals() -> CronPartitionTimetable:
    """One run for each interval: by schedule, by native backfill, or with a partition key."""
    # At midnight the day before is built: with another hour a backfill would lose its last day.
    return CronPartitionTimetable("0 0 * * *", timezone="UTC", key_format="%Y-%m-%d", run_offset=-1)


def last_schedule(use_case: UseCase) -> datetime:
    """When the schedule of the intervals ends: with the history of a replayed world, else with the last interval."""
    live = use_case.data.live_from
    return datetime.combine(live or use_case.data.last, time(), UTC) + timedelta(days=0 if live else 1)


def _as_uri(url: str) -> str:
    return url if "://" in url else f"file://{url}"


def landing(use_case: UseCase) -> Asset:
    """The landing zone; its watcher wakes ``.arrivals``."""
    return Asset(
        name=f"{use_case.name}/landing",
        uri=f"{_as_uri(get_settings().landing_url)}/{use_case.name}",
        watchers=[AssetWatcher(name="landing", trigger=LandingWatcher(use_case=use_case.name))],
    )


def clean(use_case: UseCase) -> Asset:
    """The clean tables, by partition; only the roll-up of ``.monitor`` hangs on them."""
    return Asset(name=f"{use_case.name}/clean", uri=f"{_as_uri(get_settings().lake_url)}/{use_case.name}/clean")


def retrain_request(use_case: UseCase) -> Asset:
    """Open retraining requests in the ledger; the watcher wakes ``.train``."""
    return Asset(
        name=f"{use_case.name}/retrain-request",
        uri=f"airworthy://ledger/{use_case.name}/retraining_request",
        watchers=[AssetWatcher(name="requests", trigger=RequestWatcher(use_case=use_case.name))],
    )


def challenger(use_case: UseCase) -> Asset:
    """A release that passed the gate; wakes ``.deliver``."""
    return Asset(name=f"{use_case.name}/challenger", uri=f"airworthy://ledger/{use_case.name}/challenger")


def release(use_case: UseCase) -> Asset:
    """The champion that serves."""
    return Asset(name=f"{use_case.name}/release", uri=f"airworthy://ledger/{use_case.name}/release")


def training_schedule(use_case: UseCase) -> Any:
    """What wakes ``.train``: open requests, and the cron of ``training.schedule`` where there is one."""
    requests, cron = [retrain_request(use_case)], use_case.training_schedule
    return (
        AssetOrTimeSchedule(timetable=CronTriggerTimetable(cron, timezone="UTC"), assets=requests) if cron else requests
    )
