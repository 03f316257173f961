"""Roll back to a release that really served before: verified that it loads, switched, and verified again."""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "rollback", level=2, doc=__doc__),
        schedule=None,
        max_active_runs=1,
        params={
            "to": Param(
                None,
                type=["null", "string"],
                pattern="^[0-9a-f]{0,64}$",
                description="Digest of the release; empty: the one that served before",
            ),
            "why": Param("", type="string", minLength=3, description="The reason, for the promotion log"),
        },
    ) as dag:

        @task(retries=0)
        def rollback(**context: object) -> object:
            from airworthy.config import get_use_case
            from airworthy.delivery import rollback as rollback_stage
            from airworthy_tasks import outcomes, report, run_name

            form = context["params"]
            with outcomes():
                outcome = rollback_stage(
                    get_use_case(case.name), to=form["to"] or None, who=run_name(), why=form["why"]
                )  # type: ignore[index]
            return report(outcome, f"rolled back to {outcome.to_digest[:12]} in {outcome.seconds:.1f} s")

        rollback()
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_rollback"] = build(_case)
