"""Release an interval's quarantine: it is judged again by today's rules, and what passes is published as a correction.

For when a rule was wrong and has been corrected. Nothing is waved through, and who asked and why is kept. Approvers only.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "quarantine", level=1, doc=__doc__),
        schedule=None,
        max_active_runs=1,
        params={
            "interval": Param(case.data.first.isoformat(), type="string", format="date", description="The interval"),
            "why": Param("", type="string", minLength=3, description="What was corrected; kept with your name"),
        },
    ) as dag:

        @task(retries=0, outlets=[wiring.clean(case)])
        def release(**context: object) -> object:
            from airworthy.config import get_use_case
            from airworthy.ingest import release as release_stage
            from airworthy.intervals import Interval
            from airworthy_tasks import action, actor, report

            form, events = context["params"], context["outlet_events"]
            day, why = form["interval"], form["why"]  # type: ignore[index]
            with action("release quarantine", case.name, day, why) as act:
                outcome = release_stage(get_use_case(case.name), Interval.of(day), who=actor(), why=why)
                act.outcome = outcome.status
            if outcome.status == "released":
                events[wiring.clean(case)].add_partitions([day])  # type: ignore[index]
            return report(outcome, f"{day}: {outcome.status}")

        @task
        def features() -> object:
            from airworthy.config import get_use_case
            from airworthy.features import catch_up
            from airworthy_tasks import outcomes, report, run_name

            with outcomes():
                outcome = catch_up(get_use_case(case.name), run=run_name())
            return report(outcome, outcome.reason, outcome.links)

        release() >> features()
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_quarantine"] = build(_case)
