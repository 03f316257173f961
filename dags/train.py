"""Train a candidate, judge it against the champion, and register it as challenger if the verdict says so.

Woken by open retraining requests (drift, decay, new data, age) and by the cron of ``training.schedule``: the first task
claims all requests, or skips with the reason (none open, cool-down). By hand, with a reason: no cool-down then.
A search whose budget is above the bound of use_case.yaml (``training.search.tasks_above``) is shared by several tasks;
the outcome is the same.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases
from airworthy_training import judge, register, search, training_set


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
        def fit(training_set: dict[str, object], found: dict[str, object]) -> object:
            from airworthy.config import get_use_case
            from airworthy.records import TrainingSetRef
            from airworthy.training import fit as fit_candidate
            from airworthy.training.estimate import note_search
            from airworthy.training.search import SearchResult
            from airworthy_tasks import outcomes, report, run_name
            from airworthy_training import mlflow_link

            ref, result = TrainingSetRef.model_validate(training_set), SearchResult.model_validate(found)
            with outcomes():
                note_search(get_use_case(case.name), run_name(), "train", result)
                candidate = fit_candidate(get_use_case(case.name), ref, run=run_name(), search=result)
            words = f"candidate {candidate.model_digest[:12]} fitted; {result.reason}"
            return report(candidate, words, mlflow_link(candidate))

        order = claim()
        rows = training_set(case)(order)
        candidate = fit(rows, search(case)(rows))
        verdict = judge(case)(candidate, order)
        register(case)(candidate, verdict)
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_train"] = build(_case)
