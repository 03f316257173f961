"""Operators of one interval: looked for first, waited for only where waiting makes sense."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferralTimeout

from airworthy.config import get_use_case
from airworthy.config.data_spec import SCHEDULE_WAIT
from airworthy.errors import NotLandedError
from airworthy.intervals import Interval
from airworthy_tasks import interval_of, link, note, outcomes, report, run_name
from airworthy_triggers import DecidedIntervalTrigger, LandedIntervalTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger


class _WaitsForInterval(BaseOperator):
    """A scheduled run that waits in the triggerer, where it holds no slot, until a moment that no retry puts off.

    Args:
        use_case: Name of the use case.
        wait: How long after an interval's end a scheduled run waits for it. A backfill never waits.
    """

    gives_up: ClassVar[str]
    """What is said when the time is over."""

    def __init__(self, *, use_case: str, wait: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_case, self.wait = use_case, wait

    def work(self, context: Context) -> dict[str, Any]:
        """What is done once the interval is there; calls ``defer_until`` when it is not."""
        raise NotImplementedError

    def execute(self, context: Context) -> dict[str, Any]:
        """Look first."""
        return self.work(context)

    def look_again(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The trigger saw the interval: its event only wakes."""
        return self.work(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's way back from the triggerer; a time-out there is an end: tried again, it would be waited for again."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            raise self._over(interval_of(context["dag_run"])) from error

    def defer_until(self, trigger: BaseTrigger, interval: Interval, why: str) -> None:
        """Leave the worker until the trigger ends, or fail when the time to wait is over."""
        from airworthy.ingest import time_to_wait

        left = time_to_wait(get_use_case(self.use_case), interval, self.wait)
        if left <= timedelta(0):
            raise self._over(interval)
        self.log.info("%s; waiting, %s at most", why, left)
        self.defer(trigger=trigger, method_name="look_again", timeout=left)

    def _over(self, interval: Interval) -> AirflowFailException:
        hours = self.wait.total_seconds() / 3600
        words = f"{self.use_case} {interval.key}: {self.gives_up.format(hours=f'{hours:g} hours after its end')}"
        note(words)
        return AirflowFailException(words)


class IngestOperator(_WaitsForInterval):
    """Extract, validate and publish one interval.

    Args:
        use_case: Name of the use case.
        interval: The interval's key; None takes the partition key of the run.
        wait: So long after the interval's end a scheduled run waits for its files.
        outlets: The asset of the clean tables, alone; its event carries the interval as partition key.
    """

    template_fields = ("interval",)
    gives_up = "had not landed whole {hours}; it is taken by .arrivals as soon as it lands"

    def __init__(
        self, *, use_case: str, interval: str | None = None, wait: timedelta = SCHEDULE_WAIT, **kwargs: Any
    ) -> None:
        super().__init__(use_case=use_case, wait=wait, **kwargs)
        self.interval = interval

    def work(self, context: Context) -> dict[str, Any]:
        """Publish the interval."""
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
                self.defer_until(LandedIntervalTrigger(self.use_case, interval.key), interval, error.what)
        note(outcome.reason)
        link(outcome.links)
        if outcome.status == "already":
            raise AirflowSkipException(outcome.reason)
        if self.interval:
            # An unpartitioned run names the partition itself, so that the weekly roll-up of the monitor sees it.
            context["outlet_events"][self.outlets[0]].add_partitions([interval.key])
        return outcome.to_json()


class ScoreOperator(_WaitsForInterval):
    """Score one interval by the champion.

    Args:
        use_case: Name of the use case; the interval is the partition key of the run.
        wait: So long after the interval's end a scheduled run waits until it was ingested.
    """

    gives_up = "was not ingested {hours}; run .score with this partition key once it is"

    def __init__(self, *, use_case: str, wait: timedelta = timedelta(hours=24), **kwargs: Any) -> None:
        super().__init__(use_case=use_case, wait=wait, **kwargs)

    def work(self, context: Context) -> dict[str, Any]:
        """Score the interval."""
        from airworthy.serving.batch import score

        run = context["dag_run"]
        with outcomes():
            interval = interval_of(run)
            try:
                outcome = score(get_use_case(self.use_case), interval, run=run_name())
            except NotLandedError as error:
                if run.run_type != "scheduled":
                    raise
                self.defer_until(DecidedIntervalTrigger(self.use_case, interval.key), interval, error.what)
        record = report(outcome, outcome.reason, outcome.links)
        if outcome.status == "already":
            raise AirflowSkipException(outcome.reason)
        return record
