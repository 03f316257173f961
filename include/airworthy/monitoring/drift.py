"""Drift of feature vectors, measured by Evidently as effect sizes: the one place that knows Evidently's API.

Significance tests call nearly every column drifted at these sizes, so what counts is how far a distribution moved:
normed Wasserstein distance for numbers, Jensen-Shannon distance for categories. A small window moves by chance alone:
a column's threshold is therefore never below what samples of the reference show.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airworthy.records import Record

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

NUMERIC = ("int64", "float64")
NUM_METHOD, CAT_METHOD = "wasserstein", "jensenshannon"
# Few values far outside would set the norm of the distance and hide real shifts; so many quartile ranges are kept.
KEPT_RANGES = 10
MIN_CATEGORY_SHARE = 0.005
OTHER, MISSING, UNSEEN = "(other)", "(empty)", "(not in the reference)"
DRAWS, DEVIATIONS = 40, 4
MAX_HTML_COLUMNS = 18
SMALLEST_NORM = 0.001


class FeatureDrift(Record):
    """Drift of one feature.

    Attributes:
        name: The feature.
        score: Its effect size; None without data on either side.
        threshold: From which score on it counts as drifted.
        drifted: Whether it does.
        missing, reference_missing: Share of empty values in the window and in the reference.
        note: Why there is no score.
    """

    name: str
    score: float | None
    threshold: float | None
    drifted: bool
    missing: float
    reference_missing: float
    note: str = ""


@dataclass(frozen=True)
class DriftResult:
    """Drift of a window: feature by feature, worst first, and Evidently's report of the worst of them."""

    features: tuple[FeatureDrift, ...]
    html: str

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the drifted features, worst first."""
        return tuple(f.name for f in self.features if f.drifted)

    @property
    def no_data(self) -> tuple[str, ...]:
        """Names of the features without a score."""
        return tuple(f.name for f in self.features if f.score is None)

    @property
    def share(self) -> float | None:
        """Share of drifted features among those with a score; None when there is none."""
        measured = sum(f.score is not None for f in self.features)
        return len(self.drifted) / measured if measured else None


def measure(
    reference: pa.Table,
    current: pa.Table,
    columns: dict[str, str],
    *,
    threshold: float,
    drift_share: float,
    rows: int,
    seed: int,
    hidden: Collection[str] = (),
) -> DriftResult:
    """Measure the drift of a window against a reference.

    Args:
        reference: Rows that the model was trained on.
        current: Rows that it was asked about.
        columns: Features, name to Ibis type.
        threshold: Effect size from which a feature counts as drifted.
        drift_share: Share of drifted features that the report calls dataset drift.
        rows: Rows sampled from each side.
        seed: Of sampling.
        hidden: Features that are measured, but whose values the report does not show.
    """
    rng = np.random.default_rng(seed)
    left, right = _sample(reference, columns, rows, rng), _sample(current, columns, rows, rng)
    empty = [_no_data(n, left, right) for n in columns if left[n].isna().all() or right[n].isna().all()]
    known = {n: t for n, t in columns.items() if n not in {f.name for f in empty}}
    if not known:
        return DriftResult(tuple(empty), "")
    before, after = _comparable(left, right, known)
    thresholds = {
        n: max(threshold, _chance(before[n], after[n].notna().sum(), t in NUMERIC, rng)) for n, t in known.items()
    }
    snapshot = _report(before, after, known, thresholds, drift_share)
    scores = _scores(snapshot)
    measured = [
        FeatureDrift(
            name=n, score=scores[n], threshold=thresholds[n], drifted=scores[n] >= thresholds[n],
            missing=float(right[n].isna().mean()), reference_missing=float(left[n].isna().mean()),
        )
        for n in known
    ]  # fmt: skip
    measured.sort(key=lambda f: (not f.drifted, -(f.score or 0.0), f.name))
    open_ones = [f.name for f in measured if f.name not in hidden][:MAX_HTML_COLUMNS]
    if not open_ones:
        return DriftResult((*measured, *empty), "")
    if len(open_ones) < len(known):
        snapshot = _report(before, after, {name: known[name] for name in open_ones}, thresholds, drift_share)
    return DriftResult((*measured, *empty), str(snapshot.get_html_str(as_iframe=False)))


def _report(
    before: pd.DataFrame, after: pd.DataFrame, columns: dict[str, str], thresholds: dict[str, float], drift_share: float
) -> Snapshot:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [n for n, t in columns.items() if t in NUMERIC]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=[n for n in columns if n not in numbers])
    preset = DataDriftPreset(
        columns=list(columns), num_method=NUM_METHOD, cat_method=CAT_METHOD, drift_share=drift_share,
        per_column_threshold={n: thresholds[n] for n in columns}, include_tests=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Report([preset]).run(
            Dataset.from_pandas(after[list(columns)], definition),
            Dataset.from_pandas(before[list(columns)], definition),
        )


def _scores(snapshot: Snapshot) -> dict[str, float]:
    found: dict[str, Any] = {}
    for metric in snapshot.dict()["metrics"]:
        if "column" in metric["config"]:
            found[metric["config"]["column"]] = float(metric["value"])
    return found


def _sample(table: pa.Table, columns: dict[str, str], rows: int, rng: np.random.Generator) -> pd.DataFrame:
    picks = np.sort(rng.permutation(table.num_rows)[:rows])
    frame = table.select(list(columns)).take(pa.array(picks, pa.int64())).to_pandas()
    for name, kind in columns.items():
        if kind in NUMERIC:
            frame[name] = (
                pd.to_numeric(frame[name], errors="coerce").astype("float64").replace([np.inf, -np.inf], np.nan)
            )
        else:
            frame[name] = frame[name].map(lambda v: None if v is None or v != v else str(v)).astype("object")
    return frame


def _comparable(left: pd.DataFrame, right: pd.DataFrame, columns: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both sides with outliers pulled in and rare categories put together, by what the reference shows."""
    before, after = {}, {}
    for name, kind in columns.items():
        tidy = _clipper(left[name]) if kind in NUMERIC else _grouper(left[name])
        before[name], after[name] = tidy(left[name]), tidy(right[name])
    return pd.DataFrame(before), pd.DataFrame(after)


