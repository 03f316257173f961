"""How a stage's outcome looks in Airflow's grid: notes, links, what it used, and which error means skip, fail or retry."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airworthy import measuring
from airworthy.errors import (
    AirworthyError,
    DataRejectedError,
    ServiceUnavailableError,
    StaleVerdictError,
    SupersededError,
)
from airworthy.platform.code_identity import OtherWheelError, refuse_another_wheel

if TYPE_CHECKING:
    from airworthy.intervals import Interval
    from airworthy.ledger.audit import Acting
    from airworthy.records import Record

log = logging.getLogger(__name__)

NOTE = "note"
LINKS = {
    "MLflow run": "link_mlflow",
    "Verdict": "link_verdict",
    "Experiment report": "link_experiment",
    "What was tried": "link_tried",
    "Model card": "link_card",
    "Data Docs": "link_data_docs",
    "Profile": "link_profile",
    "Drift report": "link_drift",
    "Blast radius": "link_blast_radius",
    "Skew report": "link_skew",
    "Rollback drill": "link_rollback_drill",
    "Prediction API": "link_api",
}


@contextmanager
def outcomes() -> Iterator[None]:
    """Run a stage: superseded work is skipped, what a retry cannot mend fails at once, the rest is retried.

    What the stage used is written to the ledger, however it ended; and, of a run that a person started, who it was. With
    another package than the DAG's nothing runs at all.
    """
    with _measured(), _translated():
        refuse_another_wheel(Path(get_current_context()["dag"].fileloc))
        _started_by_hand()
        yield


@contextmanager
def action(name: str, use_case: str, subject: str, why: str) -> Iterator[Acting]:
    """As ``outcomes``, for a form that does something in a person's name: what and why, and what came of it, is kept.

    What was not done fails, also because others were first: a person would take a skipped one for done.

    Args:
        name: What is done, such as ``rollback``.
        use_case: The use case; empty for all of them.
        subject: What it is done to.
        why: The reason that was given.
    """
    from airworthy.ledger.audit import acting

    with _measured(), _translated(AirflowFailException):
        refuse_another_wheel(Path(get_current_context()["dag"].fileloc))
        with acting(actor(), name, use_case, subject, why, "airflow", run=run_name()) as act:
            yield act


def actor() -> str:
    """Who started this run; the run's name when no person did."""
    return get_current_context()["dag_run"].triggering_user_name or run_name()


def _started_by_hand() -> None:
    """Keep once that a person started this run, whichever task of it comes first."""
    context = get_current_context()
    run = context["dag_run"]
    if run.run_type not in ("manual", "backfill") or not run.triggering_user_name:
        return
    from airworthy.ledger.audit import record_action

    use_case, _, family = run.dag_id.rpartition(".")
    form = context["params"]
    why = str(form.get("why") or form.get("reason") or "")
    record_action(
        run.triggering_user_name, family if run.run_type == "manual" else f"backfill {family}",
        "" if use_case == "platform" else use_case, run.partition_key or run.run_id, why, "airflow", "started",
        run=run_name(),
    )  # fmt: skip


@contextmanager
def _measured() -> Iterator[None]:
    used, outcome = measuring.start(), "done"
    try:
        yield
    except BaseException as error:  # a deferral is no Exception
        outcome = _ENDS.get(type(error).__name__, "error")
        raise
    finally:
        _keep_usage(used(), outcome)


_ENDS = {"AirflowSkipException": "skipped", "AirflowFailException": "failed", "TaskDeferred": "deferred"}


def _keep_usage(used: measuring.Usage, outcome: str) -> None:
    try:
        from airflow.sdk.configuration import conf

        from airworthy.ledger.usage import TaskName, record_usage

        ti = get_current_context()["ti"]
        name = TaskName(
            run=run_name(), dag=ti.dag_id, task=ti.task_id, map_index=-1 if ti.map_index is None else ti.map_index,
            try_number=ti.try_number, executor=str(conf.get("core", "executor")),
        )  # fmt: skip
        record_usage(name, used, outcome)
    except Exception:  # a task must not end badly because it could not be measured
        log.warning("what this task used could not be written down", exc_info=True)


@contextmanager
def _translated(superseded: type[Exception] = AirflowSkipException) -> Iterator[None]:
    try:
        yield
    except (SupersededError, StaleVerdictError) as error:
        note(str(error.what))
        raise superseded(str(error)) from error
    except (ServiceUnavailableError, OtherWheelError):
        raise  # and is tried again
    except AirworthyError as error:
        note(str(error.what).splitlines()[0])
        if isinstance(error, DataRejectedError):
            link(error.links)
        raise AirflowFailException(str(error)) from error


def run_name() -> str:
    """This run's name in the ledger: ``<dag_id>/<run_id>``."""
    run = get_current_context()["dag_run"]
    return f"{run.dag_id}/{run.run_id}"


def note(words: str) -> None:
    """One line for the run's note: what came of it (a listener copies it when the run ends)."""
    get_current_context()["ti"].xcom_push(key=NOTE, value=words[:1000])


def link(links: Mapping[str, str]) -> None:
    """Links of this task, by a name of ``LINKS``."""
    for name, url in links.items():
        if name in LINKS:
            get_current_context()["ti"].xcom_push(key=LINKS[name], value=url)


def report(record: Record, words: str, links: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Note and link an outcome, and hand the record on as JSON.

    A task that returns it is annotated with ``object``: of a ``dict`` Airflow would also push every field as an XCom of
    its own, and a record's field ``note`` would overwrite the note.
    """
    note(words)
    link(links or {})
    return record.to_json()


def interval_of(dag_run: Any) -> Interval:
    """The interval of a partitioned run.

    Raises:
        ConfigurationError: the run has no partition key (it was triggered by hand without one), or a wrong one.
    """
    from airworthy.errors import ConfigurationError
    from airworthy.intervals import Interval

    if not dag_run.partition_key:
        raise ConfigurationError(
            f"run {dag_run.run_id} has no partition key",
            next_step="trigger it with a partition key such as 2013-01-31, or backfill",
        )
    return Interval.of(dag_run.partition_key[:10])


def runs_waiting() -> int:
    """How many runs of this DAG are still queued: in a backfill the last ones catch the features up, in one pass."""
    context = get_current_context()
    return int(context["ti"].get_dr_count(context["dag_run"].dag_id, states=["queued"]))


def fail_with(task_id: str) -> None:
    """Fail when a task before this one failed: a run ends as its last task does, and would look green otherwise."""
    context = get_current_context()
    run = context["dag_run"]
    found = context["ti"].get_task_states(run.dag_id, task_ids=[task_id], run_ids=[run.run_id])
    failed = [name for name, state in found.get(run.run_id, {}).items() if state in ("failed", "upstream_failed")]
    if failed:
        raise AirflowFailException(f"{', '.join(failed)} failed: see its log for what, where and what to do next")
