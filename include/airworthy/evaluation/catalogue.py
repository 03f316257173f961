"""Every kind of check with its bound and its reason: what the gate may ask, and what the reference page lists.

A check is made here or not at all: without a kind and a finite bound it is a configuration error, and whatever is
missing or not a number does not pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from airworthy.config.gate_spec import Behaviour, Gate
from airworthy.errors import ConfigurationError
from airworthy.records import Check

Sense = Literal["at least", "at most", "above", "holds"]


@dataclass(frozen=True)
class Kind:
    """A kind of check.

    Attributes:
        name: The check's name, or what it begins with when there is one for each value (``slice origin=LGA``).
        sense: How the value is held against the bound; ``holds``: a fact.
        key: Key in the section ``gate`` of ``use_case.yaml`` (``behaviours.<key>`` within a behaviour); empty for facts.
        reason: Why there is such a bound.
        minus: Whether the bound is the negative of the key's value.
    """

    name: str
    sense: Sense
    key: str
    reason: str
    minus: bool = False


KINDS = (
    Kind("mode", "holds", "", "only an enabled gate may let a model serve"),
    Kind("candidate identity", "holds", "", "the evidence must be about the model that was asked about"),
    Kind("champion identity", "holds", "", "a verdict against a model that is not champion (any more) is stale"),
    Kind("different models", "holds", "", "an equal model cannot be better"),
    Kind("holdout rows", "at least", "min_holdout_rows", "fewer rows are no evidence"),
    Kind("holdout bounds", "holds", "", "it must span some time"),
    Kind("candidate trained before holdout", "holds", "", "a model that has seen the answers is not measured by them"),
    Kind("champion trained before holdout", "holds", "", "a model that has seen the answers is not measured by them"),
    Kind("candidate scores", "holds", "", "every holdout row needs a finite score"),
    Kind("champion scores", "holds", "", "every holdout row needs a finite score"),
    Kind("parameters", "holds", "", "a number that is none spreads, and only sometimes shows"),
    Kind("metrics", "holds", "", "a metric that could not be computed is no evidence"),
    Kind("roc_auc", "at least", "min_roc_auc", "an absolute bound for any model of this use case"),
    Kind("gain over prior", "at least", "min_gain_over_prior", "a model must beat predicting the same rate for everything"),
    Kind("gain over rule", "at least", "min_gain_over_rule", "a rule that anyone can write down needs no training"),
    Kind("gain over linear", "at least", "min_gain_over_linear", "a linear model is cheaper to run and to explain"),
    Kind("calibration", "at most", "max_calibration_error", "decisions are taken at a probability: it must mean what it says"),
    Kind("no champion yet", "holds", "", "only the first model of a use case is judged without a champion"),
    Kind("champion waived", "holds", "", "a champion that cannot be scored any more is replaced only when a person names it"),
    Kind("gain over champion", "at least", "min_gain_over_champion", "a tie keeps the champion"),
    Kind("gain is no accident", "above", "tolerated_loss", "the loss that chance could hide must be one that can be borne", minus=True),
    Kind("cost saving", "at least", "min_saving", "a model must be worth more than acting on nothing, or on everything"),
    Kind("cost against champion", "at most", "max_cost_increase", "a better statistic must not cost the business more"),
    Kind("cost is no accident", "at most", "tolerated_cost_increase", "the cost that chance could hide must be one that can be borne"),
    Kind("slices", "holds", "", "the spec asks for these slices"),
    Kind("slice", "at least", "min_slice_roc_auc", "nobody pays for the gain of the others (max_slice_regression against the champion)"),
    Kind("groups", "holds", "", "the spec asks for these groups"),
    Kind("fairness selection", "at most", "max_selection_gap", "groups are acted on alike"),
    Kind("fairness hits", "at most", "max_hit_gap", "what is true is found in each group alike"),
    Kind("fairness false alarms", "at most", "max_false_alarm_gap", "no group bears the false alarms of the others"),
    Kind("stability", "at most", "max_seed_spread", "a model that hangs on its seed was lucky"),
    Kind("training loss falls", "at least", "min_loss_fall", "an algorithm that learns nothing from its rows is broken"),
    Kind("training loss ends low", "at most", "max_loss_rise", "a loss that rises at the end has diverged"),
    Kind("solver stopped", "holds", "", "a solver that ran out of iterations has not found its answer"),
    Kind("tiny batch", "at least", "min_tiny_batch_gain", "an algorithm that cannot learn a few rows by heart is broken"),
    Kind("behaviour", "at most", "behaviours.max_violations", "what people know of the problem must hold for the model"),
    Kind("effect", "above", "behaviours.min_effect", "a model that ignores what matters has not learned it"),
    Kind("serving form", "at most", "max_parity", "what is judged must be what serves: compiled, and fed one request at a time"),
    Kind("clean process", "holds", "", "what cannot be loaded from its files alone cannot serve"),
    Kind("requirements", "holds", "", "a release must run on what it says that it needs"),
    Kind("clean predictions", "at most", "max_parity", "another process must give the answers of the training"),
    Kind("size", "at most", "max_model_bytes", "every worker loads it, and every release keeps it"),
    Kind("latency", "at most", "max_row_ms", "an answer in time is part of the answer"),
    Kind("batch latency", "at most", "max_batch_row_ms", "a day is scored in one go"),
    Kind("memory", "at most", "max_memory_mb", "several workers share a machine"),
    Kind("refuses missing columns", "holds", "", "an input that is not there must not be guessed"),
    Kind("refuses renamed columns", "holds", "", "another column is not the one that was learned from"),
    Kind("refuses permuted columns", "holds", "", "columns in another order are other inputs"),
)  # fmt: skip

_BY_NAME = {kind.name: kind for kind in KINDS}


def bound_of(kind: Kind, gate: Gate, behaviour: Behaviour | None = None) -> float:
    """The bound that the spec gives a kind of check; 1 for a fact.

    Raises:
        ConfigurationError: the schema has no such key, or the value is no finite number.
    """
    if kind.sense == "holds":
        return 1.0
    section, _, key = kind.key.rpartition(".")
    value = getattr(behaviour if section else gate, key, None)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ConfigurationError(
            f"check {kind.name!r} has no bound: gate.{kind.key} is {value!r}",
            next_step=f"give gate.{kind.key} a number in use_case.yaml; a check without a bound decides nothing",
        )
    return -float(value) if kind.minus else float(value)


class Checker:
    """Makes the checks of one verdict.

    Args:
        gate: The use case's bounds.

    Raises:
        ConfigurationError: one of them is missing or no finite number.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        for kind in KINDS:
            if not kind.key.startswith("behaviours."):
                bound_of(kind, gate)
            else:
                for behaviour in gate.behaviours:
                    bound_of(kind, gate, behaviour)

    def bound(self, name: str, behaviour: Behaviour | None = None) -> float:
        """The bound of a kind of check, by its name. Raises ConfigurationError when it has none."""
        return bound_of(kind_of(name), self.gate, behaviour)

    def fact(self, name: str, passed: bool, words: str, subject: str = "") -> Check:
        """A check of what is so or not so."""
        return _check(kind_of(name), subject, float(passed), 1.0, words, also=passed)

    def number(
        self,
        name: str,
        value: float | None,
        words: str,
        *,
        subject: str = "",
        bound: float | None = None,
        behaviour: Behaviour | None = None,
        also: bool = True,
    ) -> Check:
        """A check of a number against its bound.

        Args:
            name: Of the kind.
            value: What was measured; None, NaN and infinity fail.
            words: What was found, in plain words.
            subject: What the check is about, when there are several of the kind.
            bound: Another than the spec's (stricter by what the champion can do).
            behaviour: Holds the bound of a behaviour's checks.
            also: What must hold besides.
        """
        kind = kind_of(name)
        given = bound_of(kind, self.gate, behaviour)
        return _check(kind, subject, number(value), given if bound is None else bound, words, also=also)


def kind_of(name: str) -> Kind:
    """A kind by its name. Raises ConfigurationError: a check of no kind has no bound and no reason."""
    if name not in _BY_NAME:
        raise ConfigurationError(
            f"check {name!r} is not in the catalogue",
            next_step="add its bound and its reason to evaluation/catalogue.py",
        )
    return _BY_NAME[name]


def number(value: float | None) -> float | None:
    """The value if it is a finite number."""
    return value if value is not None and math.isfinite(value) else None


def show(value: float | None, digits: int = 3) -> str:
    """A number for people."""
    return "missing" if number(value) is None else f"{value:,.{digits}f}"


def _check(kind: Kind, subject: str, value: float | None, bound: float, words: str, *, also: bool) -> Check:
    if not math.isfinite(bound):
        raise ConfigurationError(f"check {kind.name!r} has no bound", next_step=f"correct gate.{kind.key}")
    holds = value is not None and {
        "at least": value >= bound, "holds": value >= bound, "at most": value <= bound, "above": value > bound,
    }[kind.sense]  # fmt: skip
    return Check(
        name=f"{kind.name} {subject}".rstrip(), value=value, bound=bound, reason=kind.reason, passed=holds and also,
        words=words,
    )  # fmt: skip
