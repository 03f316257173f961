"""``use_case.yaml``: the bounds of the gate."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from airworthy.config.spec import Spec


class Behaviour(Spec):
    """What must hold when one input changes and all others stay (Ribeiro et al., 2020: invariance and direction).

    Attributes:
        name: In words, such as ``more delay at the origin``.
        kind: ``invariance``: the score stays; ``increasing``, ``decreasing``: the score moves with the change, or stays.
        column: A model input.
        by: What is added to a number; for ``increasing`` and ``decreasing``.
        values: What the column is set to, one after the other; for ``invariance`` (without: its own values, shuffled).
        tolerance: Change of the probability that counts as none.
        max_violations: Largest share of rows that may break it.
        min_effect: The mean change in the right direction must be above this; for ``increasing`` and ``decreasing``.
    """

    name: str = Field(min_length=1, max_length=60)
    kind: Literal["invariance", "increasing", "decreasing"]
    column: str
    by: float | None = None
    values: list[str | float | bool] = Field(default=[], max_length=10)
    tolerance: float = Field(default=0.01, ge=0, le=1)
    max_violations: float = Field(default=0.0, ge=0, le=1)
    min_effect: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _change_is_said(self) -> Self:
        if (self.by is None or self.by == 0) == (self.kind != "invariance"):
            raise ValueError(
                f"behaviour {self.name!r}: `by` (not 0) goes with increasing and decreasing, and only there"
            )
        if self.values and self.kind != "invariance":
            raise ValueError(f"behaviour {self.name!r}: `values` goes with invariance only")
        return self


class Gate(Spec):
    """Bounds of the gate. Every check has one; ``docs/reference/gate.md`` lists them with their reasons.

    Attributes:
        mode: ``dry_run`` judges and never promotes; ``disabled`` refuses everything.
        min_holdout_rows: Fewer rows are no evidence.
        min_roc_auc: Absolute bound.
        min_gain_over_prior: Log loss must be below the prior's by this share of it.
        rule: Columns of the rule, a smoothed rate of each combination; by default the first two text inputs.
        min_gain_over_rule: ROC AUC minus the rule's.
        min_gain_over_linear: ROC AUC minus that of a logistic regression on the same inputs (may be negative: a tie
            with the linear model is noted, not refused).
        worth_over_linear: With a smaller gain over the linear model the verdict notes that machine learning beyond it
            is not worth it.
        min_gain_over_champion: ROC AUC minus the champion's on the same holdout; a tie keeps the champion.
        confidence: Of the paired bootstrap intervals, and of the intervals of the importances.
        tolerated_loss: The lower end of the interval of the gain must be above ``-tolerated_loss``.
        bootstrap: Resamples.
        replace_champion: Digest of the one champion that may be replaced without a comparison, because the features
            that it reads are gone; recorded in the verdict.
        min_saving: Expected cost must be below that of acting on nothing or on everything by this share.
        max_cost_increase: Largest increase of expected cost over the champion's, as a share of it.
        tolerated_cost_increase: The same for the upper end of its interval.
        max_calibration_error: Expected calibration error over ten equal-count bins.
        stability_seeds: Refits with other seeds.
        stability_rows: Rows, drawn by seed, that they are fitted on (and as many holdout rows that they are measured on).
        max_seed_spread: Largest minus smallest ROC AUC of the refits.
        min_loss_fall: Share by which the training loss falls from the first iteration to the last.
        max_loss_rise: Largest rise of the last training loss over the smallest, as a share of it.
        tiny_batch_rows: Rows of a batch that can be learned by heart (four leaves' worth, where a leaf needs many).
        min_tiny_batch_gain: Share by which the loss on that batch falls below the prior's.
        slices: Columns whose values are judged one by one.
        min_slice_rows: Smaller slices are reported, not judged.
        min_slice_roc_auc: Absolute bound in each judged slice.
        max_slice_regression: Largest loss of ROC AUC against the champion in a judged slice.
        groups: Columns whose values must be treated alike.
        min_group_rows: Smaller groups are reported, not judged.
        max_selection_gap: Largest difference between groups in the share of rows that are acted on.
        max_hit_gap: Largest difference in the share of positives that are acted on.
        max_false_alarm_gap: Largest difference in the share of negatives that are acted on.
        behaviours: Invariance and direction tests.
        behaviour_rows: Holdout rows, drawn by seed, that they are tried on.
        max_parity: Largest difference of a prediction between the recorded model, the serving form, and the serving
            form in a clean process.
        max_model_bytes: Size of the model's files.
        max_row_ms: Median time of one prediction of one row, milliseconds.
        max_batch_row_ms: Time of a row in a batch of rows, milliseconds.
        max_memory_mb: Peak memory (VmHWM) of the clean process, MiB.
        importance_rows: Holdout rows, drawn by seed, for permutation importance.
        importance_repeats: Permutations of each column.
    """

    mode: Literal["enabled", "dry_run", "disabled"] = "enabled"
    min_holdout_rows: int = Field(default=500, ge=1)
    min_roc_auc: float = Field(default=0.6, ge=0.5, le=1)
    min_gain_over_prior: float = Field(default=0.01, ge=0)
    rule: list[str] = Field(default=[])
    min_gain_over_rule: float = Field(default=0.005, ge=0)
    min_gain_over_linear: float = Field(default=-0.02)
    worth_over_linear: float = Field(default=0.005, ge=0)
    min_gain_over_champion: float = Field(default=0.001, gt=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    tolerated_loss: float = Field(default=0.005, ge=0)
    bootstrap: int = Field(default=200, ge=50)
    replace_champion: str = Field(default="", pattern=r"^([0-9a-f]{12,64})?$")
    min_saving: float = Field(default=0.005, gt=0)
    max_cost_increase: float = Field(default=0.02, ge=0)
    tolerated_cost_increase: float = Field(default=0.1, ge=0)
    max_calibration_error: float = Field(default=0.1, gt=0)
    stability_seeds: int = Field(default=3, ge=2, le=20)
    stability_rows: int = Field(default=20_000, ge=100)
    max_seed_spread: float = Field(default=0.02, ge=0)
    min_loss_fall: float = Field(default=0.005, gt=0, lt=1)
    max_loss_rise: float = Field(default=0.01, ge=0)
    tiny_batch_rows: int = Field(default=32, ge=16)
    min_tiny_batch_gain: float = Field(default=0.05, gt=0, lt=1)
    slices: list[str] = Field(default=[])
    min_slice_rows: int = Field(default=300, ge=1)
    min_slice_roc_auc: float = Field(default=0.55, ge=0, le=1)
    max_slice_regression: float = Field(default=0.03, ge=0)
    groups: list[str] = Field(default=[])
    min_group_rows: int = Field(default=300, ge=1)
    max_selection_gap: float = Field(default=0.3, ge=0, le=1)
    max_hit_gap: float = Field(default=0.25, ge=0, le=1)
    max_false_alarm_gap: float = Field(default=0.25, ge=0, le=1)
    behaviours: list[Behaviour] = Field(default=[])
    behaviour_rows: int = Field(default=2000, ge=100)
    max_parity: float = Field(default=1e-6, gt=0, le=1e-6)
    max_model_bytes: int = Field(default=100_000_000, ge=1)
    max_row_ms: float = Field(default=25.0, gt=0)
    max_batch_row_ms: float = Field(default=5.0, gt=0)
    max_memory_mb: float = Field(default=1024.0, gt=0)
    importance_rows: int = Field(default=2000, ge=100)
    importance_repeats: int = Field(default=5, ge=3, le=50)

    @field_validator("behaviours")
    @classmethod
    def _names_differ(cls, behaviours: list[Behaviour]) -> list[Behaviour]:
        names = [b.name for b in behaviours]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two behaviours are named {', '.join(twice)}")
        return behaviours

    @property
    def shown_columns(self) -> list[str]:
        """Columns whose values a verdict shows: of slices and of groups."""
        return list(dict.fromkeys([*self.slices, *self.groups]))
