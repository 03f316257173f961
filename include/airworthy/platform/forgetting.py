"""Forgetting a key: its rows leave the tables, what was kept aside, the prediction log, training sets, the online store.

The key is noted first, as a keyed digest: from then on no landed, corrected or pushed row brings it back. What stays is
said: the landing zone is upstream's, models that were trained on the key are named, backups go with their age.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import select

from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError, SupersededError
from airworthy.ingest.schemas import SUPERSEDED
from airworthy.intervals import Interval
from airworthy.lake import quarantine, tables
from airworthy.lake.landing import filesystem
from airworthy.ledger import commits
from airworthy.ledger.database import exclusive, transaction
from airworthy.ledger.feedback import forget_feedback
from airworthy.ledger.forgotten import key_digest, remember_to_forget
from airworthy.ledger.models import RedactedTrainingSet, ReleaseRow, TrainingSet, VerdictRow
from airworthy.platform import backup as backups
from airworthy.platform import forgetting_traces as traces
from airworthy.platform import forgotten_journal, retention
from airworthy.records import Record, TrainingSetRef
from airworthy.training.folders import put

ATTEMPTS = 5
BATCH = 500
STAYS = (
    "the landing zone is upstream's: ask upstream to remove the key there too (landed again, it is left out here)",
    "models that were trained on it stay until the next training: see `models`",
    "backups hold it until `backups_until`; a restore of one forgets the key again",
    "a spool file that the prediction service still writes holds it until it is closed",
)


class Forgotten(Record):
    """What was removed, and what was not.

    Attributes:
        rows: Rows by table, the prediction log among them.
        online: Values in the online store.
        files: Kept files of refused deliveries that were removed or cleared.
        training_sets: Rows by digest of the training set that lost them.
        models: Releases that were trained on the key, with their state.
        old_files: Files of old versions of tables that were removed, and entries of their logs.
        pages: Pages of reports that named the key, and were removed.
        notes: Rows of the ledger in which it was an example, and is no more.
        feedback: What was said about its predictions, and was removed.
        backups_until: When the last of the backups that hold it goes, UTC; empty when there is none.
        stays: What still holds the key, and what to do about it.
    """

    use_case: str
    column: str
    rows: dict[str, int]
    online: int
    files: int
    training_sets: dict[str, int]
    models: tuple[str, ...]
    old_files: int
    pages: int = 0
    notes: int = 0
    feedback: int = 0
    backups_until: str = ""
    stays: tuple[str, ...] = STAYS


def forget(use_case: UseCase, column: str, value: str, *, who: str) -> Forgotten:
    """Forget a key; doing it again removes what came back by other ways, and nothing else.

    Args:
        use_case: The use case.
        column: A column of text or whole numbers that landed rows and clean rows bear under the same name.
        value: The key, as text.
        who: Who asks.

    Raises:
        ConfigurationError: there is no such column; nothing was done.
        ServiceUnavailableError: the online store does not answer; run it again.
    """
    from airworthy import features
    from airworthy.features.catalog import catalog
    from airworthy.monitoring.collect import log_table
    from airworthy.serving import batch

    def bears(found: pa.Table) -> pa.Array:
        return _bears(found, column, value)

    sources = _sources(use_case, column)
    digest = key_digest(use_case.name, column, value, create=True)
    remember_to_forget(use_case.name, column, digest, who, {})
    forgotten_journal.note(use_case.name, column, digest, who)
    entities = _entities(use_case, column, value)
    ids = _prediction_ids(use_case, column, value)
    rows: dict[str, int] = {}
    for source in sources:
        for layer in ("raw", "quarantine", SUPERSEDED, "clean"):
            name = use_case.table(layer, source)
            rows[name] = _from_table(name, f"{use_case.name}/ingest/{{key}}", bears, who)
    features.catch_up(use_case, run=who)
    for view in catalog(use_case).views:
        rows[view.table] = entities[view.name].num_rows if view.name in entities else 0
        _from_table(view.table, view.table, bears, who)
    scores = use_case.table(batch.LAYER, batch.NAME)
    rows[scores] = _from_table(scores, f"{use_case.name}/score/{{key}}", lambda found: _among(found, ids), who)
    online = sum(_from_online(use_case, name, found) for name, found in entities.items())
    gone = _from_log(use_case, column, value)
    rows[log_table(use_case)] = len(gone)
    training_sets = _from_training_sets(use_case, ids)
    outcome = Forgotten(
        use_case=use_case.name, column=column, rows=rows, online=online, files=_from_files(use_case, value),
        training_sets=training_sets, models=_models(use_case, training_sets),
        old_files=sum(retention.vacuum(name, (), timedelta(0), full=False) for name in rows) + traces.from_logs(rows),
        pages=traces.from_pages(use_case, value), notes=traces.from_ledger(use_case, value),
        feedback=forget_feedback(use_case.name, gone),
        backups_until=backups.kept_until(),
    )  # fmt: skip
    remember_to_forget(use_case.name, column, digest, who, outcome.to_json())
    return outcome


def _sources(use_case: UseCase, column: str) -> list[str]:
    able = {
        name: [c for c, spec in source.columns.items() if spec.type in ("string", "int64")]
        for name, source in use_case.sources.items()
    }
    sources = [name for name, columns in able.items() if column in columns]
    hidden = [n for n in sources if column not in tables.dataset(use_case.table("clean", n)).schema.names]
    if not sources or hidden:
        where = (
            f"the clean table of {hidden[0]} does not bear it" if hidden else "no source has it as text or whole number"
        )
        names = sorted({c for columns in able.values() for c in columns})
        raise ConfigurationError(
            f"nothing of {use_case.name} can be forgotten by {column!r}: {where}",
            next_step=f"name one of {', '.join(names)}",
        )
    return sources


def _bears(rows: pa.Table, column: str, value: str) -> pa.Array:
    """Which rows bear the key: in the column itself, or in the row that quarantine keeps as JSON."""
    if column in rows.schema.names:
        return pc.fill_null(pc.equal(rows[column].cast(pa.string()), value), False)
    if "row" in rows.schema.names:
        return pa.array([str(json.loads(text).get(column)) == value for text in rows["row"].to_pylist()], pa.bool_())
    return pa.array([False] * rows.num_rows, pa.bool_())


def _among(rows: pa.Table, ids: pa.Table) -> pa.Array:
    """Which rows are about one of these things to predict."""
    wanted = set(zip(*(ids[name].to_pylist() for name in ids.schema.names), strict=True))
    own = zip(*(rows[name].to_pylist() for name in ids.schema.names), strict=True)
    return pa.array([one in wanted for one in own], pa.bool_())


def _from_table(name: str, resource: str, bears: Callable[[pa.Table], pa.Array], who: str) -> int:
    """Publish every interval of a table that has the key again, without it; returns how many rows went."""
    found = tables.read(name)
    found = found.filter(bears(found))
    removed = 0
    for key in sorted(set(found[tables.INTERVAL].to_pylist())):
        for attempt in range(ATTEMPTS):
            claimed = resource.format(key=key)
            token = commits.claim(claimed, who)
            interval = Interval.of(key)
            rows = tables.read(name, interval, interval).drop_columns([tables.INTERVAL])
            gone = bears(rows)
            kept = commits.newest_commits(name, interval, interval).get(key)
            try:
                tables.publish(
                    name, {key: rows.filter(pc.invert(gone))}, resource=claimed, token=token,
                    inputs={key: kept.inputs if kept else ""},
                )  # fmt: skip
            except SupersededError:
                # An ingest took over; it leaves the key out itself, or its rows are looked at once more.
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            removed += pc.sum(gone).as_py() or 0
            break
    return removed


def _entities(use_case: UseCase, column: str, value: str) -> dict[str, pa.Table]:
    """The rows of the key in each feature table that has it among its keys, by view."""
    from airworthy.features.catalog import catalog

    found = {}
    for view in catalog(use_case).views:
        if column in view.keys:
            rows = tables.read(view.table)
            found[view.name] = rows.filter(_bears(rows, column, value))
    return found


def _from_online(use_case: UseCase, name: str, rows: pa.Table) -> int:
    from airworthy import features
    from airworthy.features.catalog import catalog
    from airworthy.features.feast_repo import registered_view
    from airworthy.features.publish import online_rows

    (view,) = (v for v in catalog(use_case).views if v.name == name)
    keys = {entity.SerializeToString(): entity for entity, *_ in online_rows(view, rows.to_pylist())}
    store: Any = features.store(use_case)
    return int(
        store.provider.online_store.delete_entities(store.config, registered_view(use_case, name), list(keys.values()))
    )


def _prediction_ids(use_case: UseCase, column: str, value: str) -> pa.Table:
    """Ids of the things to predict that belong to the key; empty when the predicted table does not bear it."""
    rows = tables.read(use_case.table("clean", use_case.prediction.source))
    return rows.filter(_bears(rows, column, value)).select(use_case.prediction.id)


def _from_log(use_case: UseCase, column: str, value: str) -> list[str]:
    """Remove the key's predictions; a column of the request or of the id names it. Returns their ids."""
    from airworthy.monitoring.collect import collect, log_table

    name = log_table(use_case)
    collect(use_case)
    with exclusive("collect", use_case.name):
        rows = tables.read(name, columns=["prediction_id", "request", "id"])
        pairs = zip(rows["prediction_id"].to_pylist(), rows["request"].to_pylist(), rows["id"].to_pylist(), strict=True)
        ids = [i for i, request, own in pairs if any(str(json.loads(t).get(column)) == value for t in (request, own))]
        for start in range(0, len(ids), BATCH):
            quoted = ", ".join("'" + i.replace("'", "''") + "'" for i in ids[start : start + BATCH])
            tables.open_table(name).delete(f"prediction_id IN ({quoted})")
    retention.collected(use_case)
    return ids


