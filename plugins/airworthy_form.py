"""Forms: fields with ranges, choices and help. What is typed there is checked again by the stage."""

from __future__ import annotations

import json
import logging

from airflow.sdk import Param

from airworthy.config import UseCase, get_settings
from airworthy.config.training_spec import OFFERED_ALGORITHMS

log = logging.getLogger(__name__)

DAYS = (
    "Only days before the holdout are trained on: the newest {holdout} days with labels are everyone's holdout, whatever "
    "is chosen here."
)


def rollback_choices(case: UseCase) -> list[str]:
    """What the form of ``.rollback`` offers, from a file that each switch writes; nothing when there is none."""
    path = get_settings().forms / f"{case.name}.rollback.json"
    try:
        return [str(one) for one in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        log.warning("%s cannot be read: the form of %s.rollback offers nothing", path, case.name)
        return []


def experiment_params(case: UseCase) -> dict[str, Param]:
    """The fields, for one use case."""
    training, data = case.training, case.data
    own = training.algorithm
    choices = dict.fromkeys([own, *OFFERED_ALGORITHMS])
    names = feature_choices(case)
    listed = {"examples": names} if names else {}
    help_names = "" if names else " One a line; they can be picked from a list once a training set was built."
    return {
        "reason": Param(
            None, type=["null", "string"], maxLength=500, title="Why",
            description="What you want to find out: shown on the page of everything that was tried.",
        ),
        "algorithm": Param(
            own, type="string", enum=list(choices), title="Algorithm",
            values_display={path: path.rpartition(".")[2] + (" (use_case.yaml)" if path == own else "") for path in choices},
            description="Another one than that of use_case.yaml is fitted with its default arguments.",
        ),
        "features": Param(
            None, type=["null", "array"], items={"type": "string"}, title="Features", **listed,
            description=f"Inputs of the model, of {training.feature_service}; none chosen: all of them.{help_names}",
        ),
        "first_day": Param(
            None, type=["null", "string"], format="date", title="Train from",
            description=f"First day of the training part (UTC); empty: from {data.first} on. "
            + DAYS.format(holdout=training.holdout_days),
        ),
        "last_day": Param(
            None, type=["null", "string"], format="date", title="Train up to",
            description="Last day of the training part, included; empty: up to the holdout.",
        ),
        "days": Param(
            None, type=["null", "integer"], minimum=1, maximum=3660, title="Newest days only",
            description="Train on so many of the newest days before the holdout; empty: on all.",
        ),
        "trials": Param(
            0, type="integer", minimum=0, maximum=200, title="Search: trials",
            description="How many parameter sets to try, from training.search of use_case.yaml; 0: the parameters there.",
        ),
        "budget_minutes": Param(
            training.experiment_budget, type="number", exclusiveMinimum=0, maximum=training.experiment_budget,
            title="Budget, CPU-minutes",
            description="Refused before anything runs when the estimate is higher. use_case.yaml sets the largest "
            f"({training.experiment_budget:g}).",
        ),
        "estimate_only": Param(
            False, type="boolean", title="Only estimate",
            description="Say what it would take and cost in the run's note, and stop.",
        ),
        "hand_to_gate": Param(
            False, type="boolean", title="Hand to the gate",
            description="Register the candidate as challenger if its verdict is a pass; it is then delivered as any other.",
        ),
        "flip_labels": Param(
            0.0, type="number", minimum=0, maximum=1, title="Flip labels",
            description="Share of the training labels to turn into their opposite, to see the gate refuse.",
        ),
    }  # fmt: skip


def feature_choices(case: UseCase) -> list[str]:
    """Names to pick from, from a file: this runs whenever the DAG is parsed. A place that does not answer costs the list."""
    from airworthy.training.offered import offered_inputs

    try:
        return offered_inputs(case)
    except Exception as error:
        log.info("the features of %s cannot be listed now: %s", case.name, str(error).splitlines()[0])
        return []
