"""What a training will take, told before it begins: from what earlier ones took, or from one small fit that is measured."""

from __future__ import annotations

import logging
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from airworthy import features, measuring
from airworthy.config import UseCase
from airworthy.intervals import Interval
from airworthy.ledger import attempts, usage
from airworthy.ledger.commits import newest_commits
from airworthy.ledger.models import TaskUsage
from airworthy.records import Record, Window
from airworthy.training.building import fit_estimator
from airworthy.training.search import SearchResult

log = logging.getLogger(__name__)

# Of so many earlier trainings the middle one counts: machines and loads differ.
REMEMBERED = 20
# Tasks that do not grow with the number of trials.
FIXED_TASKS = frozenset({"claim", "plan", "training_set", "judge", "register", "report"})
CALIBRATION_ROWS = 4000
# Without history: the gate scores, refits and explains, about as much as so many fits.
GATE_FITS = 2


class Estimate(Record):
    """What a training will take, roughly.

    Attributes:
        rows: Of the training part, by the ledger.
        fits: Trials of the search, and the last fit.
        cpu_seconds: Of the whole run.
        amount: Its price by the settings' rates.
        source: What this is known from.
    """

    rows: int
    fits: int
    cpu_seconds: float
    amount: float
    source: str

    @property
    def words(self) -> str:
        """Such as ``about 2.3 CPU-minutes, 0.00153 EUR (118,000 rows, 9 fits; as the last 4 trainings took)``."""
        fits = "1 fit" if self.fits == 1 else f"{self.fits} fits"
        return (
            f"about {minutes(self.cpu_seconds)}, {usage.price(self.amount)} ({self.rows:,} rows, {fits}; {self.source})"
        )


def minutes(cpu_seconds: float) -> str:
    """CPU time for people: in seconds below two minutes."""
    return f"{cpu_seconds:.1f} CPU-seconds" if cpu_seconds < 120 else f"{cpu_seconds / 60:.1f} CPU-minutes"


def estimate(
    use_case: UseCase,
    *,
    window: Window,
    algorithm: str,
    parameters: dict[str, Any],
    trials: int,
    trial_rows: int | None,
) -> Estimate:
    """Estimate a training.

    Args:
        use_case: The use case.
        window: What its training part is narrowed to.
        algorithm, parameters: What is fitted.
        trials: Of the search.
        trial_rows: At most so many rows in a trial; None: all.
    """
    rows = rows_in(use_case, window)
    fitted = rows + trials * min(rows, trial_rows or rows)
    per_row, fixed, source = _remembered(use_case, algorithm) or _measured(use_case, algorithm, parameters, rows)
    cpu = per_row * fitted + fixed
    rates = usage.Cost(cpu_seconds=cpu)
    return Estimate(rows=rows, fits=trials + 1, cpu_seconds=cpu, amount=rates.amount, source=source)


def note_search(use_case: UseCase, run: str, kind: str, found: SearchResult) -> None:
    """Write into a run's attempt how much was searched: what later estimates are made from, and what people are shown."""
    space = use_case.training.search
    if found.trials and space:
        attempts.note_attempt(
            use_case.name, run, kind, trials=found.trials, trial_rows=space.rows, search=found.to_json()
        )


def rows_in(use_case: UseCase, window: Window) -> int:
    """Published rows that a training part of this window can have: the days before the newest ``holdout_days``."""
    commits = newest_commits(use_case.table("clean", use_case.prediction.source))
    keys = sorted(commits)[: -use_case.training.holdout_days]
    if window.days:
        keys = keys[-window.days :]
    first = Interval.of(window.first).key if window.first else ""
    last = Interval.of(window.last).key if window.last else "9999"
    return sum(commits[key].rows for key in keys if first <= key <= last)


def _remembered(use_case: UseCase, algorithm: str) -> tuple[float, float, str] | None:
    """CPU-seconds a row and fit, those beside, and the source; None when this algorithm was never trained."""
    by_run: dict[str, list[TaskUsage]] = {}
    for row in usage.usages(use_case.name):
        by_run.setdefault(row.run, []).append(row)
    per_row, fixed = [], []
    for attempt in attempts.attempts(use_case.name):
        found, used = attempt.record, [r for r in by_run.get(attempt.run, []) if r.outcome == "done"]
        rows = (found.get("training_set") or {}).get("train_rows")
        growing = sum(r.cpu_seconds for r in used if r.task not in FIXED_TASKS)
        if rows and growing and found.get("algorithm") == algorithm:
            per_row.append(growing / (rows + (found.get("trials") or 0) * min(rows, found.get("trial_rows") or rows)))
            fixed.append(sum(r.cpu_seconds for r in used if r.task in FIXED_TASKS))
        if len(per_row) == REMEMBERED:
            break
    if not per_row:
        return None
    count = f"the last {len(per_row)} trainings" if len(per_row) > 1 else "the last training"
    return median(per_row), median(fixed), f"as {count} of this algorithm took"


def _measured(use_case: UseCase, algorithm: str, parameters: dict[str, Any], rows: int) -> tuple[float, float, str]:
    """The same, from one fit on made-up rows of the same columns; a fit's fixed part makes it rather too high."""
    columns = features.feature_columns(use_case)
    table, labels = _made_up(columns, use_case.training.seed)
    used = measuring.start()
    fit_estimator(table, labels, columns, algorithm, parameters, use_case.training.seed)
    per_row = used().cpu_seconds / CALIBRATION_ROWS
    return per_row, GATE_FITS * per_row * rows, f"from one fit on {CALIBRATION_ROWS:,} made-up rows"


def _made_up(columns: dict[str, str], seed: int) -> tuple[pa.Table, np.ndarray]:
    rng = np.random.default_rng(seed)
    made: dict[str, pa.Array] = {}
    for name, kind in columns.items():
        if kind == "string":
            made[name] = pa.array([f"value {i}" for i in rng.integers(0, 30, CALIBRATION_ROWS)])
        elif kind == "boolean":
            made[name] = pa.array(rng.random(CALIBRATION_ROWS) < 0.5)
        elif kind == "int64":
            made[name] = pa.array(rng.integers(0, 1000, CALIBRATION_ROWS))
        else:
            made[name] = pa.array(rng.normal(size=CALIBRATION_ROWS))
    return pa.table(made), rng.random(CALIBRATION_ROWS) < 0.25
