"""The training set: labels known now, features as they were known then, the newest days set aside for the gate."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError
from sqlalchemy import func

from airworthy import features
from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError, ReleaseError, shown
from airworthy.features.catalog import ARROW
from airworthy.ingest import clean_masks
from airworthy.intervals import DAY, Interval
from airworthy.lake import tables
from airworthy.lake.landing import read_bytes
from airworthy.ledger.clock import data_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import RedactedTrainingSet, TrainingSet
from airworthy.records import Check, TrainingSetRef, Window
from airworthy.training.folders import put
from airworthy.training.known_in_time import TooLate, too_late
from airworthy.training.labelled_rows import ROW_LABEL, ROW_PART, ROW_TIME, Bounds, labelled_rows, refused
from airworthy.training.offered import offer_inputs
from airworthy.training.recipe_checks import check_recipe
from airworthy.training.set_checks import check_set, report_of
from airworthy.validation import StageChecks

log = logging.getLogger(__name__)

PART, LABEL, TIME = "part", "label", "prediction_time"


def build_training_set(
    use_case: UseCase, *, run: str, window: Window | None = None, chosen: Sequence[str] | None = None
) -> TrainingSetRef:
    """Build the training set that can be known now (data time), and keep it as a file.

    The holdout is the newest ``holdout_days`` days whose labels are in. Training rows were predicted before it begins,
    and their labels were known by then. The same data give the same digest.

    Args:
        use_case: The use case.
        run: Who asks: the Airflow run, or a command.
        window: Days that the training part is narrowed to; the holdout stays everyone's.
        chosen: Features that the model may read; all by default. The others are empty in the training part, so that
            nothing can learn from them, and stay in the holdout, where the champion is scored too.

    Raises:
        DataRejectedError: too few days, one class only, an id twice, a label that is none, an infinite feature, rows
            that fail the suite ``training/set``, or a set that fails a check of ``training.checks``.
        ConfigurationError: an argument of the algorithm or a range of the search cannot be used, a feature has a name
            that the training set needs for itself, or there is none of a chosen name.
    """
    check_recipe(use_case)
    window = window or Window(days=use_case.training.window_days)
    inputs = chosen_columns(use_case, chosen)
    features.catch_up(use_case, run=run)
    now = data_now(use_case)
    clean = use_case.table("clean", use_case.prediction.source)
    versions = {clean: int(tables.open_table(clean).version()), **features.data_versions(use_case)}
    whole, bounds, late = _rows(use_case, versions, now, window)
    rows = _emptied(whole, use_case, inputs)
    train = part(rows, "train")
    digest = tables.digest(rows)
    checks = _validate(use_case, whole, digest, bounds, late, set(inputs))
    ref = TrainingSetRef(
        use_case=use_case.name,
        digest=digest,
        url=f"{get_settings().release_url}/training_sets/{digest}.parquet",
        data_versions=versions,
        feature_service=use_case.training.feature_service,
        feature_digest=features.feature_digest(use_case),
        view_digests=features.view_digests(use_case),
        columns=inputs,
        train_rows=train.num_rows,
        holdout_rows=rows.num_rows - train.num_rows,
        train_start=bounds.train_start if window == Window() else _floor(pc.min(train[TIME]).as_py()),
        train_end=bounds.holdout_start if window == Window() else _floor(pc.max(train[TIME]).as_py()) + DAY,
        holdout_start=bounds.holdout_start,
        holdout_end=bounds.holdout_end,
        data_time=now,
        label_rate=float(pc.mean(train[LABEL].cast(pa.float64())).as_py()),
        window=window,
        checks=checks,
    )
    _keep(ref, rows)
    offer_inputs(use_case, features.feature_columns(use_case))
    return ref


def rebuild_training_set(use_case: UseCase, ref: TrainingSetRef, *, exact: bool = True) -> pa.Table:
    """The rows of a training set, made once more from the data versions that it was made from.

    Args:
        use_case: The use case.
        ref: The training set.
        exact: False to get the rows even when they are others by now; the caller looks at their digest.

    Raises:
        ConfigurationError: the feature definitions are others by now.
        ReleaseError: a version's files are gone, or the rows are not those of its digest.
    """
    if features.feature_digest(use_case) != ref.feature_digest:
        raise ConfigurationError(
            f"the features of {use_case.name} are not those of training set {ref.digest[:12]}",
            next_step="check out the revision that its MLflow run names",
        )
    again = "the file of the training set may still be there: read_training_set"
    try:
        whole, _, _ = _rows(use_case, ref.data_versions, ref.data_time, ref.window)
    except (OSError, DeltaError, pa.ArrowInvalid) as error:
        raise ReleaseError(
            f"training set {ref.digest[:12]} cannot be made again, a data version is gone or damaged: {error}",
            next_step=again,
        ) from error
    rows = _emptied(whole, use_case, ref.columns)
    if exact and tables.digest(rows) != ref.digest:
        raise ReleaseError(f"training set {ref.digest[:12]} was made again and is another one", next_step=again)
    return rows


def _floor(moment: datetime) -> datetime:
    return Interval.containing(moment).start


def chosen_columns(use_case: UseCase, chosen: Sequence[str] | None) -> dict[str, str]:
    """The model's inputs in the order of the feature service, name to type; all when nothing was chosen.

    Raises:
        ConfigurationError: a chosen name is no feature of the service; the message names those that are near.
    """
    columns = features.feature_columns(use_case)
    if not chosen:
        return columns
    if unknown := sorted(set(chosen) - set(columns)):
        near = [n for name in unknown for n in get_close_matches(name, columns, 2)] or sorted(columns)
        raise ConfigurationError(
            f"{use_case.training.feature_service} has no feature {', '.join(map(shown, unknown[:5]))}",
            next_step=f"choose from its features, such as {', '.join(near[:8])}",
        )
    return {name: kind for name, kind in columns.items() if name in set(chosen)}


def _emptied(rows: pa.Table, use_case: UseCase, inputs: dict[str, str]) -> pa.Table:
    """Without values, in the training part, of the features that are no inputs."""
    train = pc.equal(rows[PART], "train")
    for name in features.feature_columns(use_case):
        if name not in inputs:
            kind = rows.schema.field(name).type
            emptied = pc.if_else(train, pa.scalar(None, kind), rows[name])
            rows = rows.set_column(rows.schema.get_field_index(name), pa.field(name, kind), emptied)
    return rows.combine_chunks()


def _rows(
    use_case: UseCase, versions: dict[str, int], now: datetime, window: Window
) -> tuple[pa.Table, Bounds, tuple[TooLate, ...]]:
    columns = features.feature_columns(use_case)
    clean = use_case.table("clean", use_case.prediction.source)
    labelled, bounds = labelled_rows(use_case, tables.read(clean, version=versions[clean]), now, window)
    joined = _join(use_case, labelled, versions)
    late = too_late(use_case, labelled, labelled[ROW_TIME], joined, versions)
    rows = _assemble(use_case, labelled, joined, columns)
    _check_features(use_case, rows, columns)
    return rows, bounds, late


def read_training_set(ref: TrainingSetRef) -> pa.Table:
    """The rows of a training set, exactly as they were built (but for those of keys that were forgotten since).

    Columns: ``part`` (train | holdout), ``label`` (bool), ``prediction_time`` (UTC), the id, the slices, the features.

    Raises:
        ReleaseError: the file is missing or was altered.
    """
    with transaction() as session:
        redacted = session.get(RedactedTrainingSet, ref.digest)
    digest = redacted.redacted_digest if redacted else ref.digest
    url = ref.url.replace(ref.digest, digest)
    filesystem, path = fsspec.core.url_to_fs(url)
    again = "build the training set again: the data versions are in its record"
    try:
        rows = pq.read_table(io.BytesIO(filesystem.cat_file(path)))
    except FileNotFoundError as error:
        raise ReleaseError(f"the training set {ref.digest[:12]} is missing: {url}", next_step=again) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise ReleaseError(
            f"the training set {ref.digest[:12]} cannot be read: {url}: {error}", next_step=again
        ) from error
    if tables.digest(rows) != digest:
        raise ReleaseError(f"the training set {ref.digest[:12]} was altered: {url}", next_step=again)
    return rows


def part(rows: pa.Table, name: str) -> pa.Table:
    """The rows of one part, ``train`` or ``holdout``."""
    return rows.filter(pc.equal(rows[PART], name))


def _join(use_case: UseCase, labelled: pa.Table, versions: dict[str, int]) -> pa.Table:
    """Features at each row's prediction time, from exactly these table versions."""
    wanted = dict.fromkeys([*use_case.prediction.request, use_case.prediction.time])
    joined = features.historical(use_case, labelled.select(list(wanted)), versions=versions)
    if joined.num_rows != labelled.num_rows:
        what = f"{joined.num_rows} rows of features for {labelled.num_rows} predictions"
        raise refused(use_case, what, "check the joins of features.py")
    return joined


