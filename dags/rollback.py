"""Roll back to a release that really served before: verified that it loads, switched, and verified again.

The form offers the releases of the promotion log, the newest first; any other that served may be typed in. ``.rollback_drill``
rehearses it each week without touching what serves: a service of its own is switched, under load, to every release that a
rollback may go to, and each has to give its golden answers. A drill that fails, or is overdue, is a red run.
"""

from __future__ import annotations

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases
from airworthy_form import rollback_choices


def build(case: UseCase) -> DAG:
    """The form of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "rollback", level=2, doc=__doc__),
        schedule=None,
        max_active_runs=1,
        params={
            "to": Param(
                None,
                type=["null", "string"],
                pattern="^([0-9a-f]{4,64}( .*)?)?$",
                examples=rollback_choices(case),
                description="Digest of the release; empty: the one that served before",
            ),
            "why": Param("", type="string", minLength=3, description="The reason, for the promotion log"),
        },
    ) as dag:

        @task(retries=0)
        def rollback(**context: object) -> object:
            from airworthy.config import get_use_case
            from airworthy.delivery import rollback as rollback_stage
            from airworthy_tasks import action, actor, report

            form = context["params"]
            to, why = (form["to"] or "").partition(" ")[0], form["why"]  # type: ignore[index]
            with action("rollback", case.name, to or "the one before", why) as act:
                outcome = rollback_stage(get_use_case(case.name), to=to or None, who=actor(), why=why)
                act.outcome = f"{outcome.from_digest[:12]} to {outcome.to_digest[:12]}"
            return report(outcome, f"rolled back to {outcome.to_digest[:12]} in {outcome.seconds:.1f} s")

        rollback()
    return dag


def build_drill(case: UseCase) -> DAG:
    """The weekly rehearsal of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "rollback_drill", level=2, doc=__doc__),
        schedule=CronTriggerTimetable("30 6 * * 0", timezone="UTC"),
        max_active_runs=1,
    ) as dag:

        @task(retries=0)
        def rehearse() -> object:
            from airworthy.config import get_use_case
            from airworthy.delivery import rehearse_rollback
            from airworthy_tasks import outcomes, report

            with outcomes():
                drilled, page = rehearse_rollback(get_use_case(case.name))
            return report(drilled, drilled.words, {"Rollback drill": page})

        rehearse()
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_rollback"] = build(_case)
    globals()[f"{_case.name}_rollback_drill"] = build_drill(_case)
