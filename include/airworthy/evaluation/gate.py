"""The gate: evidence in, decision out. Pure, and closed when in doubt.

Whatever is missing, not a number, measured on rows that a model has learned from, or measured of another model than
the one asked about is a failed check; ``pass`` needs every check passed.
"""

from __future__ import annotations

from typing import Literal

from airworthy.config.gate_spec import Gate
from airworthy.evaluation.catalogue import Checker, number, show
from airworthy.evaluation.checks_basis import basis
from airworthy.evaluation.checks_groups import slices_and_groups
from airworthy.evaluation.checks_model import model_itself
from airworthy.evaluation.checks_quality import difference, quality
from airworthy.evaluation.records import Evidence
from airworthy.records import Check

Decision = Literal["pass", "refuse"]


def decide(gate: Gate, evidence: Evidence) -> tuple[Decision, tuple[Check, ...], str]:
    """Judge the evidence.

    Args:
        gate: The use case's bounds.
        evidence: What was measured.

    Returns:
        The decision, every check in the order of asking, and a summary in a line or two.

    Raises:
        ConfigurationError: a check has no bound.
    """
    make = Checker(gate)
    checks = (
        *basis(make, evidence),
        *quality(make, evidence),
        *slices_and_groups(make, evidence),
        *model_itself(make, evidence),
    )
    decision: Decision = "pass" if all(c.passed for c in checks) else "refuse"
    return decision, checks, _summary(decision, checks, evidence)


def notes(gate: Gate, evidence: Evidence) -> tuple[str, ...]:
    """What the figures say besides, and refuse nobody for."""
    found = []
    ours = number(evidence.candidate.metrics.get("roc_auc"))
    linear = number(evidence.linear.get("roc_auc"))
    gain = difference(ours, linear)
    if gain is not None and gain < gate.worth_over_linear and not evidence.candidate_is_linear:
        found.append(
            f"machine learning is not worth it here: the linear model is as good ({linear:.3f} against {ours:.3f})"
        )
    idle = [i.column for i in evidence.importance if i.adds_nothing]
    if idle:
        found.append(
            f"{len(idle)} of {len(evidence.importance)} features add nothing that can be told from chance on the "
            f"holdout: {', '.join(idle)}"
        )
    if evidence.champion_rows:
        found.append(evidence.champion_rows)
    return tuple(found)


def _summary(decision: Decision, checks: tuple[Check, ...], e: Evidence) -> str:
    if decision == "refuse":
        return "; ".join(c.words for c in checks if not c.passed)
    auc = show(number(e.candidate.metrics.get("roc_auc")))
    against = next(
        (c.words for c in checks if c.name in ("gain over champion", "champion waived")),
        f"ROC AUC {auc}, no champion yet",
    )
    return f"{against}; {e.holdout_rows:,} holdout rows, {len(checks)} checks"