def _assemble(use_case: UseCase, labelled: pa.Table, joined: pa.Table, columns: dict[str, str]) -> pa.Table:
    clash = sorted({PART, LABEL, TIME} & set(columns))
    if clash:
        raise ConfigurationError(
            f"{use_case.name}: no feature can be named {', '.join(clash)}: the training set needs the name",
            next_step="rename it in features.py",
        )
    content: dict[str, Any] = {PART: labelled[ROW_PART], LABEL: labelled[ROW_LABEL], TIME: labelled[ROW_TIME]}
    for name in [*use_case.prediction.id, *use_case.gate.shown_columns]:
        if name in content or name in columns:
            continue
        if name not in labelled.schema.names:
            raise ConfigurationError(
                f"{use_case.name}: {name!r} in gate.slices, gate.groups or prediction.id is neither a feature nor a column of clean "
                f"{use_case.prediction.source}",
                next_step="correct the name in use_case.yaml",
            )
        content[name] = labelled[name]
    content.update({name: joined[name] for name in columns})
    order = dict.fromkeys([*use_case.prediction.id, TIME])
    return pa.table(content).combine_chunks().sort_by([(name, "ascending") for name in order])


def _check_features(use_case: UseCase, rows: pa.Table, columns: dict[str, str]) -> None:
    train = part(rows, "train")
    for name in columns:
        if pa.types.is_floating(rows[name].type):
            infinite = pc.sum(pc.is_inf(rows[name]).cast(pa.int64())).as_py() or 0
            if infinite:
                raise refused(use_case, "infinite", "guard the division in features.py", name, infinite)
        if train[name].null_count == train.num_rows:
            log.warning("%s: feature %s has no value in any of %d training rows", use_case.name, name, train.num_rows)


