"""When to ask for a training: pure rules over what was found. Every number behind a cause travels with it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airworthy.config.operations_spec import Monitoring
from airworthy.config.training_spec import Training
from airworthy.records import Record


class WindowFacts(Record):
    """What one window showed.

    Attributes:
        first, last: Keys of its first and last interval.
        champion: Release that was champion when it was judged.
        drift_share: Share of drifted features; None when it was not measured.
        metric_loss: ROC AUC of the champion's verdict minus that of its labelled predictions; None when not measured.
    """

    first: str
    last: str
    champion: str | None
    drift_share: float | None = None
    metric_loss: float | None = None

    @property
    def key(self) -> str:
        """The window's key in the ledger and in file names."""
        return f"{self.first}_{self.last}"

    def drifts(self, bounds: Monitoring) -> bool:
        """Whether its inputs drifted beyond the bound."""
        return self.drift_share is not None and self.drift_share >= bounds.drift_share

    def decays(self, bounds: Monitoring) -> bool:
        """Whether quality fell beyond the bound."""
        return self.metric_loss is not None and self.metric_loss > bounds.max_metric_loss

    def violates(self, bounds: Monitoring) -> bool:
        """Whether it counts as a violation."""
        return self.drifts(bounds) or self.decays(bounds)


class DataFacts(Record):
    """What the ledger knows about data and trainings; times are data time, UTC.

    Attributes:
        now: The data clock.
        champion_since: Data clock when the champion's training set was built; None without a champion.
        published: Published intervals: those that are newer than the champion's data, or all without a champion.
        fresh: Published intervals that no training and no challenger has seen.
        undecided: Landed intervals up to now of which nothing was decided yet.
        last_training: When the last training was asked for.
        open_requests: Requests that no training has claimed or answered.
        asked: Causes that this window has asked with before.
        superseded: Whether a later window was judged already.
    """

    now: datetime
    champion_since: datetime | None = None
    published: int = 0
    fresh: int = 0
    undecided: int = 0
    last_training: datetime | None = None
    open_requests: int = 0
    asked: tuple[str, ...] = ()
    superseded: bool = False


def causes(
    window: WindowFacts, earlier: list[WindowFacts], data: DataFacts, bounds: Monitoring, training: Training
) -> dict[str, dict[str, Any]]:
    """Why to ask for a training: cause to evidence. Whether to ask at all now is :func:`hold`'s answer.

    Args:
        window: The window just judged.
        earlier: Judged windows before it, newest first, not overlapping.
        data: What the ledger knows.
        bounds: The spec's rules of monitoring.
        training: The spec's rules of training.
    """
    found = _violations(window, earlier, data, bounds)
    if data.champion_since is None:
        needed = training.holdout_days + training.min_train_days
        if data.published >= needed and data.fresh:
            found["new_data"] = {"published_intervals": data.published, "needed": needed, "champion": None}
        return found
    age = (data.now - data.champion_since) / timedelta(days=1)
    if age > training.max_age_days:
        found["age"] = {"age_days": round(age, 2), "max_age_days": training.max_age_days}
    if data.published >= training.new_data_intervals:
        found["new_data"] = {
            "published_intervals": data.published,
            "needed": training.new_data_intervals,
            "champion": window.champion,
        }
    return found


def hold(data: DataFacts, training: Training) -> str | None:
    """Why not to ask now whatever the causes are; None when nothing speaks against it."""
    if data.open_requests:
        return "a request for a training is open already"
    if data.last_training is not None and data.now - data.last_training < timedelta(days=training.cooldown_days):
        asked = f"the last training was asked for at {data.last_training:%Y-%m-%d %H:%M}"
        return f"{asked}, cool-down is {training.cooldown_days} days"
    if data.champion_since is None and data.undecided:
        # The first training should see the whole history, not its first part that happens to be in.
        return f"{data.undecided} landed intervals are not decided yet"
    return None


def _violations(
    window: WindowFacts, earlier: list[WindowFacts], data: DataFacts, bounds: Monitoring
) -> dict[str, dict[str, Any]]:
    if data.superseded:
        return {}
    recent = [window, *(w for w in earlier if w.champion == window.champion)][: bounds.of_windows]
    violating = [w.key for w in recent if w.violates(bounds)]
    if len(violating) < bounds.violations:
        return {}
    rule = {"violating_windows": violating, "of": len(recent), "needed": bounds.violations, "champion": window.champion}
    found: dict[str, dict[str, Any]] = {}
    if window.drifts(bounds):
        found["drift"] = {**rule, "drift_share": window.drift_share, "bound": bounds.drift_share}
    if window.decays(bounds):
        found["decay"] = {**rule, "metric_loss": window.metric_loss, "bound": bounds.max_metric_loss}
    return found