def _from_training_sets(use_case: UseCase, ids: pa.Table) -> dict[str, int]:
    """Take the key's rows out of the files of training sets; returns rows by digest."""
    if not ids.num_rows:
        return {}
    with transaction() as session:
        found = session.scalars(select(TrainingSet).where(TrainingSet.use_case == use_case.name)).all()
        redacted = {r.digest: r for r in session.scalars(select(RedactedTrainingSet)).all()}
    removed = {}
    for row in found:
        ref = TrainingSetRef.model_validate(row.ref)
        before = redacted.get(ref.digest)
        url = ref.url.replace(ref.digest, before.redacted_digest) if before else ref.url
        fs, path = fsspec.core.url_to_fs(url)
        if not fs.exists(path):
            continue
        rows = pq.read_table(io.BytesIO(fs.cat_file(path)))
        mask = _among(rows, ids)
        count = pc.sum(mask).as_py() or 0
        if not count:
            continue
        rest = rows.filter(pc.invert(mask))
        digest = tables.digest(rest)
        buffer = io.BytesIO()
        pq.write_table(rest, buffer, compression="zstd")
        place = ref.url.replace(ref.digest, digest)
        put(place, buffer.getvalue())
        with transaction() as session:
            total = count + (before.removed if before else 0)
            session.merge(RedactedTrainingSet(digest=ref.digest, url=place, redacted_digest=digest, removed=total))
        fs.rm_file(path)
        removed[ref.digest] = int(count)
    return removed


