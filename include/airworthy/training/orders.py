"""From open retraining requests to one training order, or a reason why there is none."""

from __future__ import annotations

from datetime import timedelta

from airworthy.config import UseCase
from airworthy.ledger import requests
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


def claim_order(use_case: UseCase, *, run: str, on_demand: str | None = None) -> TrainingOrder:
    """Claim every open request for this run; skip when there is none, or within the cool-down.

    Args:
        use_case: The use case.
        run: The Airflow run; a retry of it gets its own requests again.
        on_demand: A person's reason: adds a request of cause ``on_demand``, which no cool-down holds back.
    """
    now = data_now(use_case)
    if on_demand is not None:
        mine = [r for r in requests.claim_requests(use_case.name, run) if r.cause == "on_demand"]
        if not mine:
            requests.request_retraining(use_case.name, "on_demand", {"reason": on_demand}, by=run, data_time=now)
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
    return order.model_copy(update={"skip": skip})
