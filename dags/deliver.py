"""Deliver the newest challenger: staging check, approval by policy, shadow and canary beside the champion, promotion, watch.

Woken by the asset ``challenger``. A challenger that is refused, aborted, stale or inconclusive ends here with the reason; the
champion keeps serving. Where a delivery stands is in the ledger (`airworthy deliveries`): a run that was killed is cleared, or
triggered again, and goes on from there.
"""

from __future__ import annotations

from airflow.sdk import DAG

import airworthy_wiring as wiring
from airworthy.config import UseCase, use_cases
from airworthy_delivery import DeliveryApproval, promote, stage, trial, watch


def build(case: UseCase) -> DAG:
    """The DAG of one use case."""
    with DAG(
        **wiring.dag_arguments(case, "deliver", level=2, doc=__doc__),
        schedule=[wiring.challenger(case)],
        max_active_runs=1,
    ) as dag:
        staged = stage(case)()
        approved = DeliveryApproval(task_id="approve", case=case)
        tried = trial(case)(staged)
        promoted = promote(case)(staged)
        staged >> approved >> tried >> promoted >> watch(case)(staged)
    return dag


for _case in use_cases().values():
    globals()[f"{_case.name}_deliver"] = build(_case)
