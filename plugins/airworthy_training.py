"""The tasks that ``.train`` and ``.experiment`` share: the gate and the registration are the same for both."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import task

import airworthy_wiring as wiring
from airworthy.config import UseCase, get_settings

if TYPE_CHECKING:
    from airworthy.records import CandidateRef

log = logging.getLogger(__name__)


def mlflow_link(candidate: CandidateRef) -> dict[str, str]:
    """Link to the candidate's MLflow run."""
    return {"MLflow run": f"{get_settings().mlflow_public_url}/#/runs/{candidate.run_id}"}


def keep_record(case: UseCase, run_id: str) -> None:
    """The run's record into MLflow, and the page of what was tried made anew: copies of the ledger, which no task fails by."""
    from airworthy.config import get_use_case
    from airworthy.evaluation.run_record import publish_record
    from airworthy.evaluation.tried_page import publish_tried
    from airworthy_tasks import link, run_name

    for copy in (
        lambda: link({"What was tried": publish_tried(get_use_case(case.name))}),
        lambda: publish_record(run_name(), run_id),
    ):
        try:
            copy()
        except Exception:
            log.warning("the record of this run could not be copied; `airworthy tried` makes it again", exc_info=True)


def training_set(case: UseCase) -> Callable[..., Any]:
    """The training set's task: built and checked, or refused with the check's words."""

    @task(task_id="training_set")
    def build(order: dict[str, Any]) -> object:
        from airworthy.config import get_use_case
        from airworthy.training import build_training_set, data_docs_link
        from airworthy_tasks import outcomes, report, run_name

        with outcomes():
            ref = build_training_set(get_use_case(case.name), run=run_name())
        words = f"training set {ref.digest[:12]}: {ref.train_rows} + {ref.holdout_rows} rows, {len(ref.checks)} checks"
        return report(ref, words, data_docs_link(ref))

    return build


def search(case: UseCase) -> Callable[..., Any]:
    """The search's tasks: one, or for a large budget several that share the trials, and one that says what was best."""

    @task(task_id="trials", execution_timeout=None)
    def share(ref: dict[str, Any], part: int, parts: int) -> object:
        from airworthy.config import get_use_case
        from airworthy.records import TrainingSetRef
        from airworthy.training.search import share_of_trials
        from airworthy_tasks import outcomes, report, run_name

        with outcomes():
            done = share_of_trials(
                get_use_case(case.name), TrainingSetRef.model_validate(ref), run=run_name(), share=part, shares=parts
            )
        return report(done, done.reason)

    @task(task_id="search", execution_timeout=None)
    def find(ref: dict[str, Any]) -> object:
        from airworthy.config import get_use_case
        from airworthy.records import TrainingSetRef
        from airworthy.training.search import search as search_stage
        from airworthy_tasks import outcomes, report, run_name

        with outcomes():
            found = search_stage(get_use_case(case.name), TrainingSetRef.model_validate(ref), run=run_name())
        return report(found, found.reason)

    def tasks(ref: Any) -> Any:
        found, parts = find(ref), case.training.search.tasks if case.training.search else 1
        if parts > 1:
            share.partial(ref=ref, parts=parts).expand(part=list(range(parts))) >> found
        return found

    return tasks


def judge(case: UseCase) -> Callable[..., Any]:
    """The gate's task: candidate and order in, verdict out."""

    @task(task_id="judge")
    def judge_candidate(candidate: dict[str, Any], order: dict[str, Any]) -> object:
        from airworthy.config import get_use_case
        from airworthy.evaluation import judge as judge_stage
        from airworthy.evaluation import report_link
        from airworthy.evaluation.run_record import note_judged
        from airworthy.ledger.requests import close_requests
        from airworthy.records import CandidateRef
        from airworthy_tasks import outcomes, report, run_name

        use_case, ref = get_use_case(case.name), CandidateRef.model_validate(candidate)
        with outcomes():
            verdict = judge_stage(use_case, ref, causes=order["causes"])
            kind = run_name().partition("/")[0].rpartition(".")[2]
            note_judged(run_name(), kind, ref, verdict, order["causes"])
            close_requests(use_case.name, run_name(), f"{verdict.decision}: {verdict.summary}"[:500])
        keep_record(case, ref.run_id)
        links = mlflow_link(ref) | {"Verdict": report_link(verdict)}
        return report(verdict, f"{'passed' if verdict.decision == 'pass' else 'refused'}: {verdict.summary}", links)

    return judge_candidate


