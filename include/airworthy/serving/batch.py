"""Batch scoring: one published interval, predicted by the champion, kept as one interval of a table.

The features are those that were known at each row's prediction time, by the offline path. The same clean rows, features
and champion are scored once.
"""

from __future__ import annotations

import hashlib
import json
import logging

import pyarrow as pa
import pyarrow.compute as pc

from airworthy import features, registry
from airworthy.config import UseCase
from airworthy.errors import CheckFailure, DataRejectedError, NoChampionError, NotLandedError, ReleaseError
from airworthy.evaluation.champion import ChampionRecord, champion_record
from airworthy.features.catalog import catalog
from airworthy.ingest.schemas import clean_masks, clean_schema
from airworthy.intervals import Interval
from airworthy.lake import tables
from airworthy.ledger import commits
from airworthy.ledger.models import Commit
from airworthy.records import PartitionRef, ScoreOutcome
from airworthy.training.model_files import LoadedModel
from airworthy.validation import StageChecks

log = logging.getLogger(__name__)

LAYER, NAME = "scores", "batch"
SHOWN = 5
UTC_TIME = pa.timestamp("us", tz="UTC")
OWN = pa.schema(
    [
        pa.field("prediction_time", UTC_TIME),
        pa.field("probability", pa.float64()),
        pa.field("decision", pa.bool_()),
        pa.field("release", pa.string()),
        pa.field("model_digest", pa.string()),
    ]
)


def table_schemas(use_case: UseCase) -> dict[str, pa.Schema]:
    """The table of this stage, for migrations: the id's columns, then the answer and who gave it."""
    clean = clean_schema(use_case, use_case.prediction.source)
    ids = [clean.field(name) for name in use_case.prediction.id if name not in OWN.names]
    return {table_of(use_case): pa.schema([*ids, *OWN])}


def table_of(use_case: UseCase) -> str:
    """Name of the table of scores, ``<use_case>/scores/batch``."""
    return use_case.table(LAYER, NAME)


def score(use_case: UseCase, interval: Interval, *, run: str) -> ScoreOutcome:
    """Predict every row of a published interval with the champion; safe to call twice, or many times at once.

    Args:
        use_case: The use case.
        interval: The interval of the clean table of ``prediction.source``.
        run: Who asks (the Airflow run or a command), for the ledger.

    Returns:
        ``scored``, or ``already`` when this champion has scored these very rows and features before.

    Raises:
        NoChampionError: nothing was promoted yet.
        NotLandedError: the interval is not published yet.
        DataRejectedError: the interval was refused at ingest, or inputs or answers fail their suite: nothing is published.
        ReleaseError: the champion's release is missing or altered, or was trained on other feature definitions.
        SupersededError: a newer call took over.
    """
    champion = _champion(use_case)
    commit = _published(use_case, interval)
    features.catch_up(use_case, run=run)
    table, resource = table_of(use_case), f"{use_case.name}/score/{interval.key}"
    inputs = _inputs(interval.key, commit, champion.release.digest, _feature_commits(use_case))
    before = commits.newest_commits(table, interval, interval).get(interval.key)
    if before is not None and before.inputs == inputs:
        words = f"already scored by release {champion.release.digest[:12]}: {before.rows:,} rows"
        return _outcome(use_case, interval, champion, _ref(table, interval, before), "already", words)
    token = commits.claim(resource, run)
    model = registry.load(champion.release.digest)
    if changed := features.unlike(use_case, model.schema.feature_digest, model.schema.view_digests, {}):
        raise ReleaseError(
            f"release {champion.release.digest[:12]} of {use_case.name} was trained on other feature definitions than those "
            f"that are deployed: {', '.join(changed[:5])}",
            next_step="deliver a model that was trained on the present definitions; the interval can then be scored",
        )
    checks = StageChecks(use_case, f"{LAYER}/{interval.key}-{token}")
    rows = _scored(use_case, interval, commit, model, champion, checks)
    links = checks.keep()
    parts = {interval.key: rows}
    (ref,) = tables.publish(table, parts, resource=resource, token=token, inputs={interval.key: inputs})
    late = pc.sum(rows["decision"].cast(pa.int64())).as_py() or 0
    words = f"{ref.rows:,} rows scored by release {champion.release.digest[:12]}, {late:,} of them to act on"
    log.info("%s %s, for %s: %s", use_case.name, interval, run, words)
    return _outcome(use_case, interval, champion, ref, "scored", words, links)


def _champion(use_case: UseCase) -> ChampionRecord:
    champion = champion_record(use_case.name)
    if champion is None:
        raise NoChampionError(
            f"{use_case.name} has no champion that could score",
            next_step=f"run {use_case.name}.train and let {use_case.name}.deliver promote what it makes",
        )
    return champion


