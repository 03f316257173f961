"""Checks of a whole training set before anything is fitted on it: parts, size, labels, duplicates, columns, leakage.

What one column may hold is the business of the suite ``training/set`` (Great Expectations); an id that occurs twice, an
infinite value and a part with one label are refused while the rows are put together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.config.training_spec import SetChecks
from airworthy.intervals import Interval
from airworthy.records import Check, ExpectationResult, ValidationReport
from airworthy.training.known_in_time import TooLate

BINS = 64
PRIOR_ROWS = 5.0
PART, LABEL, TIME = "part", "label", "prediction_time"


@dataclass(frozen=True)
class Finding:
    """One check, and where to look when it failed: the column, how many rows, a few of them."""

    check: Check
    column: str | None = None
    count: int = 0
    examples: tuple[str, ...] = ()


def check_set(
    use_case: UseCase,
    rows: pa.Table,
    columns: Mapping[str, pa.DataType],
    late: tuple[TooLate, ...],
    inputs: set[str],
) -> list[Finding]:
    """Every check of a training set.

    Args:
        use_case: Holds the bounds, ``training.checks``.
        rows: Both parts, with ``part``, ``label``, ``prediction_time``, the id, the features.
        columns: Every feature in the order of the feature service, with its type.
        late: What looking the values up by hand found.
        inputs: Features that the model reads.
    """
    bounds, train = use_case.training.checks, rows.filter(pc.equal(rows[PART], "train"))
    holdout = rows.filter(pc.equal(rows[PART], "holdout"))
    return [
        _parts(use_case, train, holdout),
        _columns(rows, columns),
        _least("train_rows", train.num_rows, bounds.min_rows, "training rows", "fewer teach nothing that lasts"),
        _rarer(train, bounds),
        *_label_rates(train, holdout, bounds),
        _duplicates(train, list(columns), bounds),
        _too_good(train, sorted(inputs), bounds, use_case.training.seed),
        _known(late),
    ]


def report_of(
    use_case: UseCase, findings: list[Finding], rows: int, first: Interval, last: Interval
) -> ValidationReport:
    """The checks as a validation report, for the ledger and the Data Docs page.

    Args:
        use_case, rows, first, last: What was checked.
        findings: What was found; they show names and figures, and no values.
    """
    results = [
        ExpectationResult(
            expectation=f.check.words, column=f.column, severity="critical", success=f.check.passed,
            unexpected=f.count, examples=f.examples,
        )
        for f in findings
    ]  # fmt: skip
    return ValidationReport(
        table=use_case.table("training", "checks"), interval=last, first=None if first == last else first,
        suite="training.checks", rows=rows, rejected=0, passed=all(f.check.passed for f in findings),
        results=tuple(results), engine="airworthy",
    )  # fmt: skip


def _finding(
    name: str, value: float, bound: float, reason: str, words: str, *, passed: bool, column: str | None = None,
    count: int = 0, examples: tuple[str, ...] = (),
) -> Finding:  # fmt: skip
    check = Check(name=name, value=value, bound=bound, reason=reason, passed=passed, words=words)
    return Finding(check, column, count, examples)


def _least(name: str, value: float, bound: float, what: str, reason: str) -> Finding:
    words = f"{value:g} {what}, at least {bound:g} are needed"
    return _finding(name, value, bound, reason, words, passed=value >= bound)


def _parts(use_case: UseCase, train: pa.Table, holdout: pa.Table) -> Finding:
    ends, begins = pc.max(train[TIME]).as_py(), pc.min(holdout[TIME]).as_py()
    late = pc.sum(pc.greater_equal(train[TIME], pa.scalar(begins, train[TIME].type))).as_py() or 0
    names = use_case.prediction.id
    both = train.select(names).join(holdout.select(names), names, join_type="inner").num_rows
    words = (
        f"training rows end at {ends:%Y-%m-%d %H:%M} UTC, before the holdout begins at {begins:%Y-%m-%d %H:%M}, and no "
        f"row is in both ({late} too late, {both} in both)"
    )
    reason = "a model that has seen the holdout cannot be judged on it"
    return _finding("overlap", late + both, 0, reason, words, passed=late + both == 0, column=TIME, count=late + both)


def _columns(rows: pa.Table, columns: Mapping[str, pa.DataType]) -> Finding:
    found = [(f.name, f.type) for f in rows.schema][-len(columns) :]
    wrong = [
        f"{name} {kind} where {want} {type_} belongs"
        for (name, kind), (want, type_) in zip(found, columns.items(), strict=False)
        if (name, kind) != (want, type_)
    ]
    missing = len(columns) - len(found)
    words = f"the {len(columns)} features stand in the order and types of the feature service"
    reason = "a model reads its inputs by their place"
    count = len(wrong) + missing
    return _finding("columns", count, 0, reason, words, passed=not count, count=count, examples=tuple(wrong[:3]))


def _rarer(train: pa.Table, bounds: SetChecks) -> Finding:
    positive = pc.sum(train[LABEL].cast(pa.int64())).as_py() or 0
    rarer = min(positive, train.num_rows - positive)
    what = "training rows of the rarer label"
    return _least("class_rows", rarer, bounds.min_class_rows, what, "a label seen a few times is learned by heart")


def _label_rates(train: pa.Table, holdout: pa.Table, bounds: SetChecks) -> list[Finding]:
    found = []
    for name, rows in (("train", train), ("holdout", holdout)):
        rate = float(pc.mean(rows[LABEL].cast(pa.float64())).as_py())
        bound = bounds.min_label_rate if rate < bounds.min_label_rate else bounds.max_label_rate
        passed = bounds.min_label_rate <= rate <= bounds.max_label_rate
        words = (
            f"the label rate of the {name} part is {rate:.4f}, within {bounds.min_label_rate:g} to "
            f"{bounds.max_label_rate:g} is expected"
        )
        reason = "outside of it the labels are more likely wrong than the world changed"
        found.append(_finding(f"{name}_label_rate", rate, bound, reason, words, passed=passed, column=LABEL))
    return found


def _duplicates(train: pa.Table, columns: list[str], bounds: SetChecks) -> Finding:
    distinct = train.group_by([TIME, LABEL, *columns]).aggregate([]).num_rows
    repeated = train.num_rows - distinct
    share = repeated / train.num_rows if train.num_rows else 1.0
    words = (
        f"{share:.4f} of the training rows repeat another one in time, label and every feature, at most "
        f"{bounds.max_duplicate_share:g} may"
    )
    reason = "a row that was delivered twice counts twice"
    passed = share <= bounds.max_duplicate_share
    return _finding("duplicate_share", share, bounds.max_duplicate_share, reason, words, passed=passed, count=repeated)


def _too_good(train: pa.Table, columns: list[str], bounds: SetChecks, seed: int) -> Finding:
    rng = np.random.default_rng(seed)
    order = rng.permutation(train.num_rows)[: bounds.leak_rows]
    sample = train.take(pa.array(order))
    labels = np.asarray(sample[LABEL].to_numpy(zero_copy_only=False), dtype=bool)
    found = {name: feature_auc(sample[name], labels) for name in columns}
    name = max(found, key=lambda n: (found[n], n))
    worse = sorted(n for n in columns if found[n] > bounds.max_feature_auc)
    words = (
        f"the strongest single feature is {name}, whose ROC AUC alone is {found[name]:.4f}; more than "
        f"{bounds.max_feature_auc:g} is too good to be true (is it known only after the outcome?)"
    )
    reason = "a feature that nearly is the label was made from it"
    return _finding(
        "feature_auc", found[name], bounds.max_feature_auc, reason, words, passed=not worse,
        column=", ".join(worse[:5]) or name, count=len(worse),
    )  # fmt: skip


def _known(late: tuple[TooLate, ...]) -> Finding:
    count = sum(v.rows for v in late)
    words = (
        f"{count} values of sampled rows had not been published at their prediction time, none may be: each was looked "
        "up in its feature table by hand, without the feature store's join"
    )
    reason = "what is learned from the future is not there when it is needed"
    names = ", ".join(v.feature for v in late[:5])
    return _finding("known_late", count, 0, reason, words, passed=not count, column=names or None, count=count)


def feature_auc(values: pa.ChunkedArray, labels: np.ndarray) -> float:
    """How well one feature alone tells the labels: ROC AUC of the label rate of its bins.

    Rates come from every other row and are scored on the rest, so that many categories do not look good by themselves.
    A missing value is a bin of its own: that it is missing may tell everything.

    Args:
        values: The feature, in an order that says nothing.
        labels: bool [rows].
    """
    from sklearn.metrics import roc_auc_score

    bins = _bins(values)
    learn, ask = np.arange(len(bins)) % 2 == 0, np.arange(len(bins)) % 2 == 1
    if len(np.unique(labels[ask])) < 2 or not learn.any():
        return 0.5
    rate = labels[learn].mean()
    sums = np.bincount(bins[learn], weights=labels[learn], minlength=bins.max() + 1)
    counts = np.bincount(bins[learn], minlength=bins.max() + 1)
    scores = (sums + PRIOR_ROWS * rate) / (counts + PRIOR_ROWS)
    return float(roc_auc_score(labels[ask], scores[bins[ask]]))


def _bins(values: pa.ChunkedArray) -> np.ndarray:
    """The bin of each value, int64 [rows]; the last one is for missing values."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        codes = values.cast(pa.string()).combine_chunks().dictionary_encode()
        indices = codes.indices.fill_null(len(codes.dictionary))
        return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    numbers = np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    known = numbers[~np.isnan(numbers)]
    # Few different values are bins of their own: a quantile would merge a flag into its neighbours.
    different = np.unique(known)
    edges = different if len(different) <= BINS else np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.where(np.isnan(numbers), len(edges) + 1, np.searchsorted(edges, numbers, side="right")).astype(np.int64)
