"""How the demo watches the platform: by its REST API and its ledger, as an operator would, and always with a time-out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from airworthy.config import UseCase
from airworthy.errors import ServiceUnavailableError
from airworthy.intervals import Interval
from airworthy.ledger import deliveries, promotions, requests
from airworthy.ledger.database import transaction
from airworthy.ledger.models import OnlineWatermark, SkewCheck
from airworthy.platform.airflow_api import AirflowApi
from airworthy.platform.load import Load

ENDED = {"success", "failed"}
ROLLING_VIEW = "flight_delays_route"  # published online after all others


def online_until(view: str) -> datetime:
    """Data time up to which a view's values are online."""
    with transaction() as session:
        row = session.get(OnlineWatermark, view)
    return row.event_time if row else datetime.min.replace(tzinfo=UTC)


def skew_found(use_case: str) -> tuple[int, int]:
    """How many served vectors were recomputed, and in how many weeks one of them differed."""
    with transaction() as session:
        rows = session.scalars(select(SkewCheck).where(SkewCheck.use_case == use_case)).all()
    return sum(row.vectors for row in rows), sum(row.violates for row in rows)


def check_load(load: Load, when: str) -> None:
    """Raise when a client noticed anything.

    Raises:
        ServiceUnavailableError: a request failed.
    """
    if load.failed:
        raise ServiceUnavailableError(
            f"{load.failed} requests failed {when}: {load.errors[:2]}", next_step="see `airworthy logs service`"
        )


class Watcher:
    """Waits for what the platform does by itself.

    Args:
        case: The use case.
        api: Airflow's.
        say: Called with a line of progress.

    Attributes:
        questions: What clients ask while a challenger is on trial; None: nobody asks.
        asked_on_trial: How many of those requests were answered.
    """

    def __init__(self, case: UseCase, api: AirflowApi, say: Callable[[str], None]) -> None:
        self.case, self.api, self.say = case, api, say
        self.questions: Callable[[], list[dict[str, Any]]] | None = None
        self.asked_on_trial = 0
        self.load: Load | None = None

    def no_champion(self) -> bool:
        """Whether there is none yet; raises when the first candidate was turned down, since nothing follows then."""
        if promotions.champion(self.case.name):
            return False
        verdicts = promotions.verdicts(self.case.name)
        refused = [row.reason for row in promotions.releases(self.case.name, "refused")]
        if verdicts and verdicts[-1].decision == "refuse":
            refused.append(verdicts[-1].record["summary"])
        if refused:
            raise ServiceUnavailableError(
                f"the first candidate was turned down: {refused[-1]}",
                next_step="see its run in Airflow; `airworthy doctor` says whether this machine is too busy",
            )
        return True

    def wait_for_interval(self, key: str) -> None:
        """The world waits until a landed day is published and its features are online, then for the week's decisions.

        A day takes seconds here, so a training that takes a minute would otherwise take days of data time.
        """
        interval = Interval.of(key)
        self.watch(
            lambda: online_until(ROLLING_VIEW) < interval.end, f"{key} is being ingested", timeout_s=300, quiet=True
        )
        if interval.start.weekday() == 6:  # the week of the monitor ends on Sunday
            monday = interval.shift(-6).key
            self.watch(
                lambda: not self.monitored(monday),
                f"the week of {monday} is being monitored",
                timeout_s=300,
                quiet=True,
            )
            self.settle()

    def monitored(self, monday: str) -> bool:
        """Whether the monitor's run of the week that starts on this Monday has ended."""
        return any(
            (r.get("partition_key") or "").startswith(monday) and r["state"] in ENDED
            for r in self.api.runs(f"{self.case.name}.monitor")
        )

    def settle(self) -> None:
        """Wait until no request is open and no training or delivery runs.

        Meanwhile the world stands still; only while a challenger is on trial clients go on asking, or the trial would see
        nothing.

        Raises:
            ServiceUnavailableError: it takes too long, or a request of these clients failed.
        """

        def busy() -> bool:
            running = [
                r
                for family in ("train", "deliver")
                for r in self.api.runs(f"{self.case.name}.{family}")
                if r["state"] not in ENDED
            ]
            if self.questions and self.on_trial() and self.load is None:
                self.load = clients.enter_context(Load(self.case, questions=self.questions()))
            return bool(
                running or requests.open_requests(self.case.name) or promotions.releases(self.case.name, "challenger")
            )

        with ExitStack() as clients:
            self.watch(
                busy, "a training or a delivery is on its way", timeout_s=900, quiet=True, detail=self.training_state
            )
        if self.load is not None:
            check_load(self.load, "while a challenger was on trial")
            self.asked_on_trial += self.load.answered
            self.load = None

    def on_trial(self) -> bool:
        """Whether a challenger is in shadow or canary."""
        found = deliveries.open_delivery(self.case.name)
        return found is not None and found.state in ("shadow", "canary")

    def training_state(self) -> str:
        """What the newest training or delivery is doing, for progress."""
        for family in ("deliver", "train"):
            for run in self.api.runs(f"{self.case.name}.{family}"):
                if run["state"] not in ENDED:
                    tasks = [
                        t["task_id"]
                        for t in self.api.tasks(f"{self.case.name}.{family}", run["dag_run_id"])
                        if t["state"] == "running"
                    ]
                    return f".{family} {'/'.join(tasks) or run['state']}"
        return ""

    def watch(
        self,
        busy: Callable[[], Any],
        words: str,
        *,
        timeout_s: float,
        quiet: bool = False,
        detail: Callable[[], str] | None = None,
    ) -> None:
        """Wait while ``busy()`` is true, saying so every few seconds.

        Raises:
            ServiceUnavailableError: it is still busy after the time-out.
        """
        start = said = time.monotonic()
        while state := busy():
            now = time.monotonic()
            if now - start > timeout_s:
                raise ServiceUnavailableError(
                    f"{words}: still so after {timeout_s:.0f} s",
                    next_step="look at the runs in Airflow, or `airworthy logs scheduler`",
                )
            if now - said > (20 if quiet else 8):
                said = now
                count = f"{len(state)} " if isinstance(state, (set, list)) else ""
                self.say(f"{count}{words} {detail() if detail else ''}".rstrip())
            time.sleep(0.2 if quiet else 0.5)
