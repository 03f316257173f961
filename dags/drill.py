"""Weekly, on the wall clock: the newest backup is restored into a scratch place, compared, and removed.

How long it took and which moment it gave back are rows in the ledger; see docs/runbooks/recovery.md.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, CronTriggerTimetable, task

with DAG(
    dag_id="platform.drill",
    description="Restore the newest backup into a scratch place and compare it",
    doc_md=__doc__,
    tags=["platform"],
    default_args={"owner": "platform", "retries": 0},
    schedule=CronTriggerTimetable("30 5 * * 0", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
):

    @task
    def restore_and_compare() -> object:
        """Rows, files, partitions and releases of the copy are those that were saved."""
        from airworthy.platform.restoring import drill
        from airworthy_tasks import outcomes, report

        with outcomes():
            restored = drill()
        looked_at = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in restored.checked.items())
        return report(restored, f"restored and compared in {restored.seconds} s: {looked_at}")

    restore_and_compare()
