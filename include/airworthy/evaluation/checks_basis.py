"""Checks of what everything else rests on: the mode, who was measured on what, and that there are numbers at all."""

from __future__ import annotations

from collections.abc import Iterator

from airworthy.evaluation.catalogue import Checker, number
from airworthy.evaluation.metrics import REQUIRED
from airworthy.evaluation.records import Evidence, ModelEvidence
from airworthy.records import Check

SHORT = 12


def basis(make: Checker, e: Evidence) -> Iterator[Check]:
    """Mode, identities, holdout, soundness."""
    yield _mode(make)
    yield from _identity(make, e)
    yield from _holdout(make, e)
    yield from _soundness(make, e)


def short(digest: str | None) -> str:
    """A digest for people."""
    return digest[:SHORT] if digest else "none"


def _mode(make: Checker) -> Check:
    words = {
        "enabled": "the gate is enabled",
        "dry_run": "the gate is on dry run: it measures and never passes",
        "disabled": "the gate is disabled: it refuses everything",
    }[make.gate.mode]
    return make.fact("mode", make.gate.mode == "enabled", words)


def _identity(make: Checker, e: Evidence) -> Iterator[Check]:
    scored, asked = e.candidate.digest, e.candidate_asked
    yield make.fact(
        "candidate identity", scored == asked, f"scored as candidate: {short(scored)}, asked about: {short(asked)}"
    )
    champion = e.champion.digest if e.champion else None
    yield make.fact(
        "champion identity",
        champion == e.champion_asked and e.champion_release == e.champion_in_log,
        f"scored as champion: {short(champion)} of release {short(e.champion_release)}, "
        f"by the promotion log: {short(e.champion_asked)} of release {short(e.champion_in_log)}",
    )
    if e.champion is not None:
        same = e.champion.digest == e.candidate.digest
        yield make.fact(
            "different models", not same, "the candidate is the champion itself" if same else "two different models"
        )


def _holdout(make: Checker, e: Evidence) -> Iterator[Check]:
    yield make.number(
        "holdout rows", e.holdout_rows,
        f"the holdout has {e.holdout_rows:,} rows, needs at least {make.gate.min_holdout_rows:g}",
    )  # fmt: skip
    yield make.fact(
        "holdout bounds", e.holdout_start < e.holdout_end,
        f"the holdout reaches from {e.holdout_start:%Y-%m-%d %H:%M} to {e.holdout_end:%Y-%m-%d %H:%M}",
    )  # fmt: skip
    for role, model in _models(e):
        until = model.trained_until
        yield make.fact(
            f"{role} trained before holdout",
            until is not None and until <= e.holdout_start,
            f"the {role} learned from rows up to {until:%Y-%m-%d %H:%M}, "
            f"the holdout starts {e.holdout_start:%Y-%m-%d %H:%M}"
            if until is not None
            else f"nobody knows which rows the {role} learned from",
        )


def _soundness(make: Checker, e: Evidence) -> Iterator[Check]:
    for role, model in _models(e):
        if role == "champion" and waived(make, e):
            continue
        yield make.fact(
            f"{role} scores", model.finite and model.scored == e.holdout_rows,
            f"the {role} gave {model.scored:,} scores for {e.holdout_rows:,} rows"
            + ("" if model.finite else f", {model.note or 'not all finite'}"),
        )  # fmt: skip
    yield make.fact(
        "parameters",
        e.not_finite == (),
        "nobody looked at the parameters" if e.not_finite is None
        else f"not a finite number: {', '.join(e.not_finite[:5])}" if e.not_finite
        else "every parameter is a finite number",
    )  # fmt: skip
    missing = [name for name in REQUIRED if number(e.candidate.metrics.get(name)) is None]
    yield make.fact(
        "metrics",
        not missing,
        f"missing or not a number: {', '.join(missing)}" if missing else "every metric is there",
    )


def waived(make: Checker, e: Evidence) -> bool:
    """Whether the spec names this very champion as one to replace, and it could not be scored."""
    named = make.gate.replace_champion
    return bool(
        named and e.champion and e.champion_release and e.champion_release.startswith(named) and not e.champion.scored
    )


def _models(e: Evidence) -> Iterator[tuple[str, ModelEvidence]]:
    yield "candidate", e.candidate
    if e.champion is not None:
        yield "champion", e.champion
