"""Daily, on the wall clock: what events may have lost is found in the ledger and put right; old versions go; then a backup."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, CronTriggerTimetable, task

from airworthy.config import use_cases
from airworthy_delivery import wakes

with DAG(
    dag_id="platform.housekeeping",
    description="Reconcile aliases, features and landed intervals with the ledger; back up",
    doc_md=__doc__,
    tags=["platform"],
    default_args={"owner": "platform", "retries": 1},
    schedule=CronTriggerTimetable("30 4 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
):

    @task
    def overdue(name: str) -> object:
        """A dead man's switch: expected intervals that did not land by their deadline in data time."""
        from airworthy.config import get_use_case
        from airworthy.ingest import report_overdue
        from airworthy_tasks import outcomes, report

        with outcomes():
            outcome = report_overdue(get_use_case(name))
        return report(outcome, outcome.reason)

    @task
    def drills() -> object:
        """A dead man's switch: rollback and restore were rehearsed lately, and it went well."""
        from airworthy.platform.drills import check_drills
        from airworthy_tasks import note, outcomes

        with outcomes():
            note(words := check_drills())
        return words

    @task
    def reconcile(name: str) -> object:
        """Aliases and the form of rollbacks follow the promotion log; features catch up; spooled predictions are kept."""
        from airworthy.config import get_use_case
        from airworthy.delivery import offer
        from airworthy.features import catch_up
        from airworthy.monitoring import collect
        from airworthy.registry import reconcile_aliases
        from airworthy.serving.batch import outdated_words
        from airworthy_tasks import outcomes, report, run_name

        use_case = get_use_case(name)
        with outcomes():
            reconcile_aliases(use_case)
            offer(use_case)
            outcome, kept = catch_up(use_case, run=run_name()), f"{collect(use_case)} predictions collected"
        return report(outcome, f"{name} agrees with the ledger; {outcome.reason}; {kept}; {outdated_words(use_case)}")

    @task
    def tidy() -> object:
        """Small files are joined; old versions, releases and training sets that nobody needs are removed."""
        from airworthy.platform.retention import tidy
        from airworthy_tasks import outcomes, report

        with outcomes():
            outcome = tidy()
        gone, joined = sum(outcome.removed.values()), sum(outcome.joined.values())
        releases = f"{len(outcome.releases)} releases and {len(outcome.pipeline)} of the pipeline"
        return report(outcome, f"{gone} files of old versions, {releases} removed, {joined} small files joined")

    @task
    def backup() -> object:
        """Ledger, registries, lake, releases and artifacts, as of one moment."""
        from airworthy.platform.backup import backup
        from airworthy_tasks import note, outcomes

        with outcomes():
            url, made = backup(say=print)
        note(f"{url}: {len(made.files)} files in {made.seconds:.0f} s")
        return {"url": url, "at": made.at.isoformat()}

    names = sorted(use_cases())
    wakes()
    overdue.expand(name=names)
    drills()
    reconcile.expand(name=names) >> tidy() >> backup()
