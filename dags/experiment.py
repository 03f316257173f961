"""Level 0: train a candidate by hand from a form, judge it, and hand it on only if asked to.

The same functions as in production. Flipping labels shows what the gate does with a poisoned training set.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases
from airworthy_training import judge, register


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "experiment", level=0, doc=__doc__),
        schedule=None,
        max_active_runs=1,
        params={
            "flip_labels": Param(
                0.0, type="number", minimum=0, maximum=1, description="Share of training labels to flip"
            ),
            "hand_to_gate": Param(
                False, type="boolean", description="Register the candidate as challenger if it passes"
            ),
        },
    ) as dag:

        @task
        def fit(**context: object) -> object:
            from airworthy.config import get_use_case
            from airworthy.training import build_training_set, data_docs_link
            from airworthy.training import fit as fit_candidate
            from airworthy_tasks import outcomes, report, run_name
            from airworthy_training import mlflow_link

            use_case, share = get_use_case(case.name), float(context["params"]["flip_labels"])  # type: ignore[index]
            with outcomes():
                training_set = build_training_set(use_case, run=run_name())
                candidate = fit_candidate(use_case, training_set, run=run_name(), flip_labels=share)
            links = mlflow_link(candidate) | data_docs_link(training_set)
            return report(candidate, f"candidate {candidate.model_digest[:12]} {candidate.label_note}", links)

        @task.short_circuit
        def handed_over(verdict: dict[str, object], **context: object) -> bool:
            return bool(context["params"]["hand_to_gate"])  # type: ignore[index]

        candidate = fit()
        verdict = judge(case)(candidate, {"causes": {"experiment": {"cause": "experiment"}}})
        handed_over(verdict) >> register(case)(candidate, verdict)
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_experiment"] = build(_case)
