"""From a fitted estimator to its compiled form, held against ``predict_proba``.

A classifier without a compiled form is recorded all the same, so that the gate can measure it and refuse it by name:
:class:`RecordedScorer` stands in for the form that it does not have, and is never given to the service.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np

from airworthy.errors import ReleaseError
from airworthy.training.scorer import (
    NONE,
    Calibrated,
    CalibratedScorer,
    LinearScorer,
    Member,
    NoCompiledFormError,
    Scorer,
    TreeScorer,
    VotingScorer,
)

PARITY = 1e-9
HISTOGRAM_TREES = frozenset({"HistGradientBoostingClassifier"})
# These read their inputs in single precision, so their compiled form must too.
SINGLE_PRECISION_TREES = frozenset({"RandomForestClassifier", "ExtraTreesClassifier", "GradientBoostingClassifier"})
LINEAR = frozenset({"LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis"})
VOTING = frozenset({"VotingClassifier"})
CALIBRATED = frozenset({"CalibratedClassifierCV"})
COMPILED = HISTOGRAM_TREES | SINGLE_PRECISION_TREES | LINEAR | VOTING | CALIBRATED


class RecordedScorer(Scorer):
    """The recorded estimator in place of the compiled form that it does not have: for the gate alone.

    Args:
        estimator: The fitted classifier.
        width: Columns of the matrix.
        error: Why it has no compiled form.
    """

    def __init__(self, estimator: Any, width: int, error: NoCompiledFormError) -> None:
        self.width = width
        self.error = error
        self._estimator = estimator

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(self._estimator.predict_proba(matrix)[:, 1], dtype=np.float64)

    def to_files(self) -> tuple[bytes, bytes]:
        """``scorer.json``, which says why there is no more, and an empty ``scorer.bin``."""
        about = {"form": NONE, "width": self.width, "why": self.error.what, "next_step": self.error.next_step}
        return json.dumps(about, sort_keys=True, indent=1).encode(), b""


def scorer_of(estimator: Any, width: int) -> Scorer:
    """The compiled form of a fitted classifier; what stands in for it where it has none.

    Raises:
        ReleaseError: it does not know exactly two classes.
    """
    try:
        return compile_scorer(estimator)
    except NoCompiledFormError as error:
        return RecordedScorer(estimator, width, error)


def compile_scorer(estimator: Any) -> Scorer:
    """Compile a fitted binary classifier.

    Raises:
        NoCompiledFormError: no compiled form for its class, or for these arguments of it.
        ReleaseError: it does not know exactly two classes.
    """
    algorithm = type(estimator)
    if len(getattr(estimator, "classes_", ())) != 2:
        raise ReleaseError(
            f"{algorithm.__name__} is not fitted on two classes", next_step="train it on rows with both labels"
        )
    if not algorithm.__module__.startswith("sklearn.") or algorithm.__name__ not in COMPILED:
        raise _no_form(f"{algorithm.__module__}.{algorithm.__qualname__} has no compiled form, so it cannot serve")
    if algorithm.__name__ in VOTING:
        return _compile_vote(estimator)
    if algorithm.__name__ in CALIBRATED:
        return _compile_calibrated(estimator)
    if algorithm.__name__ in LINEAR:
        return LinearScorer(np.asarray(estimator.coef_, dtype=np.float64).ravel(), float(estimator.intercept_[0]))
    import treelite.sklearn

    try:
        with warnings.catch_warnings():
            # The missing category has no number: treelite casts its NaN and numpy warns; the parity check decides.
            warnings.filterwarnings("ignore", "invalid value encountered in cast", RuntimeWarning)
            model = treelite.sklearn.import_model(estimator)
    except (treelite.TreeliteError, NotImplementedError, AssertionError) as error:
        raise _no_form(f"{algorithm.__name__} has no compiled form with these arguments: {str(error)[:300]}") from error
    return TreeScorer(model, int(estimator.n_features_in_), single=algorithm.__name__ in SINGLE_PRECISION_TREES)


def _no_form(what: str) -> NoCompiledFormError:
    return NoCompiledFormError(
        what,
        next_step=f"train one of scikit-learn's {', '.join(sorted(COMPILED))} with arguments that compile "
        "(training.algorithm and training.parameters of use_case.yaml)",
    )


def _compile_vote(estimator: Any) -> Scorer:
    if estimator.voting != "soft":
        raise ReleaseError("a hard vote gives no probabilities", next_step="use voting: soft")
    width, members = int(estimator.n_features_in_), []
    weights = estimator.weights or [1.0] * len(estimator.estimators_)
    for (name, _), fitted, weight in zip(estimator.estimators, estimator.estimators_, weights, strict=True):
        own, model = slice(0, width), fitted
        if hasattr(fitted, "steps"):  # the columns that it takes, then the model
            [(_, _, own), *_], model = fitted[0].transformers_, fitted[-1]
        path = f"{type(model).__module__}.{type(model).__qualname__}"
        members.append(Member(name, path, float(weight), own.start, own.stop, compile_scorer(model)))
    return VotingScorer(tuple(members), width)


def _compile_calibrated(estimator: Any) -> Scorer:
    members = []
    for fitted in estimator.calibrated_classifiers_:
        if fitted.method not in ("isotonic", "sigmoid"):
            raise _no_form(f"calibration by {fitted.method!r} has no compiled form; isotonic and sigmoid have")
        [curve] = fitted.calibrators
        if fitted.method == "sigmoid":
            numbers = np.array([curve.a_, curve.b_], dtype=np.float64)
        else:
            numbers = np.concatenate([curve.X_thresholds_, curve.y_thresholds_]).astype(np.float64)
        # As scikit-learn asks: the decision function where there is one.
        of_margin = hasattr(fitted.estimator, "decision_function")
        members.append(Calibrated(compile_scorer(fitted.estimator), of_margin, fitted.method, numbers))
    return CalibratedScorer(tuple(members), int(estimator.n_features_in_))


def check_parity(scorer: Scorer, estimator: Any, matrix: np.ndarray) -> np.ndarray:
    """Hold the compiled form against ``predict_proba``; returns the estimator's probabilities.

    Raises:
        ReleaseError: they differ by more than 1e-9 somewhere, or one of them is not a number.
    """
    expected = np.asarray(estimator.predict_proba(matrix)[:, 1], dtype=np.float64)
    difference = np.abs(scorer.predict(matrix) - expected)
    # Written so that NaN, which compares false, is refused.
    wrong = int((~(difference <= PARITY)).sum())
    if wrong:
        raise ReleaseError(
            f"the compiled form of {type(estimator).__name__} differs from predict_proba on {wrong} of {len(matrix)} "
            f"rows, by up to {np.nan_to_num(difference, nan=np.inf).max():.3g}",
            next_step="train with the locked versions of scikit-learn and treelite; if it stays, use another algorithm",
        )
    return expected
