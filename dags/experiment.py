"""Level 0: a candidate by hand from a form: which days, which features, which algorithm, how much search.

What it will take is estimated first, shown in the run's note, and refused when it is above the budget. Then the same
functions as in production: training set, search, fit, and the same gate on the same holdout. Its report and the page of
everything that was tried are linked from the tasks. The candidate becomes a challenger only if asked to, and only if the
verdict is a pass. Flipping labels shows what the gate does with a poisoned training set.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases
from airworthy_form import experiment_params
from airworthy_training import fit_experiment, judge, plan_experiment, register, report_experiment


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "experiment", level=0, doc=__doc__),
        schedule=None,
        max_active_runs=1,
        params=experiment_params(case),
    ) as dag:

        @task.short_circuit
        def handed_over(**context: object) -> bool:
            return bool(context["params"]["hand_to_gate"])  # type: ignore[index]

        planned = plan_experiment(case)()
        candidate = fit_experiment(case)(planned)
        verdict = judge(case)(candidate, planned)
        reported = report_experiment(case)(planned, candidate, verdict)
        reported >> handed_over() >> register(case)(candidate, verdict)
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_experiment"] = build(_case)
