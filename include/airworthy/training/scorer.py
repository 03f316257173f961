"""The scorer: a model's compiled form, which answers requests.

Trees run in treelite, linear models as arrays; a soft-voting ensemble is its members' scorers and their weights.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from airworthy.errors import ReleaseError

PARITY = 1e-9
HISTOGRAM_TREES = frozenset({"HistGradientBoostingClassifier"})
# These read their inputs in single precision, so their compiled form must too.
SINGLE_PRECISION_TREES = frozenset({"RandomForestClassifier", "ExtraTreesClassifier", "GradientBoostingClassifier"})
LINEAR = frozenset({"LogisticRegression"})
VOTING = frozenset({"VotingClassifier"})
COMPILED = HISTOGRAM_TREES | SINGLE_PRECISION_TREES | LINEAR | VOTING


class Scorer(ABC):
    """A compiled binary classifier. Safe to share between threads.

    Attributes:
        width: Columns of the matrix that it reads.
    """

    width: int

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Probability of the positive label.

        Args:
            matrix: float64 [rows, width], NaN where nothing is known (as the encoder wrote it).

        Returns:
            float64 [rows].

        Raises:
            ReleaseError: the matrix does not have this model's columns.
        """
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise ReleaseError(
                f"the model reads {self.width} columns, the matrix has the shape {matrix.shape}",
                next_step="encode the features with the encoder of the same release",
            )
        if not len(matrix):
            return np.empty(0)
        return self._score(np.ascontiguousarray(matrix, dtype=np.float64))

    @abstractmethod
    def _score(self, matrix: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def to_files(self) -> tuple[bytes, bytes]:
        """``scorer.json`` and ``scorer.bin``."""


class TreeScorer(Scorer):
    """Trees in treelite's general interpreter.

    Args:
        model: The treelite model.
        width: Columns of the matrix.
        single: Whether inputs are rounded to single precision first.
    """

    def __init__(self, model: Any, width: int, *, single: bool) -> None:
        self.width = width
        self._model = model
        self._single = single

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        from treelite import gtil

        if self._single:
            with np.errstate(over="ignore"):
                matrix = matrix.astype(np.float32).astype(np.float64)
        # One thread: a request has one row, and workers and tasks already fill the cores.
        scores = gtil.predict(self._model, matrix, nthread=1)
        return np.asarray(scores, dtype=np.float64).reshape(len(matrix), -1)[:, -1]

    def to_files(self) -> tuple[bytes, bytes]:
        """``scorer.json`` and ``scorer.bin``."""
        about = {"form": "treelite", "treelite": version("treelite"), "width": self.width, "single": self._single}
        return _json(about), bytes(self._model.serialize_bytes())


class LinearScorer(Scorer):
    """A logistic regression: coefficients and intercept.

    Args:
        coefficients: float64 [width].
        intercept: The intercept.
    """

    def __init__(self, coefficients: np.ndarray, intercept: float) -> None:
        self.width = len(coefficients)
        self._coefficients = coefficients
        self._intercept = intercept

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        return np.asarray(expit(matrix @ self._coefficients + self._intercept), dtype=np.float64)

    def to_files(self) -> tuple[bytes, bytes]:
        """``scorer.json`` and ``scorer.bin``."""
        return _json({"form": "linear", "width": self.width}), np.append(self._coefficients, self._intercept).astype(
            "<f8"
        ).tobytes()


@dataclass(frozen=True)
class Member:
    """A member of an ensemble.

    Attributes:
        name, algorithm: As the specification has them; the algorithm as an import path.
        weight: Share of its vote, before they are made to sum to one.
        start, stop: The columns of the matrix that it reads.
        scorer: Its compiled form.
    """

    name: str
    algorithm: str
    weight: float
    start: int
    stop: int
    scorer: Scorer


class VotingScorer(Scorer):
    """A soft vote: the mean of the members' probabilities by weight.

    Args:
        members: One or more.
        width: Columns of the matrix.
    """

    def __init__(self, members: tuple[Member, ...], width: int) -> None:
        self.width = width
        self.members = members

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        votes = [m.scorer.predict(matrix[:, m.start : m.stop]) for m in self.members]
        return np.asarray(np.average(votes, axis=0, weights=[m.weight for m in self.members]), dtype=np.float64)

    def to_files(self) -> tuple[bytes, bytes]:
        """``scorer.json`` and ``scorer.bin``: the members' facts, and their binaries one after the other."""
        about, content = [], b""
        for m in self.members:
            facts, binary = m.scorer.to_files()
            about.append(
                {
                    "name": m.name, "algorithm": m.algorithm, "scikit-learn": version("scikit-learn"),
                    "weight": m.weight, "columns": [m.start, m.stop], "bytes": len(binary), "scorer": json.loads(facts),
                }
            )  # fmt: skip
            content += binary
        return _json({"form": "soft_voting", "width": self.width, "members": about}), content


def has_compiled_form(algorithm: type) -> bool:
    """Whether a fitted estimator of exactly this class can be compiled."""
    return algorithm.__module__.startswith("sklearn.") and algorithm.__name__ in COMPILED


def require_compiled_form(algorithm: type) -> None:
    """Raise ReleaseError when there is no compiled form: such a model could never serve."""
    if not has_compiled_form(algorithm):
        raise ReleaseError(
            f"{algorithm.__module__}.{algorithm.__qualname__} has no compiled form, so it cannot be released",
            next_step=f"use one of scikit-learn's {', '.join(sorted(COMPILED))}",
        )


def compile_scorer(estimator: Any) -> Scorer:
    """Compile a fitted binary classifier.

    Raises:
        ReleaseError: no compiled form for it, or it does not know exactly two classes.
    """
    algorithm = type(estimator)
    require_compiled_form(algorithm)
    if len(getattr(estimator, "classes_", ())) != 2:
        raise ReleaseError(
            f"{algorithm.__name__} is not fitted on two classes", next_step="train it on rows with both labels"
        )
    if algorithm.__name__ in VOTING:
        return _compile_vote(estimator)
    if algorithm.__name__ in LINEAR:
        return LinearScorer(np.asarray(estimator.coef_, dtype=np.float64).ravel(), float(estimator.intercept_[0]))
    import treelite.sklearn

    try:
        with warnings.catch_warnings():
            # The missing category has no number: treelite casts its NaN and numpy warns; the parity check decides.
            warnings.filterwarnings("ignore", "invalid value encountered in cast", RuntimeWarning)
            model = treelite.sklearn.import_model(estimator)
    except (treelite.TreeliteError, NotImplementedError, AssertionError) as error:
        raise ReleaseError(
            f"{algorithm.__name__} has no compiled form with these arguments: {error}",
            next_step="choose other arguments in training.parameters",
        ) from error
    return TreeScorer(model, int(estimator.n_features_in_), single=algorithm.__name__ in SINGLE_PRECISION_TREES)


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


def scorer_from_files(about: bytes, content: bytes) -> Scorer | None:
    """The scorer of ``scorer.json`` and ``scorer.bin``, whose digests the caller has checked.

    Returns:
        None when the binary was written by another version of treelite: it must then be compiled again.

    Raises:
        ReleaseError: the files are not a scorer.
    """
    try:
        facts = json.loads(about)
        form, width = facts["form"], int(facts["width"])
        if form == "linear":
            numbers = np.frombuffer(content, dtype="<f8").astype(np.float64)
            if len(numbers) != width + 1:
                raise ValueError(f"{len(numbers)} numbers for {width} columns")
            return LinearScorer(numbers[:-1], float(numbers[-1]))
        if form == "soft_voting":
            return _vote_from_files(facts["members"], content, width)
        if form != "treelite":
            raise ValueError(f"unknown form {form!r}")
        if facts["treelite"] != version("treelite"):
            return None
        return _tree_scorer(content, width, single=bool(facts["single"]))
    except (ValueError, TypeError, KeyError) as error:
        raise ReleaseError(
            f"scorer.json or scorer.bin cannot be read: {error}", next_step="release the model again"
        ) from error


def _vote_from_files(about: list[dict[str, Any]], content: bytes, width: int) -> Scorer | None:
    if not about or sum(int(facts["bytes"]) for facts in about) != len(content):
        raise ValueError(f"{len(content)} bytes are not those of {len(about)} members")
    members, at = [], 0
    for facts in about:
        scorer = scorer_from_files(_json(facts["scorer"]), content[at : at + int(facts["bytes"])])
        at += int(facts["bytes"])
        start, stop = (int(n) for n in facts["columns"])
        if scorer is None:
            return None
        if stop - start != scorer.width or not 0 <= start < stop <= width or not float(facts["weight"]) > 0:
            raise ValueError(f"member {facts['name']!r} does not fit into {width} columns")
        members.append(Member(facts["name"], facts["algorithm"], float(facts["weight"]), start, stop, scorer))
    return VotingScorer(tuple(members), width)


def _tree_scorer(content: bytes, width: int, *, single: bool) -> Scorer:
    import treelite

    try:
        return TreeScorer(treelite.Model.deserialize_bytes(content), width, single=single)
    except treelite.TreeliteError as error:
        raise ReleaseError(
            f"scorer.bin is not a treelite model: {error}", next_step="release the model again"
        ) from error


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1).encode()