def _validate(
    use_case: UseCase, rows: pa.Table, digest: str, bounds: Bounds, late: tuple[TooLate, ...], inputs: set[str]
) -> tuple[Check, ...]:
    """The suite ``training/set`` (its bounds are those of the prediction times), then the checks of the whole set."""
    checks = StageChecks(use_case, _place(digest))
    # The last prediction lies before the end of its day, which is where the holdout ends.
    first, last = Interval.containing(bounds.train_start), Interval.containing(bounds.holdout_end).shift(-1)
    masks = clean_masks(use_case, use_case.prediction.source) | features.masks(use_case)
    if tagged := sorted(set(use_case.gate.shown_columns) & set(masks)):
        raise ConfigurationError(
            f"{use_case.name}: gate.slices or gate.groups names {', '.join(tagged)}, which is made from a tagged column",
            next_step="take it out of use_case.yaml: a verdict shows the values of a slice",
        )
    checks.check(
        "training", "set", rows, first, last, masks=masks, thorough=True,
        next_step="correct the definition in features.py or source.py, or the suite",
    )  # fmt: skip
    types = {name: ARROW[kind] for name, kind in features.feature_columns(use_case).items()}
    findings = check_set(use_case, rows, types, late, inputs)
    report = report_of(use_case, findings, rows.num_rows, first, last)
    checks.add(report, next_step="correct features.py or source.py, or the bounds in training.checks of use_case.yaml")
    checks.keep()
    return tuple(f.check for f in findings)


def data_docs_link(ref: TrainingSetRef) -> dict[str, str]:
    """Link to the page of a training set's validation; none when the use case has no suite for it."""
    settings, page = get_settings(), f"data_docs/{ref.use_case}/{_place(ref.digest)}/index.html"
    return {"Data Docs": f"{settings.reports_url}/{page}"} if read_bytes(f"{settings.docs_url}/{page}") else {}


def _place(digest: str) -> str:
    return f"training/{digest[:16]}"


def _keep(ref: TrainingSetRef, rows: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd")
    with transaction() as session:
        # The same rows built again are the same training set: the first record stays, its age begins anew. Its lock is
        # held until the file is there: retention may be removing it.
        row = session.get(TrainingSet, ref.digest, with_for_update=True)
        put(ref.url, buffer.getvalue())
        if row is None:
            session.add(TrainingSet(digest=ref.digest, use_case=ref.use_case, ref=ref.to_json()))
        else:
            row.built_at, row.removed_at = func.now(), None
    log.info(
        "%s: training set %s: %d + %d rows, label rate %.3f",
        ref.use_case, ref.digest[:12], ref.train_rows, ref.holdout_rows, ref.label_rate,
    )  # fmt: skip
