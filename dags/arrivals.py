"""Ingest what the schedule does not take: late, corrected or unscheduled intervals, as soon as they land.

Woken by the landing watcher. The event only wakes: what is due is read from the landing zone and the ledger. A use case
with a database also looks every hour for rows that changed late.
"""

from __future__ import annotations

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, TriggerRule, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases
from airworthy_operators import IngestOperator


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    landing, hourly = [wiring.landing(case)], CronTriggerTimetable("20 * * * *", timezone="UTC")
    extracted = any(source.sql for source in case.sources.values())
    with DAG(
        **wiring.dag_arguments(case, "arrivals", level=1, doc=__doc__),
        schedule=AssetOrTimeSchedule(timetable=hourly, assets=landing) if extracted else landing,
        max_active_runs=1,
    ) as dag:

        @task
        def reconcile() -> list[str]:
            from airworthy.config import get_use_case
            from airworthy.ingest import arrivals, recheck
            from airworthy_tasks import note, outcomes

            with outcomes():
                recheck(get_use_case(case.name))
                due = [interval.key for interval in arrivals(get_use_case(case.name))]
            note(f"due: {', '.join(due[:10])}" if due else "nothing is due")
            return due

        @task(trigger_rule=TriggerRule.ALL_DONE)  # one interval that was there already must not hold up the others
        def features() -> object:
            from airworthy.config import get_use_case
            from airworthy.features import catch_up
            from airworthy_tasks import fail_with, outcomes, report, run_name

            with outcomes():
                outcome = catch_up(get_use_case(case.name), run=run_name())
            fail_with("clean")
            return report(outcome, outcome.reason, outcome.links)

        clean = IngestOperator.partial(
            task_id="clean", use_case=case.name, outlets=[wiring.clean(case)], max_active_tis_per_dag=2
        )
        clean.expand(interval=reconcile()) >> features()
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_arrivals"] = build(_case)
