"""Take a tested revision of the pipeline itself to staging, and, once a person approved it, to production.

Woken by the tested head of a watched branch (``develop`` goes to staging, ``main`` goes on to production), or by hand. The
release is built from the revision and its lock, and plays the use cases' samples in an environment, a folder and databases
of its own. The switch is carried out by a process outside of Airflow, which restarts Airflow too; this DAG observes it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param, task

import airworthy_releases as releases

with DAG(
    dag_id="platform.release",
    description="Take a tested revision of the pipeline itself to staging, and on to production",
    doc_md=__doc__,
    tags=["platform", "level-2"],
    default_args={"owner": "platform", "retries": 2, "retry_delay": timedelta(seconds=20)},
    schedule=[releases.tested_revision()],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        "revision": Param(
            "", type="string", pattern="^([0-9a-f]{40})?$", description="Whole commit id; empty: the next"
        ),
        "target": Param("staging", enum=["staging", "production"], description="Of a revision that is given here"),
    },
) as dag:

    @task
    def take(**context: object) -> object:
        """The revision of the form, or the next tested head."""
        return releases.take_revision(context)

    @task(execution_timeout=timedelta(hours=1))
    def build(taken: dict[str, object]) -> object:
        """The release: wheel, environment, DAGs."""
        return releases.build_release(taken)

    @task(execution_timeout=timedelta(hours=2), retries=0)
    def staging(release: dict[str, object]) -> object:
        """From the samples' landed files to an answered prediction."""
        return releases.try_in_staging(release)

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def for_production(taken: dict[str, object]) -> bool:
        """A revision for staging ends here."""
        return taken["target"] == "production"

    approve = releases.ReleaseApproval(
        task_id="approve",
        subject="Switch the platform to revision {{ ti.xcom_pull('build')['revision'][:12] }}?",
        body="Release {{ ti.xcom_pull('build')['digest'] }}, tested by {{ ti.xcom_pull('build')['tested_by'] }}.\n\n"
        "Staging: {{ ti.xcom_pull('staging')['words'] }}.\n\nNo task starts until it is done; running tasks are waited for.",
    )  # fmt: skip

    @task(retries=0)
    def switch(taken: dict[str, object], release: dict[str, object], answer: dict[str, object]) -> int:
        """Write the answer down; ask for the switch, and start the process that does it. A no ends here."""
        return releases.begin_switch(taken, release, answer)

    @task.sensor(mode="reschedule", poke_interval=5, timeout=timedelta(hours=2).total_seconds(), retries=5)
    def switched(generation: int) -> bool:
        """Look now and then, before and after Airflow's own restart."""
        return releases.switch_ended(generation)

    @task(trigger_rule="all_done")
    def outcome() -> None:
        """The last word, also after a refusal."""
        releases.tell_outcome()

    order = take()
    made = build(order)
    tried = staging(made)
    tried >> for_production(order) >> approve
    observed = switched(switch(order, made, approve.output))
    [tried, observed] >> outcome()