def _models(use_case: UseCase, training_sets: dict[str, int]) -> tuple[str, ...]:
    """Releases that were trained on these training sets."""
    with transaction() as session:
        rows = session.execute(
            select(ReleaseRow.version, ReleaseRow.digest, ReleaseRow.state)
            .join(VerdictRow, VerdictRow.id == ReleaseRow.verdict_id)
            .where(
                ReleaseRow.use_case == use_case.name,
                VerdictRow.record["training_set_digest"].astext.in_(training_sets),
            )
            .order_by(ReleaseRow.version)
        ).all()
    return tuple(f"version {version}, release {digest[:12]}, {state}" for version, digest, state in rows)


def _from_files(use_case: UseCase, value: str) -> int:
    """Remove kept files of refused deliveries that hold the key, and the examples from the reasons beside them."""
    word = re.compile(rb"(?<![A-Za-z0-9_])" + re.escape(value.encode()) + rb"(?![A-Za-z0-9_])")
    fs, root = filesystem(f"{get_settings().lake_url}/{quarantine.FILES}/{use_case.name}")
    count = 0
    for path in fs.find(root) if fs.exists(root) else ():
        content = bytes(fs.cat_file(path))
        if path.endswith(f"/{quarantine.REASON}"):
            if word.search(content):
                record = json.loads(content)
                record["failures"] = [{**failure, "examples": []} for failure in record["failures"]]
                fs.pipe_file(path, json.dumps(record, indent=1).encode())
                count += 1
        elif word.search(_plain(path, content)):
            fs.rm_file(path)
            count += 1
    return count


def _plain(path: str, content: bytes) -> bytes:
    """A file's text; of Parquet its values, or everything when it cannot be read (nobody knows what it holds)."""
    if not path.endswith(".parquet"):
        return content
    try:
        return json.dumps(pq.read_table(io.BytesIO(content)).to_pylist(), default=str).encode()
    except (pa.ArrowException, OSError):
        return content
