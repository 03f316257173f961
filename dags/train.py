"""Train a candidate, judge it against the champion, and register it as challenger if the verdict says so.

Woken by open retraining requests (drift, decay, new data, age) and by the cron of ``training.schedule``: the first task
claims all requests, or skips with the reason (none open, cool-down). By hand, with a reason: no cool-down then.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases
from airworthy_training import judge, register


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "train", level=1, doc=__doc__),
        schedule=wiring.training_schedule(case),
        max_active_runs=1,
        params={
            "reason": Param(
                "asked for by hand", type="string", description="Why, when triggered by hand: kept with the verdict"
            )
        },
    ) as dag:

        @task
        def claim(**context: object) -> object:
            from airflow.sdk.exceptions import AirflowSkipException

            from airworthy.config import get_use_case
            from airworthy.training.orders import claim_order
            from airworthy_tasks import note, outcomes, report, run_name

            kind = context["dag_run"].run_type  # type: ignore[attr-defined]
            reason = str(context["params"]["reason"]) if kind == "manual" else None  # type: ignore[index]
            with outcomes():
                order = claim_order(
                    get_use_case(case.name), run=run_name(), on_demand=reason, scheduled=kind == "scheduled"
                )
            if order.skip:
                note(f"nothing trained: {order.skip}")
                raise AirflowSkipException(order.skip)
            return report(order, f"training asked for by {order.words}")

        @task(execution_timeout=None)
        def fit(order: dict[str, object]) -> object:
            from airworthy.config import get_use_case
            from airworthy.training import build_training_set, data_docs_link
            from airworthy.training import fit as fit_candidate
            from airworthy_tasks import outcomes, report, run_name
            from airworthy_training import mlflow_link

            use_case = get_use_case(case.name)
            with outcomes():
                training_set = build_training_set(use_case, run=run_name())
                candidate = fit_candidate(use_case, training_set, run=run_name())
            links = mlflow_link(candidate) | data_docs_link(training_set)
            return report(candidate, f"candidate {candidate.model_digest[:12]} fitted", links)

        order = claim()
        candidate = fit(order)
        verdict = judge(case)(candidate, order)
        register(case)(candidate, verdict)
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_train"] = build(_case)
