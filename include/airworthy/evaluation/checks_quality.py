"""Checks of how good the candidate is: alone, against what anyone could have had, against the champion, at its cost."""

from __future__ import annotations

from collections.abc import Iterator

from airworthy.evaluation.catalogue import Checker, number, show
from airworthy.evaluation.checks_basis import short, waived
from airworthy.evaluation.records import CostEvidence, Evidence
from airworthy.records import Check


def quality(make: Checker, e: Evidence) -> Iterator[Check]:
    """Absolute bounds, baselines, champion, cost."""
    yield from _absolute(make, e)
    yield from _baselines(make, e)
    yield from _against_champion(make, e)
    yield from _cost(make, e)


def _absolute(make: Checker, e: Evidence) -> Iterator[Check]:
    auc = number(e.candidate.metrics.get("roc_auc"))
    yield make.number("roc_auc", auc, f"ROC AUC {show(auc)}, needs at least {make.gate.min_roc_auc:g}")
    error = number(e.candidate.metrics.get("calibration_error"))
    yield make.number(
        "calibration", error, f"calibration error {show(error)}, may be {make.gate.max_calibration_error:g}"
    )


def _baselines(make: Checker, e: Evidence) -> Iterator[Check]:
    gate = make.gate
    loss, prior = number(e.candidate.metrics.get("log_loss")), number(e.prior.get("log_loss"))
    gain = (prior - loss) / prior if loss is not None and prior is not None and prior > 0 else None
    yield make.number(
        "gain over prior", gain,
        f"log loss {show(loss)} against the prior's {show(prior)}: share gained {show(gain)}, "
        f"needs at least {gate.min_gain_over_prior:g}",
    )  # fmt: skip
    ours = number(e.candidate.metrics.get("roc_auc"))
    columns = " and ".join(e.rule_columns) or "nothing"
    for name, other, what, bound in (
        ("gain over rule", e.rule, f"the rule's (the rate by {columns})", gate.min_gain_over_rule),
        ("gain over linear", e.linear, "the linear model's", gate.min_gain_over_linear),
    ):
        theirs = number(other.get("roc_auc"))
        gain = difference(ours, theirs)
        yield make.number(name, gain, f"ROC AUC {show(ours)} against {what} {show(theirs)}: {change(gain, bound)}")


def _against_champion(make: Checker, e: Evidence) -> Iterator[Check]:
    gate = make.gate
    if e.champion is None:
        yield make.fact(
            "no champion yet", e.champion_in_log is None and e.champion_asked is None,
            "no champion yet: absolute bounds and the baselines decide" if e.champion_in_log is None
            else f"release {short(e.champion_in_log)} is champion and was not scored",
        )  # fmt: skip
        return
    if waived(make, e):
        yield make.fact(
            "champion waived", True,
            f"champion {short(e.champion_release)} cannot be scored ({e.champion.note}), and gate.replace_champion "
            "names it: judged as the first model is",
        )  # fmt: skip
        return
    ours, theirs = number(e.candidate.metrics.get("roc_auc")), number(e.champion.metrics.get("roc_auc"))
    gain = difference(ours, theirs)
    yield make.number(
        "gain over champion", gain,
        f"ROC AUC {show(ours)} against champion {show(theirs)}: {change(gain, gate.min_gain_over_champion)}",
    )  # fmt: skip
    low = number(e.gain.low) if e.gain else None
    yield make.number(
        "gain is no accident",
        low,
        f"no interval of the gain at {gate.confidence:.0%} confidence"
        if low is None
        else f"the gain is above {low:+.4f} with {gate.confidence:.0%} confidence, "
        f"must be above {-gate.tolerated_loss:+.4f}",
    )


def _cost(make: Checker, e: Evidence) -> Iterator[Check]:
    gate, cost = make.gate, e.cost or CostEvidence(
        threshold=float("nan"), candidate=None, champion=None, nothing=None, everything=None
    )  # fmt: skip
    ours, nothing, everything = number(cost.candidate), number(cost.nothing), number(cost.everything)
    best = None if nothing is None or everything is None else min(nothing, everything)
    saving = (best - ours) / best if ours is not None and best is not None and best > 0 else None
    cheap = "nothing" if best is not None and best == nothing else "everything"
    yield make.number(
        "cost saving", saving,
        f"acting from {show(cost.threshold, 2)} on costs {show(ours)} a prediction, acting on {cheap} {show(best)}: "
        f"saves {_share(saving)}, needs {gate.min_saving:.1%}",
    )  # fmt: skip
    if e.champion is None or waived(make, e):
        return
    theirs = number(cost.champion)
    more = (ours - theirs) / theirs if ours is not None and theirs is not None and theirs > 0 else None
    yield make.number(
        "cost against champion", more,
        f"a prediction costs {show(ours)} against champion {show(theirs)}: {_share(more, sign='+')}, "
        f"may be {gate.max_cost_increase:+.1%}",
    )  # fmt: skip
    high = number(cost.high)
    worst = high / theirs if high is not None and theirs is not None and theirs > 0 else None
    yield make.number(
        "cost is no accident", worst,
        f"the change of cost is below {_share(worst, sign='+')} with {gate.confidence:.0%} confidence, "
        f"may be {gate.tolerated_cost_increase:+.1%}",
    )  # fmt: skip


def difference(ours: float | None, theirs: float | None) -> float | None:
    """Ours minus theirs, when there are both."""
    return ours - theirs if ours is not None and theirs is not None else None


def change(gain: float | None, needed: float) -> str:
    """A gain and what it should be, in words."""
    if gain is None:
        return "cannot be compared"
    text = "equal" if gain == 0 else f"{'above' if gain > 0 else 'below'} by {abs(gain):.4f}"
    return f"{text}, needs at least {needed:+g}"


def _share(value: float | None, sign: str = "") -> str:
    return "an unknown share" if value is None else f"{value:{sign}.1%}"
