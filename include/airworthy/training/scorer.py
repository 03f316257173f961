"""The scorer: a model's compiled form, which answers requests (``training/compiling.py`` makes it).

Trees run in treelite, linear models as arrays; a soft-voting ensemble is its members' scorers and their weights, a
calibrated model is its members' scorers and the curve that turns what each of them says into a probability.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from airworthy.errors import ReleaseError
from airworthy.training.trees import BLOCK, BoostedTrees

NONE = "none"


class NoCompiledFormError(ReleaseError):
    """Raised when a model has no compiled form: it can be judged, and can never serve."""


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
        matrix = self._fitting(matrix)
        return self._score(matrix) if len(matrix) else np.empty(0)

    def for_requests(self) -> None:
        """Get ready to answer a few rows at a time, quickly. The answers stay the same bits; it takes memory and a second."""
        return

    def margin(self, matrix: np.ndarray) -> np.ndarray:
        """The decision function: what a probability is made of, where the model has one; float64 [rows]."""
        raise ReleaseError(f"{type(self).__name__} has no margin", next_step="train and release again")

    def _fitting(self, matrix: np.ndarray) -> np.ndarray:
        """The matrix as compiled code may read it."""
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise ReleaseError(
                f"the model reads {self.width} columns, the matrix has the shape {matrix.shape}",
                next_step="encode the features with the encoder of the same release",
            )
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        return matrix if matrix.flags.writeable else matrix.copy()

    @abstractmethod
    def _score(self, matrix: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def to_files(self) -> tuple[bytes, bytes]:
        """``scorer.json`` and ``scorer.bin``."""


class TreeScorer(Scorer):
    """Trees in treelite's general interpreter; where requests are answered, few rows by boosted ones as an array of nodes.

    Args:
        model: The treelite model.
        width: Columns of the matrix.
        single: Whether inputs are rounded to single precision first.

    Raises:
        ReleaseError: the model reads more columns than there are.
    """

    def __init__(self, model: Any, width: int, *, single: bool) -> None:
        if model.num_feature > width:
            raise ReleaseError(
                f"the trees read {model.num_feature} columns, the matrix has {width}",
                next_step="release the model again",
            )
        self.width = width
        self._model = model
        self._boosted: BoostedTrees | None = None
        self._single = single

    def for_requests(self) -> None:
        """Make the array of nodes, and compile the walk down it."""
        boosted = BoostedTrees.of(self._model)
        if boosted is not None:
            boosted.run(np.full((1, self.width), np.nan), margin=False)
        self._boosted = boosted

    def margin(self, matrix: np.ndarray) -> np.ndarray:
        """The sum of the trees of a boosted model, before it becomes a probability; float64 [rows]."""
        return self._run(self._fitting(matrix), margin=True)

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        return self._run(matrix, margin=False)

    def _run(self, matrix: np.ndarray, *, margin: bool) -> np.ndarray:
        if self._single:
            with np.errstate(over="ignore"):
                matrix = matrix.astype(np.float32).astype(np.float64)
        if self._boosted is not None and len(matrix) <= BLOCK:
            return self._boosted.run(matrix, margin=margin)
        from treelite import gtil

        # One thread: workers and tasks already fill the cores. It lets go of Python's lock, which the walk keeps.
        scores = gtil.predict(self._model, matrix, nthread=1, pred_margin=margin)
        return np.asarray(scores, dtype=np.float64).reshape(len(matrix), -1)[:, -1]

    def to_files(self) -> tuple[bytes, bytes]:
        """``scorer.json`` and ``scorer.bin``."""
        about = {"form": "treelite", "treelite": version("treelite"), "width": self.width, "single": self._single}
        return _json(about), bytes(self._model.serialize_bytes())


class LinearScorer(Scorer):
    """A linear model of log-odds: coefficients and intercept.

    Args:
        coefficients: float64 [width].
        intercept: The intercept.
    """

    def __init__(self, coefficients: np.ndarray, intercept: float) -> None:
        self.width = len(coefficients)
        self._coefficients = coefficients
        self._intercept = intercept

    def margin(self, matrix: np.ndarray) -> np.ndarray:
        """The log-odds; float64 [rows]."""
        return np.asarray(matrix @ self._coefficients + self._intercept, dtype=np.float64)

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        return np.asarray(expit(self.margin(matrix)), dtype=np.float64)

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

    def for_requests(self) -> None:
        """Get every member ready."""
        for m in self.members:
            m.scorer.for_requests()

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


@dataclass(frozen=True)
class Calibrated:
    """A model and the curve that turns what it says into a probability.

    Attributes:
        scorer: Its compiled form.
        of_margin: Whether the curve reads the model's margin; else its probability.
        curve: ``isotonic``: straight lines between points, constant beyond them; ``sigmoid``: two numbers.
        numbers: The points' places and then their heights, float64 [2 x points]; or slope and offset, float64 [2].
    """

    scorer: Scorer
    of_margin: bool
    curve: str
    numbers: np.ndarray

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Calibrated probabilities; float64 [rows]."""
        said = self.scorer.margin(matrix) if self.of_margin else self.scorer.predict(matrix)
        if self.curve == "sigmoid":
            from scipy.special import expit

            return np.asarray(expit(-(self.numbers[0] * said + self.numbers[1])), dtype=np.float64)
        places, heights = np.split(self.numbers, 2)
        return np.asarray(np.interp(said, places, heights), dtype=np.float64)


