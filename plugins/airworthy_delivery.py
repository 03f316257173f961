"""The tasks of ``.deliver``. Each goes on from where the ledger says that the delivery stands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Param, task
from airflow.sdk.exceptions import AirflowSkipException

import airworthy_wiring as wiring
from airworthy.config import UseCase, get_settings, get_use_case, use_cases

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airworthy.records import DeliveryOutcome


class DeliveryApproval(ApprovalOperator):
    """Asks a person whether a release may be delivered; with policy ``auto`` nobody is asked.

    No answer in time is a no. The answer is only handed on: the task after it writes it down, and may be retried.

    Args:
        case: The use case.
    """

    def __init__(self, *, case: UseCase, **kwargs: Any) -> None:
        super().__init__(
            subject=f"Deliver a release of {case.title}", defaults=self.REJECT, retries=0,
            response_timeout=timedelta(hours=case.delivery.approval_hours),
            params={"why": Param("", type="string", maxLength=500, title="Why", description="Kept with the answer")},
            **kwargs,
        )  # fmt: skip
        self.use_case, self.policy = case.name, case.delivery.approval

    def execute(self, context: Context) -> Any:
        """Ask, with the verdict and the card in the question."""
        if self.policy == "auto":
            return None
        from airworthy.delivery import question
        from airworthy_tasks import outcomes

        staged = context["ti"].xcom_pull(task_ids="stage")
        if staged["status"] != "approval":  # it was answered before this run took it up again
            return None
        with outcomes():
            self.subject, self.body = question(get_use_case(self.use_case), staged["delivery"])
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """The answer. Airflow's own operator would skip what follows a no, and nobody would write it down."""
        return HITLOperator.execute_complete(self, context, event)


def stage(case: UseCase) -> Callable[..., Any]:
    """The newest challenger, or the delivery that was interrupted, through verdict and staging check."""

    @task(task_id="stage")
    def run() -> object:
        from airworthy.delivery import stage as stage_stage
        from airworthy_tasks import outcomes, run_name

        with outcomes():
            return _told(stage_stage(get_use_case(case.name), run=run_name()))

    return run


def trial(case: UseCase) -> Callable[..., Any]:
    """The answer of the approval written down, then shadow and canary. Runs whatever became of the question."""

    @task(task_id="trial", trigger_rule="all_done", execution_timeout=None)
    def run(staged: dict[str, Any] | None) -> object:
        from airflow.sdk import get_current_context

        from airworthy.delivery import settle, try_out
        from airworthy_tasks import fail_with, outcomes, run_name

        fail_with("stage")
        if not staged:
            raise AirflowSkipException("there is nothing to deliver")
        answer = get_current_context()["ti"].xcom_pull(task_ids="approve") or {}
        user = answer.get("responded_by_user") or {}
        with outcomes():
            use_case, number = get_use_case(case.name), staged["delivery"]
            outcome = settle(
                use_case, number, run=run_name(), who=user.get("name") or "",
                approved=answer.get("chosen_options") == [DeliveryApproval.APPROVE] if answer else None,
                why=(answer.get("params_input") or {}).get("why") or "",
            )  # fmt: skip
            if not outcome.ended:
                outcome = try_out(use_case, number, run=run_name())
            return _told(outcome)

    return run


def promote(case: UseCase) -> Callable[..., Any]:
    """Compare-and-set, and the workers that follow."""

    @task(task_id="promote", outlets=[wiring.release(case)])
    def run(staged: dict[str, Any]) -> object:
        from airworthy.delivery import promote as promote_stage
        from airworthy_tasks import link, outcomes, run_name

        link({"Prediction API": f"{get_settings().service_public_url}/docs"})
        with outcomes():
            return _told(promote_stage(get_use_case(case.name), staged["delivery"], run=run_name()))

    return run


def watch(case: UseCase) -> Callable[..., Any]:
    """The new champion, watched for a while."""

    @task(task_id="watch")
    def run(staged: dict[str, Any]) -> object:
        from airworthy.delivery import watch as watch_stage
        from airworthy_tasks import outcomes, run_name

        with outcomes():
            return _told(watch_stage(get_use_case(case.name), staged["delivery"], run=run_name()))

    return run


def wakes() -> list[Any]:
    """Wake each ``.deliver`` whose challenger nobody delivers: after a pause, or a trial that saw too little."""

    def wake(case: UseCase) -> Any:
        @task(task_id=f"wake_{case.name}", outlets=[wiring.challenger(case)])
        def run() -> object:
            from airworthy.delivery import waiting
            from airworthy_tasks import outcomes

            with outcomes():
                digest = waiting(get_use_case(case.name))
            if not digest:
                raise AirflowSkipException("no challenger waits for a delivery that nobody has begun")
            return digest

        return run()

    return [wake(case) for case in use_cases().values()]


def _told(outcome: DeliveryOutcome) -> object:
    """Its note and record; an end that is none of the good ones skips what follows."""
    from airworthy_tasks import note, report

    words = f"{outcome.status}: {outcome.reason}"
    if outcome.ended and outcome.status != "done":
        note(words)
        raise AirflowSkipException(words)
    return report(outcome, words)
