"""Monitor each complete week of data: skew, drift, quality where labels are in, age, new data; ask for retraining by rule.

Runs once all seven partitions of the week were published. What it decides is a row in the ledger, with its evidence.
"""

from __future__ import annotations

from airflow.sdk import DAG, PartitionedAssetTimetable, RollupMapper, StartOfWeekMapper, TriggerRule, WeekWindow, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    week = RollupMapper(upstream_mapper=StartOfWeekMapper(input_format="%Y-%m-%d"), window=WeekWindow())
    with DAG(
        **wiring.dag_arguments(case, "monitor", level=1, doc=__doc__),
        schedule=PartitionedAssetTimetable(assets=wiring.clean(case), default_partition_mapper=week),
        max_active_runs=1,
    ) as dag:

        @task
        def skew(**context: object) -> object:
            from airworthy.config import get_use_case
            from airworthy.monitoring import skew as skew_stage
            from airworthy_tasks import interval_of, outcomes, report, run_name

            with outcomes():
                last_day = interval_of(context["dag_run"]).shift(6)
                outcome = skew_stage(get_use_case(case.name), last_day, days=7, run=run_name())
            return report(outcome, outcome.reason, outcome.links)

        @task(trigger_rule=TriggerRule.ALL_DONE)
        def monitor(**context: object) -> object:
            from airworthy.config import get_use_case
            from airworthy.monitoring import monitor as monitor_stage
            from airworthy_tasks import fail_with, interval_of, outcomes, report, run_name

            with outcomes():
                last_day = interval_of(context["dag_run"]).shift(6)
                outcome = monitor_stage(get_use_case(case.name), last_day, days=7, run=run_name())
            found = report(outcome, outcome.reason, outcome.links)
            fail_with("skew")
            return found

        skew() >> monitor()
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_monitor"] = build(_case)
