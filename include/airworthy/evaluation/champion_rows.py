"""The champion's inputs on the candidate's holdout, when the two were trained on other features.

Same rows, same prediction times; what the champion knew comes from its own definitions, or it is not compared.
``docs/decisions/`` says why.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from airworthy import training
from airworthy.config import UseCase
from airworthy.errors import AirworthyError, ReleaseError
from airworthy.evaluation.champion import ChampionRecord
from airworthy.evaluation.examine import Opponent
from airworthy.evaluation.subject import Holdout
from airworthy.features.definitions_match import differences
from airworthy.features.registered import registered_digest, registered_features
from airworthy.lake import tables
from airworthy.records import TrainingSetRef
from airworthy.training.model_files import LoadedModel

# A view that is not built any more finds nothing for newer rows: the champion would be measured without its eyes.
MIN_COVERAGE = 0.9
WAY_OUT = (
    "keep the view in features.py until its champion is replaced, or name the champion in gate.replace_champion to "
    "replace it without a comparison"
)
ROW = "__row"


def opponent_of(
    use_case: UseCase, champion: ChampionRecord, model: LoadedModel, ref: TrainingSetRef, holdout: Holdout
) -> Opponent:
    """The champion with its inputs for the holdout rows, or with the reason why it has none.

    Args:
        use_case: The use case.
        champion: The champion with its pedigree.
        model: Its loaded model.
        ref: The candidate's training set.
        holdout: The candidate's holdout.
    """
    known = champion.training_set
    base = Opponent(model, champion.release.digest, known.train_end if known else None)
    if model.schema.feature_digest == ref.feature_digest:
        return base
    rows, note, words = holdout.rows, "", "the champion's features are not the candidate's"
    try:
        rows, note = _with_its_inputs(use_case, model, known, ref, holdout)
    except AirworthyError as error:
        note = error.what
    if note:
        note = f"the champion's features cannot be joined for this holdout: {note}; {WAY_OUT}"
        return Opponent(model, base.release, base.trained_until, note=note)
    words += ": it was scored on its own, joined for the same rows and prediction times"
    return Opponent(model, base.release, base.trained_until, rows=rows, words=words)


def _with_its_inputs(
    use_case: UseCase, model: LoadedModel, known: TrainingSetRef | None, ref: TrainingSetRef, holdout: Holdout
) -> tuple[pa.Table, str]:
    """The holdout rows with the champion's columns; or the reason why they cannot be had."""
    then, now = model.schema.view_digests, ref.view_digests
    if known is None or not then:
        return holdout.rows, "nobody recorded which definitions it was trained on"
    gone = sorted(set(then) - set(now))
    changed = differences(now, {n: d for n, d in then.items() if n not in gone})
    if changed:
        return holdout.rows, ", ".join(changed)
    rows, found = holdout.rows, list[str]()
    for name in gone:
        if registered_digest(use_case, name) != then[name]:
            return rows, f"{name} is not registered any more as it was then"
        joined = registered_features(use_case, name, _requests(use_case, ref, rows))
        for column in [c for c in joined.schema.names if c in model.columns]:
            rows = _set(rows, column, joined[column])
            found.append(column)
    return rows, _blind(rows, known, found)


def _blind(rows: pa.Table, known: TrainingSetRef, columns: list[str]) -> str:
    """Which columns of gone views have far fewer values than when the champion was trained."""
    if not columns:
        return ""
    before = training.read_training_set(known)
    worse = []
    for name in columns:
        then, now = _coverage(before[name]), _coverage(rows[name])
        if now < MIN_COVERAGE * then:
            worse.append(f"{name} has a value for {now:.0%} of the rows, had for {then:.0%}")
    return "; ".join(worse[:3])


def _coverage(values: pa.ChunkedArray) -> float:
    return 1 - values.null_count / max(1, len(values))


def _requests(use_case: UseCase, ref: TrainingSetRef, rows: pa.Table) -> pa.Table:
    """The requests behind the holdout rows, in their order: the fields that features are looked up by, and the time."""
    clean, prediction = use_case.table("clean", use_case.prediction.source), use_case.prediction
    wanted = list(dict.fromkeys([*prediction.id, *prediction.request, prediction.time]))
    source = tables.read(clean, version=ref.data_versions[clean]).select(wanted)
    numbered = rows.select(prediction.id).append_column(ROW, pa.array(np.arange(rows.num_rows)))
    joined = numbered.join(source, prediction.id, join_type="inner").sort_by(ROW)
    if joined.num_rows != rows.num_rows:
        raise ReleaseError(
            f"{joined.num_rows} of {rows.num_rows} holdout rows are in {clean}",
            next_step="build the training set again",
        )
    return joined.drop_columns([ROW])


def _set(rows: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    at = rows.schema.get_field_index(name)
    return rows.append_column(name, values) if at < 0 else rows.set_column(at, name, values)
