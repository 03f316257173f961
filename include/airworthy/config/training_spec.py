"""``use_case.yaml``: how a candidate is made."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from airworthy.config.spec import Spec

VOTING = "sklearn.ensemble.VotingClassifier"
CALIBRATED = "sklearn.calibration.CalibratedClassifierCV"
# What a form offers: they have a compiled form, so they may serve (``training/compiling.py``).
OFFERED_ALGORITHMS = (
    "sklearn.ensemble.ExtraTreesClassifier",
    "sklearn.ensemble.GradientBoostingClassifier",
    "sklearn.ensemble.HistGradientBoostingClassifier",
    "sklearn.ensemble.RandomForestClassifier",
    "sklearn.linear_model.LogisticRegression",
)
IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
MEMBER_KEYS = {"algorithm", "parameters", "weight"}
MAX_TRIALS = 1000


class Range(Spec):
    """The values that a search may give to one argument.

    Attributes:
        type: ``int``, ``float`` or ``choice``.
        low, high: Bounds of a number, both included.
        log: Draw on a logarithmic scale.
        choices: The values of a ``choice``.
    """

    type: Literal["int", "float", "choice"]
    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)
    log: bool = False
    choices: list[bool | int | float | str | None] = Field(default=[])

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type == "choice":
            if not self.choices or self.low is not None or self.high is not None or self.log:
                raise ValueError("a choice has `choices` (one or more), and neither low, high nor log")
            return self
        if self.choices or self.low is None or self.high is None:
            raise ValueError(f"{self.type} needs low and high, and no choices")
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, not {self.low:g}")
        if self.type == "int" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"int needs whole numbers, not {self.low:g} to {self.high:g}")
        return self


class Search(Spec):
    """How good arguments are looked for. It is all here: no setting of the environment changes it.

    Attributes:
        trials: How many are tried; the first are always the arguments of ``training.parameters``.
        tune_days: Newest days of the training part, on which the trials are compared. The holdout is never looked at.
        metric: What is compared there.
        rows: Sample of the rows to fit on, and of the rows to compare on, drawn by the training's seed.
        timeout_minutes: A search that takes longer stops with an error; the next try goes on where it stopped.
        tasks_above: Most trials of one task; more are spread over several.
        space: Argument to its range; an argument of an ensemble's member is named ``<member>.<argument>``.
    """

    trials: int = Field(default=8, ge=1, le=MAX_TRIALS)
    tune_days: int = Field(default=14, ge=1)
    metric: Literal["log_loss", "roc_auc", "brier"] = "log_loss"
    rows: int = Field(default=30_000, ge=50)
    timeout_minutes: float = Field(default=60, gt=0)
    tasks_above: int = Field(default=24, ge=1)
    space: dict[str, Range] = Field(min_length=1)

    @property
    def tasks(self) -> int:
        """Over how many tasks the trials are spread."""
        return -(-self.trials // self.tasks_above)


class SetChecks(Spec):
    """Bounds of a training set, checked before anything is fitted on it.

    Attributes:
        min_rows: Fewer training rows teach nothing.
        min_class_rows: Training rows of the rarer label.
        min_label_rate, max_label_rate: Share of positive labels, in the training part and in the holdout.
        max_duplicate_share: Rows that repeat another one in prediction time, label and every feature.
        max_feature_auc: ROC AUC of a single feature, each way and by its gaps: more is too good to be true.
        known_rows: Sampled rows whose every looked-up value must have been published by the prediction time.
        leak_rows: Sampled training rows for ``max_feature_auc``.
    """

    min_rows: int = Field(default=100, ge=1)
    min_class_rows: int = Field(default=10, ge=1)
    min_label_rate: float = Field(default=0.005, ge=0, le=1)
    max_label_rate: float = Field(default=0.995, ge=0, le=1)
    max_duplicate_share: float = Field(default=0.05, ge=0, le=1)
    max_feature_auc: float = Field(default=0.95, gt=0.5, le=1)
    known_rows: int = Field(default=500, ge=1)
    leak_rows: int = Field(default=20_000, ge=100)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_label_rate >= self.max_label_rate:
            raise ValueError("min_label_rate is not below max_label_rate")
        return self


class Training(Spec):
    """How a candidate is made.

    Attributes:
        feature_service: Name ``<use_case>_v<N>``.
        algorithm: Import path of a classifier with scikit-learn's interface. The gate refuses what has no compiled form.
        parameters: Its arguments; of a soft-voting ensemble ``members: {name: {algorithm, parameters, weight}}``, of a
            calibrated model ``estimator: {algorithm, parameters}`` and the arguments of the calibration.
        seed: Seed of everything random.
        search: Looks for better arguments before each fit; without it the ones above are used.
        checks: Bounds of the training set.
        window_days: Train on so many days before the holdout; by default on all there are (the window expands).
        holdout_days: Newest days with labels, kept for the gate.
        min_train_days: Fewer days before the holdout refuse to train.
        new_data_intervals: So many intervals published since the champion's data ask for a training.
        cooldown_days: Days of data time between two trainings that were not asked for by a person.
        max_age_days: Older champions (data time) ask for a training.
        schedule: Cron (UTC, wall clock) that asks for a training too; by default weekly, none for a replayed use case.
        experiment_budget: CPU-minutes that one experiment may be estimated to take.
    """

    feature_service: str
    algorithm: str = "sklearn.ensemble.HistGradientBoostingClassifier"
    parameters: dict[str, Any] = Field(default={})
    seed: int = Field(default=7, ge=0)
    search: Search | None = None
    checks: SetChecks = SetChecks()
    window_days: int | None = Field(default=None, ge=1)
    holdout_days: int = Field(default=28, ge=1)
    min_train_days: int = Field(default=28, ge=1)
    new_data_intervals: int = Field(default=28, ge=1)
    cooldown_days: int = Field(default=7, ge=0)
    max_age_days: int = Field(default=90, ge=1)
    schedule: str | None = Field(default=None, pattern=r"^\S+( \S+){4}$")
    experiment_budget: float = Field(default=60, gt=0)

    @field_validator("algorithm")
    @classmethod
    def _path(cls, path: str) -> str:
        return import_path(path)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_inner(self.algorithm, self.parameters)
        if self.window_days is not None and self.window_days < self.min_train_days:
            raise ValueError(f"window_days {self.window_days} is below min_train_days {self.min_train_days}")
        if self.search and self.search.tune_days >= self.min_train_days:
            raise ValueError(
                f"search.tune_days {self.search.tune_days} leaves nothing of min_train_days {self.min_train_days} to "
                "fit on"
            )
        inner = inner_models(self.algorithm, self.parameters)
        for name in self.search.space if self.search else ():
            member, dot, _ = name.partition(".")
            if (dot and member not in inner) or (not dot and self.algorithm == VOTING):
                named = "<member>.<argument>" if inner else "after one argument"
                raise ValueError(f"search.space names {name!r}; with {self.algorithm} it is named {named}")
        return self


def import_path(path: object, *, inner: bool = False) -> str:
    """The import path of a class, as far as a text can tell; whether it is there is found out before a training begins.

    Args:
        path: What was written.
        inner: Whether it is to be a part of another model.

    Raises:
        ValueError: no path, or one of a model that cannot be a part.
    """
    if not isinstance(path, str) or not IMPORT_PATH.fullmatch(path):
        raise ValueError(f"{path!r} is no import path: write package.module.Class")
    if inner and path in (VOTING, CALIBRATED):
        raise ValueError(f"{path} cannot be a part of another model: name the models that it is made of")
    return path


def inner_models(algorithm: str, parameters: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The models that a model is made of: ``{name: {algorithm, parameters}}``; those of an ensemble, or a calibrated one."""
    if algorithm == VOTING:
        return dict(parameters["members"])
    return {"estimator": parameters["estimator"]} if algorithm == CALIBRATED else {}


