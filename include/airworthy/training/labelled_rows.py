"""The rows of a training set before their features: labels that are known now, and which part each row belongs to."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.errors import CheckFailure, DataRejectedError
from airworthy.ingest import clean_masks
from airworthy.intervals import DAY
from airworthy.lake import tables
from airworthy.records import Window

# Appended under names that no clean table has; the clean table may have a `label` of its own.
ROW_TIME, ROW_LABEL, ROW_PART = "__time", "__label", "__part"
MOMENT = pa.timestamp("us", tz="UTC")


class Bounds(NamedTuple):
    """Bounds of the parts by prediction time, UTC; each part is half-open."""

    train_start: datetime
    holdout_start: datetime
    holdout_end: datetime


def labelled_rows(
    use_case: UseCase, rows: pa.Table, now: datetime, window: Window | None = None
) -> tuple[pa.Table, Bounds]:
    """Rows whose label is known now, with time, label and part appended.

    Args:
        use_case: The use case.
        rows: The clean table of ``prediction.source``, with its intervals.
        now: Data time.
        window: Days that the training part is narrowed to; never touches the holdout.

    Raises:
        DataRejectedError: too few days, one class only, an id twice, a label that is none.
    """
    known = _known(use_case, rows, now)
    times = known[use_case.prediction.time]
    if times.null_count:
        raise refused(use_case, "empty", "fill it in source.py", use_case.prediction.time, times.null_count)
    labels = _labels(use_case, known[use_case.prediction.label])
    known = known.append_column(ROW_TIME, _moments(times)).append_column(ROW_LABEL, labels)
    bounds = _bounds(use_case, known)
    parted = _narrowed(_parted(known, bounds), bounds, window or Window())
    _check_days(use_case, parted)
    _check_classes(use_case, parted)
    _check_ids(use_case, parted)
    return parted, bounds


def refused(
    use_case: UseCase,
    what: str,
    next_step: str,
    column: str | None = None,
    count: int = 0,
    examples: tuple[object, ...] = (),
) -> DataRejectedError:
    """The error of a training set that cannot be used."""
    failure = CheckFailure(what, column, count, examples)
    return DataRejectedError(f"the training set of {use_case.name}", [failure], next_step=next_step)


def _moments(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(MOMENT, safe=False)


def _known(use_case: UseCase, rows: pa.Table, now: datetime) -> pa.Table:
    known = pc.less_equal(_moments(rows["available_at"]), pa.scalar(now, MOMENT))
    unfinished = set(rows.filter(pc.invert(known))[tables.INTERVAL].to_pylist())
    whole = set(rows[tables.INTERVAL].unique().to_pylist()) - unfinished
    if not whole:
        wait = f"ingest intervals, or wait for labels (data time is {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC)"
        raise refused(use_case, "no interval has all its labels", wait)
    # A day that is half known knows only its early outcomes: a biased sample. So nothing after the newest whole
    # interval is used; of older ones a row that was corrected and is not known yet is left out by itself.
    usable = pc.and_(known, pc.less_equal(rows[tables.INTERVAL], max(whole)))
    return rows.filter(pc.and_(usable, pc.is_valid(rows[use_case.prediction.label])))


def _labels(use_case: UseCase, values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_boolean(values.type):
        return values
    name, cure = use_case.prediction.label, "make it true, false or empty in source.py"
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise refused(use_case, f"a label of type {values.type}", cure, name)
    numbers = values.cast(pa.float64())
    # NaN is neither, so it is caught here too.
    strange = numbers.filter(pc.invert(pc.or_(pc.equal(numbers, 0.0), pc.equal(numbers, 1.0))))
    if len(strange):
        mask = clean_masks(use_case, use_case.prediction.source).get(name)
        examples = (mask,) if mask else tuple(strange.slice(0, 3).to_pylist())
        raise refused(use_case, "a label other than 0 and 1", cure, name, len(strange), examples)
    return pc.equal(numbers, 1.0)


def _days(rows: pa.Table) -> list[datetime]:
    return sorted(pc.floor_temporal(rows[ROW_TIME], unit="day").unique().to_pylist())


def _bounds(use_case: UseCase, rows: pa.Table) -> Bounds:
    days, training = _days(rows), use_case.training
    if len(days) < training.holdout_days + training.min_train_days:
        raise refused(
            use_case,
            f"{len(days)} days with labels; {training.min_train_days} to train on and {training.holdout_days} for the "
            "holdout are needed",
            "ingest more intervals, or lower training.min_train_days or training.holdout_days",
        )
    return Bounds(days[0], days[-training.holdout_days], days[-1] + DAY)


def _parted(rows: pa.Table, bounds: Bounds) -> pa.Table:
    # Predicted before the holdout but known only later: such a row belongs to neither part.
    start = pa.scalar(bounds.holdout_start, MOMENT)
    holdout = pc.greater_equal(rows[ROW_TIME], start)
    known_before = pc.less_equal(_moments(rows["available_at"]), start)
    parts = pc.if_else(holdout, "holdout", "train")
    return rows.append_column(ROW_PART, parts).filter(pc.or_(holdout, known_before))


def _narrowed(rows: pa.Table, bounds: Bounds, window: Window) -> pa.Table:
    if window == Window():
        return rows
    starts = [bounds.train_start]
    if window.first:
        starts.append(datetime.combine(window.first, time(), UTC))
    if window.days:
        starts.append(bounds.holdout_start - window.days * DAY)
    end = datetime.combine(window.last, time(), UTC) + DAY if window.last else bounds.holdout_start
    times = rows[ROW_TIME]
    wanted = pc.and_(pc.greater_equal(times, pa.scalar(max(starts), MOMENT)), pc.less(times, pa.scalar(end, MOMENT)))
    return rows.filter(pc.or_(pc.equal(rows[ROW_PART], "holdout"), wanted))


def _check_days(use_case: UseCase, rows: pa.Table) -> None:
    days, needed = len(_days(rows.filter(pc.equal(rows[ROW_PART], "train")))), use_case.training.min_train_days
    if days < needed:
        raise refused(
            use_case,
            f"{days} days before the holdout with labels known when it began; {needed} are needed",
            "ingest more intervals, widen the window, or lower training.min_train_days",
        )


def _check_classes(use_case: UseCase, rows: pa.Table) -> None:
    for name in ("train", "holdout"):
        seen = rows.filter(pc.equal(rows[ROW_PART], name))[ROW_LABEL].unique().to_pylist()
        if len(seen) < 2:
            cure = "use more days: a classifier needs both classes"
            raise refused(use_case, f"only {seen} in the {name} part", cure, use_case.prediction.label)


def _check_ids(use_case: UseCase, rows: pa.Table) -> None:
    names = use_case.prediction.id
    counts = rows.group_by(names).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))
    if twice.num_rows:
        masks = clean_masks(use_case, use_case.prediction.source)
        examples = tuple(tuple(masks.get(n, row[n]) for n in names) for row in twice.slice(0, 3).to_pylist())
        cure = "make prediction.id identify one row"
        raise refused(use_case, "an id more than once", cure, ", ".join(names), twice.num_rows, examples)
