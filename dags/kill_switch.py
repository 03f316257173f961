"""The kill switch: ``platform.pause`` stops every promotion, shadow and canary, ``platform.resume`` lets them go on.

The way back stays open: a rollback and the abort of a trial work while it is pulled. Operators pull it, approvers end it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, Param, task

from airworthy.config import use_cases
from airworthy_delivery import wakes

EVERY = "*"


def build(act: str, words: str) -> DAG:
    """The form that pulls the switch (``pause``), or the one that ends it (``resume``)."""
    with DAG(
        dag_id=f"platform.{act}",
        description=words,
        doc_md=__doc__,
        tags=["platform", "level-2"],
        default_args={"owner": "platform", "retries": 0},
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_runs=1,
        params={
            "use_case": Param(EVERY, enum=[EVERY, *sorted(use_cases())], description="Which use case; * is every one"),
            "why": Param("", type="string", minLength=3, description="The reason; kept with your name"),
        },
    ) as dag:

        @task(task_id=act)
        def switch(**context: object) -> str:
            from airworthy.ledger import switches
            from airworthy_tasks import actor, note, outcomes

            form = context["params"]
            name, why = form["use_case"], form["why"]  # type: ignore[index]
            with outcomes():
                if act == "pause":
                    found = switches.pause(name, actor(), why, "airflow")
                    said = f"paused by {found.who}: {found.why}"
                else:
                    held = switches.resume(name, actor(), why, "airflow")
                    said = f"still paused with every use case by {held.who}" if held else "promotions go on"
            note(said)
            return said

        if act == "pause":
            switch()
        else:  # what waited meanwhile is delivered now
            switch() >> wakes()
    return dag


pause = build("pause", "Stop every promotion, shadow and canary")
resume = build("resume", "Let promotions go on")
