"""What may be wrong with a candidate, its rows or its champion; each must be refused, for its own reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.evaluation.examine import Opponent
from airworthy.evaluation.subject import labels_of
from airworthy.training.compiling import compile_scorer
from airworthy.training.scorer import LinearScorer, Scorer
from gate_world import COLUMNS, SMALL, SPLIT, TREES, Maker, World

LINEAR = "sklearn.linear_model.LogisticRegression"
STUMP = "sklearn.tree.DecisionTreeClassifier"
FOREST = "sklearn.ensemble.RandomForestClassifier"


@dataclass(frozen=True)
class Mutation:
    """One thing that is wrong.

    Attributes:
        change: Makes it so.
        checks: Checks that must fail for it.
        alone: Whether no other check may fail.
    """

    change: Callable[[World, Maker], World]
    checks: frozenset[str]
    alone: bool = True


MUTATIONS: dict[str, Mutation] = {}


def mutation(name: str, *checks: str, alone: bool = True) -> Callable[[Callable[[World, Maker], World]], None]:
    def add(change: Callable[[World, Maker], World]) -> None:
        MUTATIONS[name] = Mutation(change, frozenset(checks), alone)

    return add


class Broken(Scorer):
    """A serving form that answers otherwise than the recorded model."""

    def __init__(self, scorer: Scorer, turn: Callable[[np.ndarray], np.ndarray]) -> None:
        self.width, self._scorer, self._turn = scorer.width, scorer, turn

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        return self._turn(self._scorer.predict(matrix))

    def to_files(self) -> tuple[bytes, bytes]:
        return b"", b""


def answering(world: World, turn: Callable[[np.ndarray], np.ndarray]) -> World:
    model = world.subject.model
    return replace(world, subject=replace(world.subject, model=replace(model, scorer=Broken(model.scorer, turn))))


def column(table: pa.Table, name: str, values: object) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def relabelled(table: pa.Table, labels: np.ndarray) -> pa.Table:
    return column(table, "label", pa.array(labels))


# The model and its answers.


@mutation("scores of NaN", "candidate scores", "metrics", "serving form", alone=False)
def _(world, make):
    return answering(world, lambda p: np.where(np.arange(p.size) == 0, np.nan, p))


@mutation("probabilities above one", "metrics", "serving form", alone=False)
def _(world, make):
    return answering(world, lambda p: p * 3)


@mutation("serving form a little off", "serving form")
def _(world, make):
    return answering(world, lambda p: p + 1e-5 * (p < 0.5))


@mutation("probabilities that mean something else", "calibration", alone=False)
def _(world, make):
    train = make.train
    positive = train.filter(train["label"])
    return world.with_candidate(make.candidate(train=pa.concat_tables([train, *[positive] * 6])))


@mutation("a parameter that is no number", "parameters", alone=False)
def _(world, make):
    estimator = deepcopy(world.subject.estimator)
    nodes = estimator._predictors[5][0].nodes
    nodes["value"][np.flatnonzero(nodes["is_leaf"])[0]] = np.nan
    model = replace(world.subject.model, scorer=compile_scorer(estimator))
    return replace(world, subject=replace(world.subject, model=model))


@mutation("an infinite coefficient", "parameters", "serving form", alone=False)
def _(world, make):
    subject = make.candidate(LINEAR, {"max_iter": 500})
    scorer = LinearScorer(np.where(np.arange(subject.model.scorer.width) == 1, np.inf, 0.0), 0.0)
    return world.with_candidate(replace(subject, model=replace(subject.model, scorer=scorer)))


@mutation("a constant model", "roc_auc", "gain over prior", "tiny batch", "training loss falls", alone=False)
def _(world, make):
    return world.with_candidate(make.candidate(parameters={**SMALL, "min_samples_leaf": 100_000}))


@mutation("no compiled form", "serving form", "clean process", "parameters")
def _(world, make):
    members = {
        "trees": {"algorithm": TREES, "parameters": SMALL},
        "stump": {"algorithm": STUMP, "parameters": {"max_depth": 4}},
    }
    return world.with_candidate(make.candidate("sklearn.ensemble.VotingClassifier", {"members": members}))


# How it was trained.


@mutation("two labels in five flipped", "gain over champion", alone=False)
def _(world, make):
    return world.with_candidate(make.candidate(flip=0.4))


@mutation(
    "all labels flipped",
    "roc_auc",
    "gain over prior",
    "gain over rule",
    "gain over linear",
    "effect more delay",
    alone=False,
)
def _(world, make):
    return world.with_candidate(make.candidate(flip=1.0))


@mutation("hangs on its seed", "stability", alone=False)
def _(world, make):
    return world.with_candidate(make.candidate(FOREST, {"n_estimators": 1, "max_features": 1, "max_depth": 4}))


@mutation("a pinned seed does not hide it", "stability", alone=False)
def _(world, make):
    lucky = {"n_estimators": 1, "max_features": 1, "max_depth": 4, "random_state": 3}
    return world.with_candidate(make.candidate(FOREST, lucky))


@mutation("a solver that ran out of iterations", "solver stopped")
def _(world, make):
    return world.with_candidate(make.candidate(LINEAR, {"max_iter": 4}))


@mutation("a loss that diverges", "training loss falls", "training loss ends low", alone=False)
def _(world, make):
    return world.with_candidate(make.candidate(parameters={**SMALL, "learning_rate": 30.0}))


@mutation("worse than the linear model", "gain over linear", alone=False)
def _(world, make):
    return world.with_candidate(make.candidate(parameters={"max_iter": 3, "max_depth": 1, "early_stopping": False}))


@mutation("a rule does better", "gain over rule")
def _(world, make):
    # Someone knows better than the model, and it fits on a page.
    def known(table):
        return table.append_column("verdict_of_old", table["label"].cast(pa.string()))

    subject = replace(world.subject, train=known(world.subject.train))
    return replace(world, subject=subject).with_holdout(known(make.holdout)).with_gate(rule=["verdict_of_old"])


@mutation("it ignores the delay", "behaviour more delay", "effect more delay", alone=False)
def _(world, make):
    return world.with_candidate(make.candidate(columns={n: t for n, t in COLUMNS.items() if n != "delay"}))


@mutation("more delay lowers the risk", "behaviour more delay", "effect more delay", alone=False)
def _(world, make):
    train = column(make.train, "delay", pc.subtract(100.0, make.train["delay"]))
    return world.with_candidate(make.candidate(train=train))


@mutation("it hangs on the desk's number", "behaviour the desk")
def _(world, make):
    def favoured(table, seed):
        rng = np.random.default_rng(seed)
        better = (table["desk"].to_numpy() < 2) & (rng.random(table.num_rows) < 0.5)
        return relabelled(table, labels_of(table) & ~better)

    train, holdout = favoured(make.train, 3), favoured(make.holdout, 4)
    subject = make.candidate(train=train, columns={**COLUMNS, "desk": "float64"})
    return world.with_candidate(subject).with_holdout(holdout)


# The rows that decide.


@mutation("an empty holdout", "holdout rows", "metrics", "candidate scores", "clean process", alone=False)
def _(world, make):
    return world.with_holdout(make.holdout.slice(0, 0))


@mutation("a small holdout", "holdout rows", alone=False)
def _(world, make):
    return world.with_holdout(make.holdout.slice(0, 400))


@mutation("a holdout of one class", "metrics", "roc_auc", alone=False)
def _(world, make):
    return world.with_holdout(relabelled(make.holdout, np.zeros(make.holdout.num_rows, dtype=bool)))


@mutation("labels of the holdout turned", "roc_auc", "gain over prior", alone=False)
def _(world, make):
    return world.with_holdout(relabelled(make.holdout, ~labels_of(make.holdout)))


@mutation("two columns swapped", "calibration", alone=False)
def _(world, make):
    swapped = column(make.holdout, "delay", make.holdout["amount"])
    return world.with_holdout(column(swapped, "amount", make.holdout["delay"]))


@mutation("delays in seconds instead of minutes", "calibration", alone=False)
def _(world, make):
    return world.with_holdout(column(make.holdout, "delay", pc.multiply(make.holdout["delay"], 60.0)))


@mutation("a column is missing", "candidate scores", "metrics", alone=False)
def _(world, make):
    return world.with_holdout(make.holdout.drop_columns(["amount"]))


@mutation("one slice is broken", "slice channel=phone", alone=False)
def _(world, make):
    labels, phone = labels_of(make.holdout), np.asarray(make.holdout["channel"].to_pylist()) == "phone"
    guessed = np.random.default_rng(5).random(labels.size) < labels.mean()
    return world.with_holdout(relabelled(make.holdout, np.where(phone, guessed, labels)))


@mutation("one group is treated otherwise", "fairness selection by region", alone=False)
def _(world, make):
    late = np.asarray(make.holdout["delay"].to_pylist()) > 12
    return world.with_holdout(column(make.holdout, "region", pa.array(np.where(late, "south", "north").tolist())))


@mutation("trained into the holdout", "candidate trained before holdout")
def _(world, make):
    return replace(world, ref=world.ref.model_copy(update={"train_end": SPLIT + timedelta(seconds=1)}))


# The champion.


@mutation("the champion itself", "different models", "gain over champion", alone=False)
def _(world, make):
    return replace(world, opponent=Opponent(world.subject.model, "c" * 64, world.ref.train_start))


@mutation("a tie with another model", "gain over champion")
def _(world, make):
    twin = make.candidate(requirements=["numpy==2"])
    return replace(world, opponent=Opponent(twin.model, "c" * 64, world.ref.train_start))


@mutation("the champion saw the holdout", "champion trained before holdout")
def _(world, make):
    return replace(world, opponent=replace(world.opponent, trained_until=world.ref.holdout_end))


@mutation("the champion changed meanwhile", "champion identity")
def _(world, make):
    return replace(world, in_log="e" * 64)


@mutation("the champion was not scored", "champion identity", "no champion yet")
def _(world, make):
    return replace(world, opponent=None)


@mutation("a champion of other features", "champion scores", "gain over champion", "gain is no accident", alone=False)
def _(world, make):
    other = make.candidate(columns={**COLUMNS, "desk": "float64"})
    return replace(world, opponent=Opponent(other.model, "c" * 64, world.ref.train_start)).with_holdout(
        make.holdout.drop_columns(["desk"])
    )


@mutation("it costs more than the champion", "cost against champion", "cost is no accident", alone=False)
def _(world, make):
    # Better at ranking, and at the threshold it acts on hardly anything.
    train = make.train
    rare = train.filter(pc.or_(pc.invert(train["label"]), pc.equal(train["hour"], 3)))
    champion = make.candidate(parameters={**SMALL, "max_iter": 12})
    opponent = Opponent(champion.model, "c" * 64, world.ref.train_start)
    return (
        replace(world, opponent=opponent)
        .with_candidate(make.candidate(train=rare))
        .with_gate(max_calibration_error=1.0)
    )


@mutation("another model than asked about", "candidate identity")
def _(world, make):
    return replace(world, asked="a" * 64)


# Serving.


@mutation("requirements that are not installed", "requirements")
def _(world, make):
    return world.with_candidate(make.candidate(requirements=["numpy==0.0.1", "no-such-package==1"]))


@mutation("requirements without a version", "requirements")
def _(world, make):
    return world.with_candidate(make.candidate(requirements=["numpy"]))


@mutation("files altered after the fit", "clean process")
def _(world, make):
    folder = Path(make.folder) / "altered"
    shutil.copytree(world.subject.folder, folder, dirs_exist_ok=True)
    (folder / "encoder.json").write_text("{}")
    return replace(world, subject=replace(world.subject, folder=str(folder)))


@mutation("another model in the folder", "clean predictions")
def _(world, make):
    other = make.candidate(flip=0.02)
    model = replace(world.subject.model, model_digest=other.model.model_digest)
    return world.with_candidate(replace(world.subject, model=model, folder=other.folder))


@mutation("too slow", "latency", "batch latency")
def _(world, make):
    return world.with_gate(max_row_ms=1e-6, max_batch_row_ms=1e-6)


@mutation("too large", "size")
def _(world, make):
    return world.with_gate(max_model_bytes=1000)


@mutation("too much memory", "memory")
def _(world, make):
    return world.with_gate(max_memory_mb=1.0)


# The gate.


@mutation("a dry run", "mode")
def _(world, make):
    return world.with_gate(mode="dry_run")


@mutation("a disabled gate", "mode")
def _(world, make):
    return world.with_gate(mode="disabled")
