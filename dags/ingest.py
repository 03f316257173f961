"""Ingest one interval: landed files, validated, published as clean tables; then the features catch up.

Runs daily by partition, by native backfill (give 00:00 UTC bounds), or by REST with a partition key.
"""

from __future__ import annotations

from airflow.sdk import DAG, TriggerRule, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases
from airworthy_operators import IngestOperator


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "ingest", level=1, doc=__doc__),
        schedule=wiring.daily_intervals(),
        end_date=wiring.last_schedule(case),
        max_active_runs=3,
    ) as dag:
        clean = IngestOperator(task_id="clean", use_case=case.name, outlets=[wiring.clean(case)])

        @task(trigger_rule=TriggerRule.ALL_DONE)
        def features() -> object:
            from airflow.sdk.exceptions import AirflowSkipException

            from airworthy.config import get_use_case
            from airworthy.features import catch_up
            from airworthy_tasks import fail_with, link, outcomes, run_name, runs_waiting

            if waiting := runs_waiting():
                fail_with("clean")
                raise AirflowSkipException(
                    f"{waiting} intervals are still queued: a later run catches up for all of them"
                )
            with outcomes():
                outcome = catch_up(get_use_case(case.name), run=run_name())
            link(outcome.links)
            fail_with("clean")
            return outcome.to_json()  # the run's note is what became of the interval

        clean >> features()
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_ingest"] = build(_case)
