"""The gate: evidence in, decision out. Pure, and closed when in doubt.

Whatever is missing, not a number, measured on rows that a model has learned from, or measured of another model than
the one asked about is a failed check; ``pass`` needs every check passed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from airworthy.config.gate_spec import Gate
from airworthy.evaluation.metrics import REQUIRED
from airworthy.evaluation.records import Evidence, ModelEvidence, SliceEvidence
from airworthy.records import Check

Decision = Literal["pass", "refuse"]
MAX_PARITY = 1e-6
SHORT = 12


def decide(gate: Gate, evidence: Evidence) -> tuple[Decision, tuple[Check, ...], str]:
    """Judge the evidence.

    Args:
        gate: The use case's bounds.
        evidence: What was measured.

    Returns:
        The decision, every check in the order of asking, and a summary in a line or two.
    """
    checks = (
        *_mode(gate),
        *_identity(evidence),
        *_holdout(gate, evidence),
        *_soundness(evidence),
        *_absolute(gate, evidence),
        *_against_champion(gate, evidence),
        *_slices(gate, evidence),
    )
    decision: Decision = "pass" if all(c.passed for c in checks) else "refuse"
    return decision, checks, _summary(decision, checks, evidence)


def _mode(gate: Gate) -> Iterator[Check]:
    words = {
        "enabled": "the gate is enabled",
        "dry_run": "the gate is on dry run: it measures and never passes",
        "disabled": "the gate is disabled: it refuses everything",
    }[gate.mode]
    yield _fact("mode", gate.mode == "enabled", words, "only an enabled gate may let a model serve")


def _identity(e: Evidence) -> Iterator[Check]:
    scored, asked = e.candidate.digest, e.candidate_asked
    yield _fact(
        "candidate identity", scored == asked,
        f"scored as candidate: {scored[:SHORT]}, asked about: {asked[:SHORT]}",
        "the evidence must be about the model that was asked about, not about another in its role",
    )  # fmt: skip
    yield _fact(
        "champion identity",
        _digest_of(e.champion) == e.champion_asked and e.champion_release == e.champion_in_log,
        f"scored as champion: {_short(_digest_of(e.champion))} of release {_short(e.champion_release)}, "
        f"by the promotion log: {_short(e.champion_asked)} of release {_short(e.champion_in_log)}",
        "a verdict against a model that is not champion (any more) is stale",
    )
    if e.champion is not None:
        yield _fact(
            "different models",
            e.champion.digest != e.candidate.digest,
            "the candidate is the champion itself"
            if e.champion.digest == e.candidate.digest
            else "two different models",
            "an equal model cannot be better",
        )


def _holdout(gate: Gate, e: Evidence) -> Iterator[Check]:
    yield _at_least(
        "holdout rows", e.holdout_rows, gate.min_holdout_rows, f"the holdout has {e.holdout_rows:,} rows",
        "fewer rows are no evidence", digits=0,
    )  # fmt: skip
    yield _fact(
        "holdout bounds",
        e.holdout_start < e.holdout_end,
        f"the holdout reaches from {e.holdout_start:%Y-%m-%d %H:%M} to {e.holdout_end:%Y-%m-%d %H:%M}",
        "it must span some time",
    )
    for role, model in _models(e):
        until = model.trained_until
        yield _fact(
            f"{role} trained before holdout",
            until is not None and until <= e.holdout_start,
            f"the {role} learned from rows up to {until:%Y-%m-%d %H:%M}, "
            f"the holdout starts {e.holdout_start:%Y-%m-%d %H:%M}"
            if until is not None
            else f"nobody knows which rows the {role} learned from",
            "a model that has seen the answers is not measured by them",
        )


def _soundness(e: Evidence) -> Iterator[Check]:
    for role, model in _models(e):
        yield _fact(
            f"{role} scores", model.finite and model.scored == e.holdout_rows,
            f"the {role} gave {model.scored:,} scores for {e.holdout_rows:,} rows"
            + ("" if model.finite else f", {model.note or 'not all finite'}"),
            "every holdout row needs a finite score",
        )  # fmt: skip
    parity = _number(e.candidate.parity)
    yield Check(
        name="serving form", value=parity, bound=MAX_PARITY, passed=parity is not None and parity <= MAX_PARITY,
        reason="what is judged must be what serves: compiled, and fed one request at a time",
        words="the serving form was not compared with the recorded model" if parity is None
        else f"the serving form differs from the recorded model by {parity:.1e}, may by {MAX_PARITY:.0e}",
    )  # fmt: skip
    missing = [name for name in REQUIRED if _number(e.candidate.metrics.get(name)) is None]
    yield _fact(
        "metrics",
        not missing,
        f"missing or not a number: {', '.join(missing)}" if missing else "every metric is there",
        "a metric that could not be computed is no evidence",
    )


def _absolute(gate: Gate, e: Evidence) -> Iterator[Check]:
    auc = _number(e.candidate.metrics.get("roc_auc"))
    yield _at_least(
        "roc_auc", auc, gate.min_roc_auc, f"ROC AUC {_show(auc)}", "an absolute bound for any model of this use case"
    )
    loss, prior = _number(e.candidate.metrics.get("log_loss")), _number(e.prior.get("log_loss"))
    gain = (prior - loss) / prior if loss is not None and prior is not None and prior > 0 else None
    yield _at_least(
        "gain over prior",
        gain,
        gate.min_gain_over_prior,
        f"log loss {_show(loss)} against the prior's {_show(prior)}: share gained",
        "a model must beat predicting the same rate for everything",
    )
    error = _number(e.candidate.metrics.get("calibration_error"))
    yield Check(
        name="calibration", value=error, bound=gate.max_calibration_error,
        passed=error is not None and error <= gate.max_calibration_error,
        reason="decisions are taken at a probability: it must mean what it says",
        words=f"calibration error {_show(error)}, may be {gate.max_calibration_error:g}",
    )  # fmt: skip


def _against_champion(gate: Gate, e: Evidence) -> Iterator[Check]:
    if e.champion is None:
        yield _fact(
            "no champion yet", e.champion_in_log is None and e.champion_asked is None,
            "no champion yet: absolute bounds and the prior decide" if e.champion_in_log is None
            else f"release {_short(e.champion_in_log)} is champion and was not scored",
            "only the first model of a use case is judged without a champion",
        )  # fmt: skip
        return
    ours, theirs = _number(e.candidate.metrics.get("roc_auc")), _number(e.champion.metrics.get("roc_auc"))
    gain = ours - theirs if ours is not None and theirs is not None else None
    yield Check(
        name="gain over champion", value=gain, bound=gate.min_gain_over_champion,
        passed=gain is not None and gain >= gate.min_gain_over_champion, reason="a tie keeps the champion",
        words=_against(ours, theirs, gain, gate.min_gain_over_champion),
    )  # fmt: skip
    low = _number(e.gain.low) if e.gain else None
    yield Check(
        name="gain is no accident",
        value=low,
        bound=-gate.tolerated_loss,
        passed=low is not None and low > -gate.tolerated_loss,
        reason="the loss that chance could hide must be one that can be borne",
        words=f"no interval of the gain at {gate.confidence:.0%} confidence"
        if low is None
        else f"the gain is above {low:+.4f} with {gate.confidence:.0%} confidence, "
        f"must be above {-gate.tolerated_loss:+.4f}",
    )


def _slices(gate: Gate, e: Evidence) -> Iterator[Check]:
    for column in gate.slices:
        found = [s for s in e.slices if s.column == column]
        judged = [s for s in found if s.rows >= gate.min_slice_rows]
        yield _fact(
            f"slices {column}",
            bool(found),
            f"{len(found)} slices by {column}, {len(judged)} of them with {gate.min_slice_rows} rows or more and judged"
            if found
            else f"no slices by {column}",
            "the spec asks for these slices",
        )
        for part in judged:
            yield _slice(gate, part, compared=e.champion is not None)


def _slice(gate: Gate, part: SliceEvidence, *, compared: bool) -> Check:
    ours, theirs = _number(part.candidate), _number(part.champion)
    bound = gate.min_slice_roc_auc
    # A champion without a number in a slice is missing evidence, just like a candidate without one.
    known = ours is not None and (theirs is not None or not compared)
    if theirs is not None:
        bound = max(bound, theirs - gate.max_slice_regression)
    against = f" against champion {_show(theirs)}" if compared else ""
    return Check(
        name=f"slice {part.name}",
        value=ours,
        bound=bound,
        passed=known and ours is not None and ours >= bound,
        reason="nobody pays for the gain of the others",
        words=f"slice {part.name} n={part.rows}: ROC AUC {_show(ours)}{against}, needs {bound:.3f}",
    )


def _summary(decision: Decision, checks: tuple[Check, ...], e: Evidence) -> str:
    if decision == "refuse":
        return "; ".join(c.words for c in checks if not c.passed)
    auc = _show(_number(e.candidate.metrics.get("roc_auc")))
    against = next((c.words for c in checks if c.name == "gain over champion"), f"ROC AUC {auc}, no champion yet")
    return f"{against}; {e.holdout_rows:,} holdout rows, {len(checks)} checks"


def _against(ours: float | None, theirs: float | None, gain: float | None, needed: float) -> str:
    text = f"ROC AUC {_show(ours)} against champion {_show(theirs)}: "
    if gain is None:
        return text + "cannot be compared"
    change = "equal" if gain == 0 else f"{'above' if gain > 0 else 'below'} by {abs(gain):.4f}"
    return f"{text}{change}, needs at least {needed:+g}"


def _at_least(name: str, value: float | None, bound: float, what: str, reason: str, digits: int = 3) -> Check:
    text = "missing" if value is None else f"{value:,.{digits}f}"
    shown = what if text in what else f"{what} {text}"
    return Check(
        name=name, value=value, bound=bound, passed=value is not None and value >= bound, reason=reason,
        words=f"{shown}, needs at least {bound:g}",
    )  # fmt: skip


def _fact(name: str, passed: bool, words: str, reason: str) -> Check:
    return Check(name=name, value=float(passed), bound=1.0, passed=passed, reason=reason, words=words)


def _models(e: Evidence) -> Iterator[tuple[str, ModelEvidence]]:
    yield "candidate", e.candidate
    if e.champion is not None:
        yield "champion", e.champion


def _digest_of(model: ModelEvidence | None) -> str | None:
    return model.digest if model else None


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _show(value: float | None) -> str:
    return "missing" if value is None else f"{value:.3f}"


def _short(digest: str | None) -> str:
    return digest[:SHORT] if digest else "none"
