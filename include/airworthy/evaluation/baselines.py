"""What anyone could have had: the same rate for everything, a rule, a linear model; all fitted on the training rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.evaluation import metrics
from airworthy.evaluation.metrics import Labels, Metrics, Scores
from airworthy.evaluation.subject import Holdout, labels_of, picked
from airworthy.training.encoder import Encoder

# A sample of this size is plenty for a model with so few parameters.
LINEAR_ROWS = 30_000
# A group's rate is pulled towards the rate of all by so many rows: a group of three says little.
RULE_PRIOR_ROWS = 20.0
RULE_BINS = 10
RULE_VALUES = 50
EMPTY = "(empty)"


def prior(use_case: UseCase, train: pa.Table, holdout: Holdout) -> Metrics:
    """Metrics of predicting the training rows' rate for everything."""
    labels = labels_of(train)
    rate = float(labels.mean()) if labels.size else float("nan")
    return measured(use_case, holdout.labels, np.full(holdout.labels.size, rate))


def rule(
    use_case: UseCase, train: pa.Table, columns: dict[str, str], holdout: Holdout
) -> tuple[Metrics, tuple[str, ...]]:
    """Metrics of a rule that fits on a page: the smoothed rate of each combination of a few columns.

    A number with many values is cut into ten bins of equal count. What training never saw gets the rate of all.

    Args:
        use_case: Names the columns; by default the first two texts among the inputs, or the first input.
        train: Training rows with ``label``.
        columns: Model inputs, name to type.
        holdout: The rows to measure on.

    Returns:
        The metrics, and the columns that it looks at.

    Raises:
        ConfigurationError: ``gate.rule`` names a column that the training set does not have.
    """
    texts = [name for name, kind in columns.items() if kind == "string"]
    named = use_case.gate.rule or texts[:2] or list(columns)[:1]
    absent = sorted(set(named) - set(train.schema.names))
    if absent:
        raise ConfigurationError(
            f"gate.rule of {use_case.name} names {', '.join(absent)}, which the training set does not have",
            next_step=f"name model inputs, such as {', '.join(list(columns)[:5])}",
        )
    labels = labels_of(train)
    if not labels.size or not holdout.labels.size:
        return dict.fromkeys(metrics.REQUIRED), tuple(named)
    parts = [_values(train[name], holdout.rows[name]) for name in named]
    keys, holdout_keys = _joined([p[0] for p in parts]), _joined([p[1] for p in parts])
    known, at = np.unique(keys, return_inverse=True)
    counts, positives = np.bincount(at), np.bincount(at, weights=labels)
    everywhere = float(labels.mean())
    rates = (positives + RULE_PRIOR_ROWS * everywhere) / (counts + RULE_PRIOR_ROWS)
    where = np.minimum(np.searchsorted(known, holdout_keys), known.size - 1)
    scores = np.where(known[where] == holdout_keys, rates[where], everywhere)
    return measured(use_case, holdout.labels, scores), tuple(named)


def linear(use_case: UseCase, train: pa.Table, columns: dict[str, str], holdout: Holdout) -> Metrics:
    """Metrics of a logistic regression on the same inputs."""
    from sklearn.linear_model import LogisticRegression

    train = train.take(pa.array(picked(train.num_rows, LINEAR_ROWS, use_case.training.seed)))
    labels = labels_of(train)
    absent = set(columns) - set(holdout.rows.schema.names)
    if absent or labels.all() or not labels.any() or not holdout.labels.size:
        return dict.fromkeys(metrics.REQUIRED)
    encoder = Encoder.fit(train, columns, style="dense")
    model = LogisticRegression(max_iter=300).fit(encoder.transform(train), labels)
    return measured(use_case, holdout.labels, model.predict_proba(encoder.transform(holdout.rows))[:, 1])


def measured(use_case: UseCase, labels: Labels, scores: Scores | None) -> Metrics:
    """Every metric of scores; None for each without scores."""
    if scores is None:
        return dict.fromkeys(metrics.REQUIRED)
    problem = use_case.problem
    return metrics.measure(labels, scores, cost_false_alarm=problem.cost_false_alarm, cost_miss=problem.cost_miss)


def _values(train: pa.ChunkedArray, holdout: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    if pa.types.is_floating(train.type) and pc.count_distinct(train).as_py() > RULE_VALUES:
        numbers = np.asarray(train.to_numpy(), dtype=np.float64)
        edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, RULE_BINS + 1)[1:-1]))
        both = [np.asarray(c.to_numpy(), dtype=np.float64) for c in (train, holdout)]
        texts = [np.where(np.isnan(b), EMPTY, np.searchsorted(edges, b).astype(str)) for b in both]
        return texts[0], texts[1]
    return _texts(train), _texts(holdout)


def _texts(values: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(values.cast(pa.string()), EMPTY).to_numpy(zero_copy_only=False), dtype=str)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    keys = parts[0]
    for values in parts[1:]:
        keys = np.char.add(np.char.add(keys, "\x1f"), values)
    return keys
