"""Deliver the newest challenger: staging checks, then promotion by compare-and-set, then the switch under load.

Woken by the asset ``challenger``. Refused and stale challengers end here with the reason; the champion keeps serving.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, get_settings, use_cases


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "deliver", level=2, doc=__doc__),
        schedule=[wiring.challenger(case)],
        max_active_runs=1,
    ) as dag:

        @task(outlets=[wiring.release(case)])
        def deliver() -> object:
            from airflow.sdk.exceptions import AirflowSkipException

            from airworthy.config import get_use_case
            from airworthy.delivery import deliver as deliver_stage
            from airworthy_tasks import link, note, outcomes, run_name

            with outcomes():
                outcome = deliver_stage(get_use_case(case.name), run=run_name())
            note(f"{outcome.status}: {outcome.reason}")
            link({"Prediction API": f"{get_settings().service_public_url}/docs"})
            if outcome.status != "promoted":
                raise AirflowSkipException(outcome.reason)
            return outcome.to_json()

        deliver()
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_deliver"] = build(_case)
