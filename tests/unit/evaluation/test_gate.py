"""The gate refuses, each time for the right reason; and it can pass."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from airworthy.config.gate_spec import Behaviour, Gate
from airworthy.errors import ConfigurationError
from airworthy.evaluation.catalogue import KINDS, Checker, Kind, bound_of
from airworthy.evaluation.gate import decide, notes
from airworthy.evaluation.metrics import REQUIRED, GainInterval
from airworthy.evaluation.records import (
    BehaviourEvidence,
    ConvergenceEvidence,
    CostEvidence,
    Evidence,
    ImportanceEvidence,
    ModelEvidence,
    ServingEvidence,
    SliceEvidence,
    StabilityEvidence,
)
from airworthy.records import GroupShare

NAN, INF = math.nan, math.inf
MARCH, APRIL, MAY = (datetime(2013, m, 1, tzinfo=UTC) for m in (3, 4, 5))
GATE = Gate(
    slices=["origin"],
    groups=["origin"],
    behaviours=[
        Behaviour(name="more delay", kind="increasing", column="delay", by=30),
        Behaviour(name="the maker", kind="invariance", column="maker"),
    ],
)
GOOD = {
    "roc_auc": 0.742,
    "average_precision": 0.5,
    "log_loss": 0.47,
    "brier": 0.15,
    "expected_cost": 0.5,
    "calibration_error": 0.02,
}
COST = CostEvidence(threshold=0.25, candidate=0.5, champion=0.52, nothing=0.7, everything=0.75, low=-0.04, high=0.001)
STABLE = StabilityEvidence(roc_auc=(0.74, 0.742, 0.739), rows=20_000)
CONVERGED = ConvergenceEvidence(losses=(0.55, 0.5, 0.45), batch_rows=128, batch_gain=0.8)
SERVED = ServingEvidence(
    form="TreeScorer", mismatches=(), requirements=6, difference=1e-15, rows=200, model_bytes=2_000_000, row_ms=0.1,
    batch_row_ms=0.05, memory_mb=125.0, refused={"missing": True, "renamed": True, "permuted": True},
)  # fmt: skip


def model(digest: str, **changes: Any) -> ModelEvidence:
    values = {
        "digest": digest,
        "trained_until": APRIL,
        "metrics": GOOD,
        "scored": 8000,
        "finite": True,
        "parity": 1e-12,
    }
    return ModelEvidence(**{**values, **changes})


def with_metric(digest: str, **values: float | None) -> ModelEvidence:
    return model(digest, metrics={**GOOD, **values})


def evidence(**changes: Any) -> Evidence:
    """Evidence of a candidate that is better than the champion everywhere."""
    values = {
        "candidate": model("cand" * 16),
        "champion": model("cham" * 16, metrics={**GOOD, "roc_auc": 0.731}, parity=None, trained_until=MARCH),
        "candidate_asked": "cand" * 16,
        "champion_asked": "cham" * 16,
        "champion_release": "rele" * 16,
        "champion_in_log": "rele" * 16,
        "prior": {"log_loss": 0.54, "roc_auc": 0.5},
        "rule": {"roc_auc": 0.6},
        "rule_columns": ("carrier", "hour"),
        "linear": {"roc_auc": 0.7},
        "cost": COST,
        "groups": (
            GroupShare(column="origin", value="EWR", rows=4000, selection=0.3, hits=0.6, false_alarms=0.2),
            GroupShare(column="origin", value="LGA", rows=812, selection=0.25, hits=0.55, false_alarms=0.18),
            GroupShare(column="origin", value="JFK", rows=100, selection=1.0, hits=0.0, false_alarms=None),
        ),
        "not_finite": (),
        "stability": STABLE,
        "convergence": CONVERGED,
        "behaviours": (
            BehaviourEvidence(name="more delay", rows=2000, violations=0.0, effect=0.05),
            BehaviourEvidence(name="the maker", rows=2000, violations=0.0, effect=0.0),
        ),
        "serving": SERVED,
        "gain": GainInterval(low=0.004, high=0.018, confidence=0.95, resamples=200),
        "slices": (
            SliceEvidence(column="origin", value="EWR", rows=4000, candidate=0.74, champion=0.73),
            SliceEvidence(column="origin", value="LGA", rows=812, candidate=0.71, champion=0.72),
            SliceEvidence(column="origin", value="JFK", rows=100, candidate=0.4, champion=0.9),
        ),
        "holdout_rows": 8000,
        "holdout_start": APRIL,
        "holdout_end": MAY,
    }
    return Evidence(**{**values, **changes})


def first(**changes: Any) -> Evidence:
    """Evidence of a candidate that has no champion before it."""
    alone = tuple(s.model_copy(update={"champion": None}) for s in evidence().slices)
    nobody = {
        "champion": None,
        "champion_asked": None,
        "champion_release": None,
        "champion_in_log": None,
        "gain": None,
        "cost": changed(COST, champion=None, low=None, high=None),
        "slices": alone,
    }
    return evidence(**{**nobody, **changes})


def changed(record: Any, **values: Any) -> Any:
    return record.model_copy(update=values)


def group(**values: Any) -> tuple[GroupShare, ...]:
    first_group, *others = evidence().groups
    return (changed(first_group, **values), *others)


def failed(checks) -> set[str]:
    return {c.name for c in checks if not c.passed}


def test_a_better_candidate_passes():
    decision, checks, summary = decide(GATE, evidence())
    assert decision == "pass"
    assert failed(checks) == set()
    assert "ROC AUC 0.742 against champion 0.731: above by 0.0110, needs at least +0.001" in summary
    assert {"gain over champion", "gain is no accident", "slice origin=LGA", "calibration", "gain over prior"} <= {
        c.name for c in checks
    }
    assert "slice origin=JFK" not in {c.name for c in checks}  # too small: reported, not judged


def test_the_first_model_passes_on_its_own_explicit_path():
    decision, checks, summary = decide(GATE, first())
    assert decision == "pass"
    assert "no champion yet" in {c.name for c in checks}
    assert "no champion yet" in summary


REFUSED = {
    "equal models": (evidence(candidate=model("cham" * 16), candidate_asked="cham" * 16), {"different models"}),
    "worse": (evidence(candidate=with_metric("cand" * 16, roc_auc=0.72)), {"gain over champion"}),
    "tie": (evidence(candidate=with_metric("cand" * 16, roc_auc=0.731)), {"gain over champion"}),
    "gain too small": (evidence(candidate=with_metric("cand" * 16, roc_auc=0.7315)), {"gain over champion"}),
    "gain by accident": (
        evidence(gain=GainInterval(low=-0.02, high=0.04, confidence=0.95, resamples=200)),
        {"gain is no accident"},
    ),
    "gain of NaN": (
        evidence(gain=GainInterval(low=NAN, high=NAN, confidence=0.95, resamples=200)),
        {"gain is no accident"},
    ),
    "no interval": (evidence(gain=None), {"gain is no accident"}),
    "roles swapped": (
        evidence(candidate=model("cham" * 16), champion=with_metric("cand" * 16, roc_auc=0.731)),
        {"candidate identity", "champion identity"},
    ),
    "another candidate": (evidence(candidate_asked="else" * 16), {"candidate identity"}),
    "champion changed": (evidence(champion_asked="newc" * 16, champion_in_log="newr" * 16), {"champion identity"}),
    "champion released again": (evidence(champion_in_log="newr" * 16), {"champion identity"}),
    "champion gone": (evidence(champion_asked=None, champion_in_log=None), {"champion identity"}),
    "champion not scored": (evidence(champion=None, champion_release=None), {"champion identity", "no champion yet"}),
    "empty holdout": (
        evidence(holdout_rows=0, candidate=model("cand" * 16, scored=0, finite=False, metrics=dict.fromkeys(REQUIRED))),
        {
            "holdout rows",
            "metrics",
            "candidate scores",
            "champion scores",
            "roc_auc",
            "gain over prior",
            "gain over rule",
            "gain over linear",
            "calibration",
            "gain over champion",
        },
    ),
    "small holdout": (
        evidence(
            holdout_rows=499,
            candidate=model("cand" * 16, scored=499),
            champion=with_metric("cham" * 16, roc_auc=0.7).model_copy(update={"scored": 499}),
        ),
        {"holdout rows"},
    ),
    "holdout without time": (evidence(holdout_end=APRIL), {"holdout bounds"}),
    "candidate saw the holdout": (
        evidence(candidate=model("cand" * 16, trained_until=datetime(2013, 4, 1, 0, 0, 1, tzinfo=UTC))),
        {"candidate trained before holdout"},
    ),
    "champion saw the holdout": (
        evidence(champion=model("cham" * 16, metrics={**GOOD, "roc_auc": 0.7}, trained_until=MAY)),
        {"champion trained before holdout"},
    ),
    "nobody knows what the champion saw": (
        evidence(champion=model("cham" * 16, metrics={**GOOD, "roc_auc": 0.7}, trained_until=None)),
        {"champion trained before holdout"},
    ),
    "infinite scores": (evidence(candidate=model("cand" * 16, finite=False)), {"candidate scores"}),
    "champion's scores infinite": (
        evidence(champion=with_metric("cham" * 16, roc_auc=0.7).model_copy(update={"finite": False})),
        {"champion scores"},
    ),
    "scores missing": (evidence(candidate=model("cand" * 16, scored=7999)), {"candidate scores"}),
    "serving form differs": (evidence(candidate=model("cand" * 16, parity=1e-3)), {"serving form"}),
    "serving form NaN": (evidence(candidate=model("cand" * 16, parity=NAN)), {"serving form"}),
    "serving form not compared": (evidence(candidate=model("cand" * 16, parity=None)), {"serving form"}),
    "below the absolute bound": (
        evidence(
            candidate=with_metric("cand" * 16, roc_auc=0.59),
            champion=with_metric("cham" * 16, roc_auc=0.5),
            linear={"roc_auc": 0.5},
        ),
        {"roc_auc", "gain over rule"},
    ),
    "worse than prior": (evidence(candidate=with_metric("cand" * 16, log_loss=0.56)), {"gain over prior"}),
    "no better than prior": (evidence(candidate=with_metric("cand" * 16, log_loss=0.54)), {"gain over prior"}),
    "prior missing": (evidence(prior={}), {"gain over prior"}),
    "miscalibrated": (evidence(candidate=with_metric("cand" * 16, calibration_error=0.11)), {"calibration"}),
    "champion without a figure": (evidence(champion=with_metric("cham" * 16, roc_auc=None)), {"gain over champion"}),
    "champion's figure NaN": (evidence(champion=with_metric("cham" * 16, roc_auc=NAN)), {"gain over champion"}),
    "slice regression": (
        evidence(slices=(SliceEvidence(column="origin", value="LGA", rows=812, candidate=0.68, champion=0.72),)),
        {"slice origin=LGA"},
    ),
    "slice below its bound": (
        evidence(slices=(SliceEvidence(column="origin", value="LGA", rows=812, candidate=0.54, champion=0.55),)),
        {"slice origin=LGA"},
    ),
    "slice without a figure": (
        evidence(slices=(SliceEvidence(column="origin", value="LGA", rows=812, candidate=None, champion=0.72),)),
        {"slice origin=LGA"},
    ),
    "slice NaN": (
        evidence(slices=(SliceEvidence(column="origin", value="LGA", rows=812, candidate=NAN, champion=0.72),)),
        {"slice origin=LGA"},
    ),
    "slice of the champion without a figure": (
        evidence(slices=(SliceEvidence(column="origin", value="LGA", rows=812, candidate=0.74, champion=None),)),
        {"slice origin=LGA"},
    ),
    "no better than the rule": (evidence(rule={"roc_auc": 0.741}), {"gain over rule"}),
    "rule missing": (evidence(rule={}), {"gain over rule"}),
    "worse than the linear model": (evidence(linear={"roc_auc": 0.763}), {"gain over linear"}),
    "linear model missing": (evidence(linear={}), {"gain over linear"}),
    "parameter not finite": (evidence(not_finite=("scorer.tree[3].leaf_value",)), {"parameters"}),
    "parameters not looked at": (evidence(not_finite=None), {"parameters"}),
    "costs more than the champion": (
        evidence(cost=changed(COST, candidate=0.54, low=0.0, high=0.03)),
        {"cost against champion"},
    ),
    "could cost much more": (evidence(cost=changed(COST, high=0.06)), {"cost is no accident"}),
    "cost interval missing": (evidence(cost=changed(COST, high=None)), {"cost is no accident"}),
    "no cheaper than acting on everything": (
        evidence(cost=changed(COST, everything=0.5)),
        {"cost saving"},
    ),
    "cost missing": (evidence(cost=None), {"cost saving", "cost against champion", "cost is no accident"}),
    "one group is selected more": (evidence(groups=group(selection=0.7)), {"fairness selection by origin"}),
    "one group is not found": (evidence(groups=group(hits=0.1)), {"fairness hits by origin"}),
    "one group bears the false alarms": (
        evidence(groups=group(false_alarms=0.6)),
        {"fairness false alarms by origin"},
    ),
    "a group's share is missing": (evidence(groups=group(hits=None)), {"fairness hits by origin"}),
    "one group only": (evidence(groups=evidence().groups[:1]), {"groups origin"}),
    "no groups": (evidence(groups=()), {"groups origin"}),
    "hangs on its seed": (evidence(stability=changed(STABLE, roc_auc=(0.74, 0.71))), {"stability"}),
    "a refit without a figure": (evidence(stability=changed(STABLE, roc_auc=(0.74, NAN))), {"stability"}),
    "not refitted": (evidence(stability=None), {"stability"}),
    "loss rises": (
        evidence(convergence=changed(CONVERGED, losses=(0.5, 0.45, 0.6))),
        {"training loss falls", "training loss ends low"},
    ),
    "loss diverges at the end": (
        evidence(convergence=changed(CONVERGED, losses=(0.55, 0.4, 0.41))),
        {"training loss ends low"},
    ),
    "loss is no number": (
        evidence(convergence=changed(CONVERGED, losses=(0.5, NAN))),
        {"training loss falls", "training loss ends low"},
    ),
    "solver ran out": (evidence(convergence=changed(CONVERGED, iterations=300, allowed=300)), {"solver stopped"}),
    "cannot learn a few rows": (evidence(convergence=changed(CONVERGED, batch_gain=0.01)), {"tiny batch"}),
    "convergence not looked at": (
        evidence(convergence=None),
        {"training loss falls", "training loss ends low", "tiny batch"},
    ),
    "delay lowers the risk": (
        evidence(behaviours=(changed(evidence().behaviours[0], violations=0.3), evidence().behaviours[1])),
        {"behaviour more delay"},
    ),
    "ignores the delay": (
        evidence(behaviours=(changed(evidence().behaviours[0], effect=0.0), evidence().behaviours[1])),
        {"effect more delay"},
    ),
    "depends on the maker": (
        evidence(behaviours=(evidence().behaviours[0], changed(evidence().behaviours[1], violations=0.01))),
        {"behaviour the maker"},
    ),
    "behaviours not tried": (
        evidence(behaviours=()),
        {"behaviour more delay", "effect more delay", "behaviour the maker"},
    ),
    "no clean process": (evidence(serving=None), {"clean process"}),
    "clean process failed": (evidence(serving=ServingEvidence(note="it ended with code 1")), {"clean process"}),
    "requirements not met": (
        evidence(serving=changed(SERVED, mismatches=("numpy 1.0 is 2.4",))),
        {"requirements"},
    ),
    "requires nothing": (evidence(serving=changed(SERVED, requirements=0)), {"requirements"}),
    "other answers elsewhere": (evidence(serving=changed(SERVED, difference=1e-4)), {"clean predictions"}),
    "no answers elsewhere": (evidence(serving=changed(SERVED, difference=None)), {"clean predictions"}),
    "too large": (evidence(serving=changed(SERVED, model_bytes=100_000_001)), {"size"}),
    "too slow": (evidence(serving=changed(SERVED, row_ms=25.1)), {"latency"}),
    "too slow in a batch": (evidence(serving=changed(SERVED, batch_row_ms=5.1)), {"batch latency"}),
    "too much memory": (evidence(serving=changed(SERVED, memory_mb=1025.0)), {"memory"}),
    "guesses missing columns": (
        evidence(serving=changed(SERVED, refused={"missing": False, "renamed": True, "permuted": True})),
        {"refuses missing columns"},
    ),
    "renamed columns not tried": (
        evidence(serving=changed(SERVED, refused={"missing": True, "permuted": True})),
        {"refuses renamed columns"},
    ),
    "takes permuted columns": (
        evidence(serving=changed(SERVED, refused={"missing": True, "renamed": True, "permuted": False})),
        {"refuses permuted columns"},
    ),
    "no slices": (evidence(slices=()), {"slices origin"}),
    "first model below the bound": (
        first(candidate=with_metric("cand" * 16, roc_auc=0.55), rule={"roc_auc": 0.5}, linear={"roc_auc": 0.55}),
        {"roc_auc"},
    ),
    "first model no better than prior": (first(candidate=with_metric("cand" * 16, log_loss=0.54)), {"gain over prior"}),
    "first model on a seen holdout": (
        first(candidate=model("cand" * 16, trained_until=MAY)),
        {"candidate trained before holdout"},
    ),
    "not the first model": (
        first(champion_in_log="rele" * 16, champion_asked="cham" * 16),
        {"no champion yet", "champion identity"},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_gate_refuses_for_the_right_reason(case):
    given, reasons = REFUSED[case]
    decision, checks, summary = decide(GATE, given)
    assert decision == "refuse"
    names = failed(checks)
    assert names == reasons
    for check in checks:
        assert check.words
        assert check.reason
        assert check.value is None or math.isfinite(check.value)
        assert check.words in summary or check.passed


@pytest.mark.parametrize("metric", REQUIRED)
@pytest.mark.parametrize("value", [None, NAN, INF, -INF])
@pytest.mark.parametrize("make", [evidence, first])
def test_a_metric_that_is_missing_or_no_number_refuses(metric, value, make):
    decision, checks, _ = decide(GATE, make(candidate=with_metric("cand" * 16, **{metric: value})))
    assert decision == "refuse"
    assert "metrics" in failed(checks)
    gone = {n: v for n, v in GOOD.items() if n != metric}
    assert decide(GATE, make(candidate=model("cand" * 16, metrics=gone)))[0] == "refuse"


@pytest.mark.parametrize("mode", ["dry_run", "disabled"])
@pytest.mark.parametrize("make", [evidence, first])
def test_a_gate_that_is_not_enabled_never_passes(mode, make):
    decision, checks, summary = decide(GATE.model_copy(update={"mode": mode}), make())
    assert decision == "refuse"
    assert failed(checks) == {"mode"}
    assert mode.replace("_", " ") in summary


def test_the_words_say_what_the_operator_needs():
    given = evidence(
        champion=with_metric("cham" * 16, roc_auc=0.748),
        slices=(SliceEvidence(column="origin", value="LGA", rows=812, candidate=0.68, champion=0.75),),
    )
    _, _, summary = decide(GATE, given)
    assert "ROC AUC 0.742 against champion 0.748: below by 0.0060, needs at least +0.001" in summary
    assert "slice origin=LGA n=812: ROC AUC 0.680 against champion 0.750, needs 0.720" in summary


def test_a_tie_says_that_it_is_one():
    _, _, summary = decide(GATE, evidence(candidate=with_metric("cand" * 16, roc_auc=0.731)))
    assert "equal, needs at least +0.001" in summary


def test_every_check_comes_from_the_catalogue_with_a_bound_and_a_reason():
    checks = [*decide(GATE, evidence())[1], *decide(GATE, first())[1]]
    kinds = sorted((k.name for k in KINDS), key=len, reverse=True)
    seen = {next(k for k in kinds if c.name == k or c.name.startswith(f"{k} ")) for c in checks}
    assert all(c.bound is not None and math.isfinite(c.bound) for c in checks)
    # The rest is asked only of what has iterations, or when a champion is waived.
    assert {k.name for k in KINDS} - seen == {"solver stopped", "champion waived"}


def test_a_check_without_a_bound_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match=r"gate\.min_roc_auc is None"):
        decide(GATE.model_copy(update={"min_roc_auc": None}), evidence())
    with pytest.raises(ConfigurationError, match=r"gate\.max_hit_gap is nan"):
        decide(GATE.model_copy(update={"max_hit_gap": NAN}), evidence())
    endless = GATE.behaviours[0].model_copy(update={"max_violations": INF})
    with pytest.raises(ConfigurationError, match=r"behaviours\.max_violations is inf"):
        decide(GATE.model_copy(update={"behaviours": [endless]}), evidence())
    with pytest.raises(ConfigurationError, match="'shoe size' is not in the catalogue"):
        Checker(GATE).number("shoe size", 44.0, "the shoe size is 44")
    with pytest.raises(ConfigurationError, match=r"gate\.max_shoe_size is None"):
        bound_of(Kind("shoe size", "at most", "max_shoe_size", "nobody knows"), GATE)


def test_every_bound_has_a_default():
    for kind in KINDS:
        assert math.isfinite(bound_of(kind, Gate(), Behaviour(name="b", kind="increasing", column="c", by=1)))


def test_notes_say_when_machine_learning_is_not_worth_it():
    assert notes(GATE, evidence()) == ()
    said = notes(GATE, evidence(linear={"roc_auc": 0.741}))
    assert said == ("machine learning is not worth it here: the linear model is as good (0.741 against 0.742)",)
    assert notes(GATE, evidence(linear={"roc_auc": 0.741}, candidate_is_linear=True)) == ()
    assert decide(GATE, evidence(linear={"roc_auc": 0.741}))[0] == "pass"


def test_notes_name_features_that_add_nothing():
    found = (
        ImportanceEvidence(column="delay", mean=0.05, low=0.04, high=0.06),
        ImportanceEvidence(column="maker", mean=0.0, low=-0.001, high=0.001),
    )
    assert notes(GATE, evidence(importance=found)) == (
        "1 of 2 features add nothing that can be told from chance on the holdout: maker",
    )


def unscored(release: str = "abcd" * 16) -> Evidence:
    """Evidence whose champion reads features that are gone."""
    blind = model("cham" * 16, metrics=dict.fromkeys(REQUIRED), scored=0, finite=False, note="its features are gone")
    return evidence(champion=blind, gain=None, champion_release=release, champion_in_log=release)


def test_a_champion_that_cannot_be_scored_refuses_until_it_is_named():
    decision, checks, summary = decide(GATE, unscored())
    assert decision == "refuse"
    assert {"champion scores", "gain over champion", "gain is no accident"} <= failed(checks)
    assert "its features are gone" in summary
    # Named by its digest it is replaced, and the verdict says so.
    decision, checks, summary = decide(GATE.model_copy(update={"replace_champion": "abcd" * 4}), unscored())
    assert (decision, failed(checks)) == ("pass", set())
    assert "gate.replace_champion names it" in summary
    # Another champion is not, nor one that can be scored.
    assert decide(GATE.model_copy(update={"replace_champion": "ffff" * 4}), unscored())[0] == "refuse"
    worse = evidence(candidate=with_metric("cand" * 16, roc_auc=0.72), champion_release="abcd" * 16)
    worse = changed(worse, champion_in_log="abcd" * 16)
    assert failed(decide(GATE.model_copy(update={"replace_champion": "abcd" * 4}), worse)[1]) == {"gain over champion"}