class CalibratedScorer(Scorer):
    """A calibrated model: the mean of what its members say, each by its own curve.

    Args:
        members: One for each fold of the calibration, or a single one.
        width: Columns of the matrix.
    """

    def __init__(self, members: tuple[Calibrated, ...], width: int) -> None:
        self.width = width
        self.members = members

    def for_requests(self) -> None:
        """Get every member ready."""
        for m in self.members:
            m.scorer.for_requests()

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean([m.predict(matrix) for m in self.members], axis=0), dtype=np.float64)

    def to_files(self) -> tuple[bytes, bytes]:
        """``scorer.json`` and ``scorer.bin``: each member's facts; its binary and its curve's numbers, one after the other."""
        about, content = [], b""
        for m in self.members:
            facts, binary = m.scorer.to_files()
            about.append(
                {
                    "of_margin": m.of_margin, "curve": m.curve, "numbers": len(m.numbers), "bytes": len(binary),
                    "scorer": json.loads(facts),
                }
            )  # fmt: skip
            content += binary + m.numbers.astype("<f8").tobytes()
        return _json({"form": "calibrated", "width": self.width, "members": about}), content


def scorer_from_files(about: bytes, content: bytes) -> Scorer | None:
    """The scorer of ``scorer.json`` and ``scorer.bin``, whose digests the caller has checked.

    Returns:
        None when the binary was written by another version of treelite: it must then be compiled again.

    Raises:
        NoCompiledFormError: the model has none; the message says why.
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
        if form == NONE:
            raise NoCompiledFormError(str(facts["why"]), next_step=str(facts["next_step"]))
        if form == "soft_voting":
            return _vote_from_files(facts["members"], content, width)
        if form == "calibrated":
            return _calibrated_from_files(facts["members"], content, width)
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


def _calibrated_from_files(about: list[dict[str, Any]], content: bytes, width: int) -> Scorer | None:
    if not about or sum(int(facts["bytes"]) + 8 * int(facts["numbers"]) for facts in about) != len(content):
        raise ValueError(f"{len(content)} bytes are not those of {len(about)} calibrated members")
    members, at = [], 0
    for facts in about:
        end = at + int(facts["bytes"])
        scorer = scorer_from_files(_json(facts["scorer"]), content[at:end])
        numbers = np.frombuffer(content[end : end + 8 * int(facts["numbers"])], dtype="<f8").astype(np.float64)
        at = end + 8 * int(facts["numbers"])
        if scorer is None:
            return None
        points = len(numbers) // 2
        rising = points and len(numbers) == 2 * points and bool((np.diff(numbers[:points]) > 0).all())
        right = rising if facts["curve"] == "isotonic" else facts["curve"] == "sigmoid" and len(numbers) == 2
        if scorer.width != width or not right:
            raise ValueError(
                f"a calibrated member of {scorer.width} columns does not fit into {width}, or its curve is none"
            )
        members.append(Calibrated(scorer, bool(facts["of_margin"]), facts["curve"], numbers))
    return CalibratedScorer(tuple(members), width)


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
