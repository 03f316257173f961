"""Checks of the model itself: stability, convergence, behaviour, and whether it can serve."""

from __future__ import annotations

from collections.abc import Iterator

from airworthy.evaluation.catalogue import Checker, number, show
from airworthy.evaluation.records import ConvergenceEvidence, Evidence, ServingEvidence, StabilityEvidence
from airworthy.records import Check

ALTERED = ("missing", "renamed", "permuted")


def model_itself(make: Checker, e: Evidence) -> Iterator[Check]:
    """Stability, convergence, behaviours, serving."""
    yield _stability(make, e.stability or StabilityEvidence(note="no refit was made"))
    yield from _convergence(make, e.convergence or ConvergenceEvidence(note="nobody looked"))
    yield from _behaviours(make, e)
    yield from _serving(make, e)


def _stability(make: Checker, found: StabilityEvidence) -> Check:
    aucs = [number(a) for a in found.roc_auc]
    known = [a for a in aucs if a is not None]
    spread = max(known) - min(known) if len(known) == len(aucs) and len(known) >= 2 else None
    if spread is None:
        words = f"refits with other seeds could not be compared: {found.note or 'a figure is missing'}"
    elif found.deterministic:
        words = "the same scores whatever the seed: the fit is deterministic"
    else:
        words = (
            f"ROC AUC {min(known):.4f} to {max(known):.4f} over {len(known)} seeds (refits on {found.rows:,} rows), "
            f"may spread by {make.gate.max_seed_spread:g}"
        )
    return make.number("stability", spread, words)


def _convergence(make: Checker, found: ConvergenceEvidence) -> Iterator[Check]:
    gate = make.gate
    if found.losses or found.note:
        first, last, least = (found.losses[0], found.losses[-1], min(found.losses)) if found.losses else (None,) * 3
        fall = (first - last) / first if first and last is not None else None
        yield make.number(
            "training loss falls", fall,
            f"training loss from {show(first)} to {show(last)}: falls by {show(fall)}, needs {gate.min_loss_fall:g}"
            if fall is not None else f"no training loss: {found.note}",
        )  # fmt: skip
        rise = (last - least) / least if least and last is not None else None
        yield make.number(
            "training loss ends low", rise,
            f"the last training loss is above the smallest by {show(rise)}, may be {gate.max_loss_rise:g}"
            if rise is not None else f"no training loss: {found.note}",
        )  # fmt: skip
    if found.iterations is not None and found.allowed is not None:
        yield make.fact(
            "solver stopped", found.iterations < found.allowed,
            f"the solver stopped after {found.iterations} of {found.allowed} iterations",
        )  # fmt: skip
    yield make.number(
        "tiny batch", found.batch_gain,
        f"the loss on {found.batch_rows} rows learned by heart is below the prior's by {show(found.batch_gain, 2)} "
        f"of it, needs {gate.min_tiny_batch_gain:g}" if number(found.batch_gain) is not None
        else f"a tiny batch could not be learned: {found.note or 'the loss is no number'}",
    )  # fmt: skip


def _behaviours(make: Checker, e: Evidence) -> Iterator[Check]:
    found = {b.name: b for b in e.behaviours}
    for spec in make.gate.behaviours:
        seen = found.get(spec.name)
        share, note = (seen.violations, seen.note) if seen else (None, "it was not tried")
        what = {
            "invariance": f"a change of {spec.column} moves",
            "increasing": f"{spec.column} {spec.by or 0:+g} lowers",
            "decreasing": f"{spec.column} {spec.by or 0:+g} raises",
        }[spec.kind]
        yield make.number(
            "behaviour", share,
            f"{spec.name}: {what} {share:.1%} of {seen.rows if seen else 0:,} scores by more than {spec.tolerance:g}, "
            f"may be {spec.max_violations:.1%}{f' ({note})' if note else ''}"
            if number(share) is not None and share is not None else f"{spec.name}: {note or 'no figure'}",
            subject=spec.name, behaviour=spec,
        )  # fmt: skip
        if spec.kind == "invariance":
            continue
        effect = number(seen.effect) if seen else None
        signed = -effect if effect is not None and spec.kind == "decreasing" else effect
        yield make.number(
            "effect", signed,
            f"{spec.name}: {spec.column} {spec.by or 0:+g} moves the mean score by {effect:+.4f}, "
            f"must {'lower' if spec.kind == 'decreasing' else 'raise'} it by more than {spec.min_effect:g}"
            if effect is not None else f"{spec.name}: {note or 'no effect was measured'}",
            subject=spec.name, behaviour=spec,
        )  # fmt: skip


def _serving(make: Checker, e: Evidence) -> Iterator[Check]:
    gate, found = make.gate, e.serving or ServingEvidence(note="no clean process was started")
    parity = number(e.candidate.parity)
    yield make.number(
        "serving form", parity,
        e.candidate.uncompiled or "the serving form was not compared with the recorded model" if parity is None
        else f"the serving form differs from the recorded model by {parity:.1e}, may by {gate.max_parity:.0e}",
    )  # fmt: skip
    loaded = bool(found.form) and not found.note
    yield make.fact(
        "clean process", loaded,
        f"a clean process loaded it as {found.form}" if loaded else f"a clean process could not use it: {found.note}",
    )  # fmt: skip
    if not loaded:
        return
    yield make.fact(
        "requirements", found.mismatches == () and found.requirements > 0,
        f"all {found.requirements} of its locked requirements are installed"
        if found.mismatches == () and found.requirements
        else f"its locked requirements are not met: {', '.join(found.mismatches or ('it names none',))}",
    )  # fmt: skip
    gap = number(found.difference)
    yield make.number(
        "clean predictions", gap,
        f"in a clean process {found.rows} predictions differ by {gap:.1e} from those of the training, "
        f"may by {gate.max_parity:.0e}" if gap is not None else "predictions of the clean process are missing",
    )  # fmt: skip
    size = None if found.model_bytes is None else float(found.model_bytes)
    yield make.number("size", size, f"{show(size, 0)} bytes, may be {gate.max_model_bytes:,}")
    for name, value, unit, bound in (
        ("latency", found.row_ms, "ms for one row", gate.max_row_ms),
        ("batch latency", found.batch_row_ms, "ms a row in a batch", gate.max_batch_row_ms),
        ("memory", found.memory_mb, "MiB at most", gate.max_memory_mb),
    ):
        yield make.number(name, value, f"{show(value, 2)} {unit}, may be {bound:g}")
    for kind in ALTERED:
        refused = found.refused.get(kind, False)
        yield make.fact(
            f"refuses {kind} columns", refused,
            f"the loaded model {'refuses' if refused else 'does not refuse'} {kind} columns",
        )  # fmt: skip
