"""The gate refuses, each time for the right reason; and it can pass."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from airworthy.config.gate_spec import Gate
from airworthy.evaluation.gate import decide
from airworthy.evaluation.metrics import REQUIRED, GainInterval
from airworthy.evaluation.records import Evidence, ModelEvidence, SliceEvidence

NAN, INF = math.nan, math.inf
MARCH, APRIL, MAY = (datetime(2013, m, 1, tzinfo=UTC) for m in (3, 4, 5))
GATE = Gate(slices=["origin"], min_slice_rows=300)
GOOD = {
    "roc_auc": 0.742,
    "average_precision": 0.5,
    "log_loss": 0.47,
    "brier": 0.15,
    "expected_cost": 0.5,
    "calibration_error": 0.02,
}


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
        "linear": {},
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
        "slices": alone,
    }
    return evidence(**{**nobody, **changes})


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
        evidence(candidate=with_metric("cand" * 16, roc_auc=0.59), champion=with_metric("cham" * 16, roc_auc=0.5)),
        {"roc_auc"},
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
    "no slices": (evidence(slices=()), {"slices origin"}),
    "first model below the bound": (first(candidate=with_metric("cand" * 16, roc_auc=0.55)), {"roc_auc"}),
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