def check_inner(algorithm: str, parameters: dict[str, Any]) -> None:
    """Raise ValueError unless the models that a model is made of are written as the specification has them."""
    if algorithm == VOTING:
        check_members(parameters)
    if algorithm == CALIBRATED:
        inner = parameters.get("estimator")
        if not isinstance(inner, dict) or "algorithm" not in inner or set(inner) - {"algorithm", "parameters"}:
            raise ValueError("a calibrated model's parameters have `estimator: {algorithm, parameters}`")
        import_path(inner["algorithm"], inner=True)
        if not isinstance(inner.get("parameters", {}), dict):
            raise ValueError("estimator: parameters is not a mapping")


def check_members(parameters: dict[str, Any]) -> None:
    """Raise ValueError unless these are the arguments of a soft-voting ensemble, as the specification has them."""
    members = parameters.get("members")
    if set(parameters) != {"members"} or not isinstance(members, dict) or len(members) < 2:
        raise ValueError("an ensemble's parameters are `members`, two or more: {name: {algorithm, parameters, weight}}")
    for name, member in members.items():
        if not isinstance(name, str) or not name.isidentifier() or "__" in name:
            raise ValueError(f"member {name!r}: a name is made of letters, digits and single underscores")
        if not isinstance(member, dict) or "algorithm" not in member or set(member) - MEMBER_KEYS:
            raise ValueError(f"member {name}: it has `algorithm`, and may have `parameters` and `weight`")
        import_path(member["algorithm"], inner=True)
        if not isinstance(member.get("parameters", {}), dict):
            raise ValueError(f"member {name}: parameters is not a mapping")
        weight = member.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
            raise ValueError(f"member {name}: weight {weight!r} is not a number above 0")
