"""Before a backfill, a late file or a correction: say what an ingest of these days would change. Changes nothing.

Give the days in the form; the run's note is the answer in a line, the link of its task the page with all of it: intervals,
feature intervals, online keys, models trained on them (the champion?), predictions made with them.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    first = case.data.first.isoformat()
    with DAG(
        **wiring.dag_arguments(case, "blast_radius", level=1, doc=__doc__),
        schedule=None,
        max_active_runs=1,
        params={
            "first": Param(first, type="string", format="date", description="First interval"),
            "last": Param(first, type="string", format="date", description="Last interval, included"),
        },
    ) as dag:

        @task
        def look(**context: object) -> object:
            from airworthy.config import get_use_case
            from airworthy.intervals import Interval
            from airworthy.monitoring import blast_radius, publish_page
            from airworthy_tasks import outcomes, report

            form, use_case = context["params"], get_use_case(case.name)
            with outcomes():
                radius = blast_radius(use_case, Interval.of(form["first"]), Interval.of(form["last"]))  # type: ignore[index]
            return report(radius, radius.summary, {"Blast radius": publish_page(use_case, radius)})

        look()
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_blast_radius"] = build(_case)
