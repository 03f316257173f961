"""``use_case.yaml``: how a candidate is made."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from airworthy.config.spec import Spec

VOTING = "sklearn.ensemble.VotingClassifier"
# What has a compiled form, and so may serve (``training/scorer.py``).
SINGLE_ALGORITHMS = (
    "sklearn.ensemble.ExtraTreesClassifier",
    "sklearn.ensemble.GradientBoostingClassifier",
    "sklearn.ensemble.HistGradientBoostingClassifier",
    "sklearn.ensemble.RandomForestClassifier",
    "sklearn.linear_model.LogisticRegression",
)
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
        algorithm: Import path of a scikit-learn estimator with a compiled form.
        parameters: Its arguments; of a soft-voting ensemble ``members: {name: {algorithm, parameters, weight}}``.
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
    def _compiled(cls, path: str) -> str:
        return known_algorithm(path, (*SINGLE_ALGORITHMS, VOTING))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.algorithm == VOTING:
            check_members(self.parameters)
        if self.window_days is not None and self.window_days < self.min_train_days:
            raise ValueError(f"window_days {self.window_days} is below min_train_days {self.min_train_days}")
        if self.search and self.search.tune_days >= self.min_train_days:
            raise ValueError(
                f"search.tune_days {self.search.tune_days} leaves nothing of min_train_days {self.min_train_days} to "
                "fit on"
            )
        for name in self.search.space if self.search else ():
            member, dot, _ = name.partition(".")
            if bool(dot) != (self.algorithm == VOTING) or (dot and member not in self.parameters["members"]):
                named = "<member>.<argument>" if self.algorithm == VOTING else "after one argument"
                raise ValueError(f"search.space names {name!r}; with {self.algorithm} it is named {named}")
        return self


def known_algorithm(path: str, known: tuple[str, ...]) -> str:
    """The path, if it is one of these; raises ValueError with all of them."""
    if path not in known:
        raise ValueError(f"{path!r} has no compiled form, so it could not serve: choose one of {', '.join(known)}")
    return path


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
        known_algorithm(member["algorithm"], SINGLE_ALGORITHMS)
        if not isinstance(member.get("parameters", {}), dict):
            raise ValueError(f"member {name}: parameters is not a mapping")
        weight = member.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
            raise ValueError(f"member {name}: weight {weight!r} is not a number above 0")
