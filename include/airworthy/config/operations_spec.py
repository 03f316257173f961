"""``use_case.yaml``: how a champion is watched and how a challenger is delivered."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from airworthy.config.spec import Spec


class Monitoring(Spec):
    """When the platform asks for a retraining.

    Attributes:
        drift_threshold: Effect size (normed Wasserstein, Jensen-Shannon) from which a feature counts as drifted.
        drift_share: Share of drifted features from which a window violates.
        max_metric_loss: Loss of ROC AUC against the verdict's from which a window violates (decay).
        min_labelled: Fewer labelled predictions in a window give no quality figure.
        violations, of_windows: Ask when so many of the last windows violate, the newest among them.
        reference_rows: Rows sampled from the training set as the reference.
    """

    drift_threshold: float = Field(default=0.1, gt=0)
    drift_share: float = Field(default=0.5, gt=0, le=1)
    max_metric_loss: float = Field(default=0.03, gt=0)
    min_labelled: int = Field(default=300, ge=1)
    violations: int = Field(default=2, ge=1)
    of_windows: int = Field(default=3, ge=1)
    reference_rows: int = Field(default=5000, ge=100)


class Delivery(Spec):
    """How a challenger is delivered: staging, approval, shadow, canary, promotion, watch.

    Attributes:
        approval: ``auto`` lets pass what the gate and the staging check passed; ``manual`` asks a person in Airflow.
        approval_hours: So long a person may take; without an answer it is refused.
        load_requests: Requests of the staging check's load test; by default ``AIRWORTHY_DELIVERY_LOAD_REQUESTS``.
        max_p99_ms: Of the staging check. It allows for a staging instance that shares two cores with everything else.
        max_p50_ms, min_qps: The same for the median latency and for the requests a second; without them there is no bound.
        max_load_errors: So many of those requests may fail.
        switch_timeout_s: So long workers may take to load a release.
        shadow: First let the challenger score everything too, unseen. What fails there has cost nobody an answer.
        steps: Shares of the requests that the challenger answers, one step after the other; empty: no canary.
        min_requests: A step that finds nothing ends after so many requests of the challenger and so many of the champion.
            With 300, each of the faults that ``make bench BENCH=canary`` plants is found before.
        min_timed: And after so many compared model times of either. Workers time one request of those that they answer
            together, and none of the first of a loaded model.
        longest_wait_s: A step that has not seen so many by then is inconclusive. An hour is long for a service with
            clients and short for one that is asked once a night: give that one more, or ``on_inconclusive: promote``.
        idle_wait_s: The same for a service that nobody has asked anything in the step; by default as long. Clients that
            come in an hour are worth the wait, unless it is known that there are none.
        look_s: Time between two looks. The test allows for any number of looks.
        on_inconclusive: ``abort`` leaves the champion and keeps the challenger for another delivery (no evidence is no
            pass); ``promote`` takes the verdict and the staging check for enough.
        max_false_abort: Probability that a challenger that is not worse is aborted, over all metrics and steps.
        max_slowdown: The challenger's model time may be so many times the champion's.
        tolerated_cost: The odds of a costly decision may be so many times the champion's: the gate has weighed small
            differences on more labels than a canary will see.
        tolerance: Largest difference of a served score from the release's own of the same features.
        watch_s: So long the new champion is watched after the promotion.
        max_error_share: Share of its requests in which it may raise meanwhile; above, it is rolled back.
    """

    approval: Literal["auto", "manual"] = "auto"
    approval_hours: float = Field(default=24.0, gt=0, le=24 * 30)
    load_requests: int | None = Field(default=None, ge=1)
    max_p99_ms: float = Field(default=1000.0, gt=0)
    max_p50_ms: float | None = Field(default=None, gt=0)
    min_qps: float | None = Field(default=None, gt=0)
    max_load_errors: int = Field(default=0, ge=0)
    switch_timeout_s: float = Field(default=30.0, gt=0)
    shadow: bool = True
    steps: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.05, 0.25, 0.5], max_length=10)
    min_requests: int = Field(default=300, ge=1)
    min_timed: int = Field(default=30, ge=1)
    longest_wait_s: float = Field(default=3600.0, gt=0)
    idle_wait_s: float | None = Field(default=None, gt=0)
    look_s: float = Field(default=1.0, gt=0)
    on_inconclusive: Literal["abort", "promote"] = "abort"
    max_false_abort: float = Field(default=0.05, gt=0, lt=1)
    max_slowdown: float = Field(default=1.5, ge=1)
    tolerated_cost: float = Field(default=1.25, ge=1)
    tolerance: float = Field(default=1e-9, gt=0)
    watch_s: float = Field(default=5.0, ge=0)
    max_error_share: float = Field(default=0.05, gt=0, lt=1)

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.steps)):
            raise ValueError(f"delivery.steps must rise: {self.steps}")
        return self

    @property
    def phases(self) -> tuple[float, ...]:
        """Shares of the trial in order; 0 is the shadow."""
        return ((0.0,) if self.shadow else ()) + tuple(self.steps)
