"""Score one interval in batch: every row of its clean table, predicted by the champion, as one interval of a Delta table.

Runs daily by partition (it waits until the interval was decided), by native backfill (give 00:00 UTC bounds), or by REST
with a partition key. An interval that was refused at ingest is refused here too.
"""

from __future__ import annotations

from airflow.sdk import DAG

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases
from airworthy_operators import ScoreOperator


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "score", level=1, doc=__doc__),
        schedule=wiring.daily_intervals(),
        end_date=wiring.last_schedule(case),
        max_active_runs=3,
    ) as dag:
        ScoreOperator(task_id="score", use_case=case.name)
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_score"] = build(_case)