def register(case: UseCase) -> Callable[..., Any]:
    """The registration's task: skipped when the gate refused."""

    @task(task_id="register", outlets=[wiring.challenger(case)])
    def register_challenger(candidate: dict[str, Any], verdict: dict[str, Any]) -> object:
        from airflow.sdk.exceptions import AirflowSkipException

        from airworthy.config import get_use_case
        from airworthy.records import CandidateRef, Verdict
        from airworthy.registry import card_link
        from airworthy.registry import register as register_stage
        from airworthy_tasks import outcomes, report

        judged = Verdict.model_validate(verdict)
        if judged.decision != "pass":
            raise AirflowSkipException(f"refused: {judged.summary}")
        with outcomes():
            release = register_stage(get_use_case(case.name), CandidateRef.model_validate(candidate), judged)
        keep_record(case, release.run_id)
        links = {
            "MLflow run": f"{get_settings().mlflow_public_url}/#/models/{get_settings().model_name(case.name)}",
            "Model card": card_link(case.name, release.version),
        }
        return report(release, f"challenger {release.digest[:12]} (version {release.version}): {judged.summary}", links)

    return register_challenger


def plan_experiment(case: UseCase) -> Callable[..., Any]:
    """The form, checked and priced; skips what follows when only the estimate was asked for."""

    @task(task_id="plan")
    def plan(**context: Any) -> object:
        from airflow.sdk.exceptions import AirflowSkipException

        from airworthy.config import get_use_case
        from airworthy.evaluation.experiment import Form
        from airworthy.evaluation.experiment import plan as plan_stage
        from airworthy.evaluation.tried_page import publish_tried
        from airworthy_tasks import link, note, outcomes, report, run_name

        use_case, who = get_use_case(case.name), context["dag_run"].triggering_user_name or "airflow"
        with outcomes():
            try:
                planned = plan_stage(use_case, Form.of(context["params"]), run=run_name(), who=who)
            finally:
                link({"What was tried": publish_tried(use_case)})
        if planned.form.estimate_only:
            note(f"only estimated: {planned.words}")
            raise AirflowSkipException(planned.words)
        return report(planned, planned.words) | {"causes": planned.causes}

    return plan


def fit_experiment(case: UseCase) -> Callable[..., Any]:
    """The candidate of a planned experiment."""

    @task(task_id="fit", execution_timeout=None)
    def fit(planned: dict[str, Any]) -> object:
        from airworthy.config import get_use_case
        from airworthy.evaluation.experiment import Plan, fit_planned
        from airworthy.training import data_docs_link
        from airworthy_tasks import outcomes, report, run_name

        with outcomes():
            candidate = fit_planned(get_use_case(case.name), Plan.of_task(planned), run=run_name())
        links = mlflow_link(candidate) | data_docs_link(candidate.training_set)
        words = f"candidate {candidate.model_digest[:12]} {candidate.label_note}".rstrip()
        return report(
            candidate, f"{words}; estimated: {planned['estimate']['cpu_seconds'] / 60:.1f} CPU-minutes", links
        )

    return fit


def report_experiment(case: UseCase) -> Callable[..., Any]:
    """The report of an experiment, and the page of everything that was tried."""

    @task(task_id="report")
    def report_task(planned: dict[str, Any], candidate: dict[str, Any], verdict: dict[str, Any]) -> object:
        from airworthy.config import get_use_case
        from airworthy.evaluation.experiment import Plan
        from airworthy.evaluation.experiment_report import report as report_stage
        from airworthy.records import CandidateRef, Verdict
        from airworthy_tasks import outcomes, report, run_name

        ref = CandidateRef.model_validate(candidate)
        with outcomes():
            outcome = report_stage(
                get_use_case(case.name), Plan.of_task(planned), ref, Verdict.model_validate(verdict), run=run_name()
            )
        keep_record(case, ref.run_id)
        return report(outcome, outcome.words, outcome.links)

    return report_task
