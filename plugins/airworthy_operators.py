"""Operators of one interval: looked for first, waited for only where waiting makes sense."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airworthy.config import get_use_case
from airworthy.config.data_spec import SCHEDULE_WAIT
from airworthy.errors import NotLandedError
from airworthy.intervals import Interval
from airworthy_tasks import interval_of, link, note, outcomes, report, run_name
from airworthy_triggers import DecidedIntervalTrigger, LandedIntervalTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class IngestOperator(BaseOperator):
    """Extract, validate and publish one interval.

    Args:
        use_case: Name of the use case.
        interval: The interval's key; None takes the partition key of the run.
        wait: How long a scheduled run waits for files that have not landed. A backfill never waits.
        outlets: The asset of the clean tables, alone; its event carries the interval as partition key.
    """

    template_fields = ("interval",)

    def __init__(
        self, *, use_case: str, interval: str | None = None, wait: timedelta = SCHEDULE_WAIT, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.use_case, self.interval, self.wait = use_case, interval, wait

    def execute(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Publish the interval; also called again when the trigger saw it land."""
        from airworthy.ingest import ingest_interval

        run = context["dag_run"]
        with outcomes():
            interval = Interval.of(self.interval) if self.interval else interval_of(run)
            try:
                outcome = ingest_interval(get_use_case(self.use_case), interval, run=run_name())
            except NotLandedError as error:
                if self.interval or run.run_type != "scheduled":
                    note(error.what)
                    raise AirflowFailException(str(error)) from error
                self.log.info("%s; waiting", error.what)
                self.defer(
                    trigger=LandedIntervalTrigger(use_case=self.use_case, interval=interval.key),
                    method_name="execute", timeout=self.wait,
                )  # fmt: skip
        note(outcome.reason)
        link(outcome.links)
        if outcome.status == "already":
            raise AirflowSkipException(outcome.reason)
        if self.interval:
            # An unpartitioned run names the partition itself, so that the weekly roll-up of the monitor sees it.
            context["outlet_events"][self.outlets[0]].add_partitions([interval.key])
        return outcome.to_json()


class ScoreOperator(BaseOperator):
    """Score one interval by the champion.

    Args:
        use_case: Name of the use case; the interval is the partition key of the run.
        wait: How long a scheduled run waits until the interval was ingested. A backfill never waits.
    """

    def __init__(self, *, use_case: str, wait: timedelta = timedelta(hours=24), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_case, self.wait = use_case, wait

    def execute(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Score the interval; also called again when the trigger saw that it was decided."""
        from airworthy.serving.batch import score

        run = context["dag_run"]
        with outcomes():
            interval = interval_of(run)
            try:
                outcome = score(get_use_case(self.use_case), interval, run=run_name())
            except NotLandedError as error:
                if run.run_type != "scheduled":
                    raise
                self.log.info("%s; waiting", error.what)
                self.defer(
                    trigger=DecidedIntervalTrigger(use_case=self.use_case, interval=interval.key),
                    method_name="execute", timeout=self.wait,
                )  # fmt: skip
        record = report(outcome, outcome.reason, outcome.links)
        if outcome.status == "already":
            raise AirflowSkipException(outcome.reason)
        return record
