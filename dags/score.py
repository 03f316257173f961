"""Score one interval in batch: every row of its clean table, predicted by the champion, as one interval of a Delta table.

Runs daily by partition (it waits until the interval was decided), by native backfill (give 00:00 UTC bounds), or by REST
with a partition key. An interval that was refused at ingest is refused here too.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from airflow.sdk import DAG, CronPartitionTimetable

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases
from airworthy_operators import ScoreOperator


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "score", level=1, doc=__doc__),
        # As .ingest: at midnight the day before.
        schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", key_format="%Y-%m-%d", run_offset=-1),
        end_date=datetime.combine(case.data.live_from or case.data.last, time(), UTC)
        + timedelta(days=0 if case.data.live_from else 1),
        max_active_runs=3,
    ) as dag:
        ScoreOperator(task_id="score", use_case=case.name)
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_score"] = build(_case)