def _clipper(reference: pd.Series) -> Callable[[pd.Series], pd.Series]:
    low, high = reference.quantile([0.25, 0.75])
    kept = KEPT_RANGES * (high - low)
    # Without a range (nearly all values equal) nothing can be said about what lies outside.
    return lambda values: values.clip(low - kept, high + kept) if kept > 0 else values


def _grouper(reference: pd.Series) -> Callable[[pd.Series], pd.Series]:
    shares = reference.fillna(MISSING).value_counts(normalize=True)
    seen, kept = set(shares.index), set(shares[shares >= MIN_CATEGORY_SHARE].index)
    return lambda values: values.fillna(MISSING).map(lambda v: v if v in kept else OTHER if v in seen else UNSEEN)


def _chance(reference: pd.Series, size: int, numeric: bool, rng: np.random.Generator) -> float:
    """A score that chance hardly reaches: both sides drawn from the reference, in the sizes that are compared."""
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    values = reference.dropna().to_numpy() if numeric else pd.factorize(reference)[0]
    norm = max(float(np.std(values)), SMALLEST_NORM) if numeric else 1.0

    def score() -> float:
        sides = rng.choice(values, size=values.size), rng.choice(values, size=size)
        if numeric:
            return float(wasserstein_distance(*sides)) / norm
        return float(jensenshannon(*(np.bincount(side, minlength=int(values.max()) + 1) for side in sides)))

    scores = [score() for _ in range(DRAWS)]
    return float(np.mean(scores) + DEVIATIONS * np.std(scores))


def _no_data(name: str, left: pd.DataFrame, right: pd.DataFrame) -> FeatureDrift:
    where = " and ".join(side for side, frame in (("reference", left), ("window", right)) if frame[name].isna().all())
    return FeatureDrift(
        name=name,
        score=None,
        threshold=None,
        drifted=False,
        missing=_share(right[name]),
        reference_missing=_share(left[name]),
        note=f"no data in the {where}",
    )


def _share(values: pd.Series) -> float:
    return float(values.isna().mean()) if len(values) else 1.0


def feature_table(predictions: pa.Table, columns: dict[str, str]) -> pa.Table:
    """The logged feature vectors as a table of the model's inputs; a feature that was not logged is empty.

    Args:
        predictions: Rows of the prediction log (``features`` is JSON).
        columns: Model inputs, name to Ibis type.
    """
    vectors = [json.loads(text) for text in predictions["features"].to_pylist()]
    return pa.table({n: _logged([v.get(n) for v in vectors], numeric=t in NUMERIC) for n, t in columns.items()})


def _logged(values: list[Any], *, numeric: bool) -> pa.Array:
    # What an older release logged under this name may be of another kind: it then counts as empty, or as its text.
    if numeric:
        return pa.array([float(v) if isinstance(v, (int, float)) else None for v in values], pa.float64())
    return pa.array([None if v is None else str(v) for v in values], pa.string())
