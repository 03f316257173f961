"""What Airworthy adds to Airflow: links from tasks to the other UIs, and the run's note."""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
from airflow.serialization.definitions.operatorlink import XComOperatorLink

from airworthy_tasks import LINKS, NOTE

log = logging.getLogger(__name__)


class NoteListener:
    """Copies the last note of a run's tasks to the run, in the scheduler, when it ends; of a failed run, what failed."""

    @hookimpl
    def on_dag_run_success(self, dag_run: Any, msg: str) -> None:
        """The run ended well (a refusal is such an end)."""
        _copy_note(dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any, msg: str) -> None:
        """The run failed."""
        _copy_note(dag_run, failed=True)


def _copy_note(dag_run: Any, *, failed: bool = False) -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import and_, select
    from sqlalchemy.orm import object_session

    try:
        session = object_session(dag_run)
        if session is None:
            return
        notes = (
            select(XComModel.value)
            .where(XComModel.dag_id == dag_run.dag_id, XComModel.run_id == dag_run.run_id, XComModel.key == NOTE)
            .order_by(XComModel.timestamp.desc())
            .limit(1)
        )
        same = [getattr(TaskInstance, k) == getattr(XComModel, k) for k in ("dag_id", "run_id", "task_id", "map_index")]
        of_failed = notes.join(TaskInstance, and_(*same)).where(TaskInstance.state == "failed")
        value = (session.scalar(of_failed) if failed else None) or session.scalar(notes)
        if value:
            dag_run.note = str(value).strip('"')
    except Exception:  # a listener must never stop the scheduler
        log.exception("the note of %s could not be copied", dag_run.run_id)


class AirworthyPlugin(AirflowPlugin):
    """Registers the links and the listener."""

    name = "airworthy"
    global_operator_extra_links = [XComOperatorLink(name=name, xcom_key=key) for name, key in LINKS.items()]  # noqa: RUF012
    listeners = [NoteListener()]  # noqa: RUF012
