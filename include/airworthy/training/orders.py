"""From open retraining requests to one training order, or a reason why there is none."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airworthy.config import UseCase
from airworthy.ledger import attempts, commits, requests
from airworthy.ledger.clock import data_now
from airworthy.ledger.promotions import champion
from airworthy.records import Record


class TrainingOrder(Record):
    """What a training run was asked for.

    Attributes:
        causes: Cause and evidence of every claimed request, by request id.
        skip: Why nothing is trained now (empty: train).
    """

    use_case: str
    causes: dict[str, dict[str, object]]
    skip: str = ""

    @property
    def words(self) -> str:
        """The causes in a line, such as ``drift, new_data``."""
        return ", ".join(sorted({str(c["cause"]) for c in self.causes.values()})) or "nothing"


def claim_order(use_case: UseCase, *, run: str, on_demand: str | None = None, scheduled: bool = False) -> TrainingOrder:
    """Claim every open request for this run; skip when there is none, or within the cool-down.

    Args:
        use_case: The use case.
        run: The Airflow run; a retry of it gets its own requests again.
        on_demand: A person's reason: adds a request of cause ``on_demand``, which no cool-down holds back.
        scheduled: The schedule's time has come: adds a request of cause ``schedule``.
    """
    now = data_now(use_case)
    if on_demand is not None:
        _ask_once(use_case, run, "on_demand", {"reason": on_demand}, now)
    if scheduled and (early := _too_early(use_case)):
        return TrainingOrder(use_case=use_case.name, causes={}, skip=early)
    if scheduled:
        _ask_once(use_case, run, "schedule", {"schedule": use_case.training_schedule}, now)
    before = requests.last_training_time(use_case.name)
    claimed = requests.claim_requests(use_case.name, run)
    causes: dict[str, dict[str, object]] = {
        str(r.id): {"cause": r.cause, "evidence": r.evidence, "requested_by": r.requested_by} for r in claimed
    }
    order = TrainingOrder(use_case=use_case.name, causes=causes)
    skip = ""
    if not claimed:
        skip = "no open retraining request"
    elif before is not None and champion(use_case.name) and all(r.cause != "on_demand" for r in claimed):
        free = before + timedelta(days=use_case.training.cooldown_days)
        if now < free:
            skip = f"cool-down until {free:%Y-%m-%d %H:%M} (data time); asked for by {order.words}"
    if skip and claimed:
        requests.close_requests(use_case.name, run, f"skipped: {skip}")
    if not skip:
        attempts.note_attempt(
            use_case.name, run, "train", causes=causes, who=", ".join(sorted({r.requested_by for r in claimed})[:3]),
            outcome="begun",
        )  # fmt: skip
    return order.model_copy(update={"skip": skip})


def _too_early(use_case: UseCase) -> str:
    """Why a schedule asks for nothing yet: Airflow starts a new DAG's last run at once, whatever there is to train on."""
    published = sum(row.status == "published" for row in commits.decided_intervals(use_case.name).values())
    needed = use_case.training.min_train_days + use_case.training.holdout_days
    return (
        f"the schedule's time, but {published} of {needed} needed intervals are published" if published < needed else ""
    )


def _ask_once(use_case: UseCase, run: str, cause: str, evidence: dict[str, Any], now: datetime) -> None:
    """Add this run's own request; a retry of the run has it already."""
    if all(r.cause != cause or r.requested_by != run for r in requests.claim_requests(use_case.name, run)):
        requests.request_retraining(use_case.name, cause, evidence, by=run, data_time=now)