def _published(use_case: UseCase, interval: Interval) -> Commit:
    """The commit of the clean rows."""
    decided = commits.decided_intervals(use_case.name).get(interval.key)
    table = use_case.table("clean", use_case.prediction.source)
    if decided is not None and decided.status == "rejected":
        raise DataRejectedError(
            f"{use_case.name} {interval.key} cannot be scored: its files were",
            [CheckFailure(decided.reason)],
            next_step="mend the interval first; it is then scored by a new run of .score",
        )
    commit = commits.newest_commits(table, interval, interval).get(interval.key)
    if decided is None or commit is None:
        raise NotLandedError(
            f"{use_case.name} {interval.key} is not published: there is nothing to score",
            next_step=f"run {use_case.name}.ingest for it first",
        )
    return commit


def outdated(use_case: UseCase) -> dict[str, str]:
    """Scored intervals whose clean rows or features are others by now, with the release that scored them; writes nothing.

    Such as after a correction. What another champion would answer is another question: the release that answered is asked.
    A feature interval that was built again counts, even where the values that were known in time stayed the same.
    """
    rows = tables.dataset(table_of(use_case)).to_table(columns=[tables.INTERVAL, "release"])
    answered = rows.group_by([tables.INTERVAL, "release"]).aggregate([]).to_pylist()
    scored = commits.newest_commits(table_of(use_case))
    clean = commits.newest_commits(use_case.table("clean", use_case.prediction.source))
    views = _feature_commits(use_case)
    return {
        key: row["release"]
        for row in sorted(answered, key=lambda row: str(row[tables.INTERVAL]))
        if (key := row[tables.INTERVAL]) in scored
        and (key not in clean or scored[key].inputs != _inputs(key, clean[key], row["release"], views))
    }


def outdated_words(use_case: UseCase) -> str:
    """What is outdated in a line, with the command that mends it."""
    keys = list(outdated(use_case))
    if not keys:
        return "no batch scores are outdated"
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return (
        f"batch scores of {len(keys)} intervals are outdated ({', '.join(keys[:SHOWN])}{more}): "
        f"`airworthy score {use_case.name} --outdated` scores them again"
    )


Views = tuple[str, dict[str, dict[str, Commit]]]
"""Digest of the feature definitions, and the newest commits of each feature table by interval key."""


def _feature_commits(use_case: UseCase) -> Views:
    names = sorted(view.table for view in catalog(use_case).views)
    return features.feature_digest(use_case), {table: commits.newest_commits(table) for table in names}


def _inputs(key: str, clean: Commit, release: str, views: Views) -> str:
    """Digest of all that an interval's answers depend on: clean rows, features up to the interval's end, the release."""
    definitions, built = views
    used = {table: [[k, row.digest] for k, row in sorted(rows.items()) if k <= key] for table, rows in built.items()}
    return hashlib.sha256(json.dumps([clean.digest, definitions, release, used]).encode()).hexdigest()


def _scored(
    use_case: UseCase,
    interval: Interval,
    commit: Commit,
    model: LoadedModel,
    champion: ChampionRecord,
    checks: StageChecks,
) -> pa.Table:
    asked, source = use_case.prediction, use_case.prediction.source
    clean = tables.read(use_case.table("clean", source), interval, interval, version=commit.data_version)
    clean = clean.drop_columns([tables.INTERVAL])
    masks = clean_masks(use_case, source)
    checks.check(
        "clean", source, clean, interval, masks=masks, next_step="run the interval's ingest again; nothing was scored"
    )
    entities = clean.select(list(dict.fromkeys([*asked.request, asked.time])))
    probability = model.predict_table(features.historical(use_case, entities))
    release = champion.release
    answers: dict[str, pa.Array | pa.ChunkedArray] = {
        "prediction_time": clean[asked.time].cast(UTC_TIME),
        "probability": pa.array(probability, pa.float64()),
        "decision": pa.array(probability >= use_case.problem.threshold, pa.bool_()),
        "release": pa.repeat(release.digest, clean.num_rows),
        "model_digest": pa.repeat(release.model_digest, clean.num_rows),
    }
    rows = pa.table({**{n: clean[n] for n in asked.id if n not in answers}, **answers})
    step = "look at the champion's features of this interval; nothing was published"
    checks.check(LAYER, NAME, rows, interval, masks=masks, next_step=step)
    return rows


def _ref(table: str, interval: Interval, commit: Commit) -> PartitionRef:
    return PartitionRef(
        table=table, interval=interval, data_version=commit.data_version, rows=commit.rows, digest=commit.digest
    )


def _outcome(
    use_case: UseCase,
    interval: Interval,
    champion: ChampionRecord,
    ref: PartitionRef,
    status: str,
    words: str,
    links: dict[str, str] | None = None,
) -> ScoreOutcome:
    known = champion.training_set
    in_sample = known is not None and interval.start < known.train_end
    if in_sample:
        words += "; the champion learned from these days: no evidence of its quality"
    return ScoreOutcome.model_validate(
        {
            "use_case": use_case.name,
            "interval": interval,
            "status": status,
            "release": champion.release.digest,
            "partition": ref,
            "in_sample": in_sample,
            "reason": words,
            "links": links or {},
        }
    )
