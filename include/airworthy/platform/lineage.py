"""Lineage in both directions: where a thing comes from (up), and what came of it (down), as a tree."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow.compute as pc
from deltalake import DeltaTable
from sqlalchemy import select

from airworthy.config import UseCase
from airworthy.intervals import Interval
from airworthy.lake import landing, tables
from airworthy.ledger import promotions
from airworthy.ledger.commits import newest_commits
from airworthy.ledger.database import transaction
from airworthy.ledger.models import ReleaseRow, TrainingSet, VerdictRow
from airworthy.platform.lineage_things import Thing, commit_in, is_scores, scored_by
from airworthy.records import Record, TrainingSetRef
from airworthy.training.candidates import find_candidate

SHORT = 12


class Node(Record):
    """A node of the tree.

    Attributes:
        kind: Such as ``release``, ``training set``, ``table``, ``landed files``.
        name: What one gives to `airworthy lineage` to start from it, where that is possible.
        words: What it is.
        children: Where it comes from (up), or what came of it (down).
    """

    kind: str
    name: str
    words: str = ""
    children: tuple[Node, ...] = ()


def up(thing: Thing) -> Node:
    """Where a thing comes from, down to the landed files."""
    case, key = thing.use_case, thing.key
    if thing.kind == "prediction":
        return _prediction_up(case, thing.record or {})
    if thing.kind == "release":
        return _release_up(case, key)
    if thing.kind == "training_set":
        return _training_set_up(case, key)
    if thing.kind == "file":
        return _file(case, *key.split("/"))
    table, _, day = key.rpartition("/")
    return _interval_up(case, table, day)


def down(thing: Thing) -> Node:
    """What came of a thing, down to the predictions."""
    case, key = thing.use_case, thing.key
    if thing.kind == "prediction":
        return Node(kind="prediction", name=key, words="nothing comes after a prediction but its label")
    if thing.kind == "release":
        return _release_down(case, key)
    if thing.kind == "training_set":
        return _training_set_down(case, key)
    if thing.kind == "file":
        source, day = key.split("/")
        file = _file(case, source, day)
        return file.model_copy(update={"children": (_interval_down(case, case.table("clean", source), day),)})
    table, _, day = key.rpartition("/")
    return _interval_down(case, table, day)


def _prediction_up(case: UseCase, record: dict[str, Any]) -> Node:
    lacking = [*record["missing"], *record["stale"]]
    words = (
        f"{record['probability']:.4f} at {record['prediction_time']:%Y-%m-%d %H:%M} (data time), generation "
        f"{record['generation']}; {len(record['features'])} features"
        + (f", no value from {', '.join(lacking)}" if lacking else "")
    )
    return Node(
        kind="prediction", name=record["prediction_id"], words=words, children=(_release_up(case, record["release"]),)
    )


def _release_up(case: UseCase, digest: str) -> Node:
    with transaction() as session:
        row = session.get(ReleaseRow, digest)
        verdict = session.get(VerdictRow, row.verdict_id) if row else None
    if row is None:
        return Node(kind="release", name=digest, words="the ledger does not know it")
    children = [_candidate(row)]
    if verdict is not None:
        against = f"against {verdict.champion_digest[:SHORT]}" if verdict.champion_digest else "against no champion"
        children.append(Node(kind="verdict", name=verdict.id, words=f"{verdict.decision}, {against}"))
        children += [
            Node(kind="cause", name=str(run), words=_cause(cause)) for run, cause in sorted(verdict.causes.items())
        ]
        children.append(_training_set_up(case, verdict.record["training_set_digest"]))
    return Node(
        kind="release",
        name=f"{case.name}/{row.version}",
        words=f"{digest[:SHORT]}, {row.state}",
        children=tuple(children),
    )


def _candidate(row: ReleaseRow) -> Node:
    kept = find_candidate(row.model_digest, row.run_id) or find_candidate(row.model_digest)
    if kept is None:
        return Node(kind="model", name=row.model_digest, words=f"MLflow run {row.run_id}")
    recipe = kept.recipe
    return Node(
        kind="model", name=row.model_digest, words=f"{recipe['algorithm']}, seed {recipe['seed']}; MLflow run {kept.run_id}",
        children=(
            Node(kind="code", name=kept.revision, words=f"run {kept.run}"),
            Node(kind="packages", name=kept.lock[:SHORT], words="digest of the lock file"),
        ),
    )  # fmt: skip


def _cause(cause: Any) -> str:
    if not isinstance(cause, dict):
        return str(cause)
    evidence = ", ".join(f"{k} {v}" for k, v in (cause.get("evidence") or {}).items())
    return f"{cause.get('cause', 'asked for')}{f': {evidence[:200]}' if evidence else ''}"


def reference(digest: str) -> TrainingSetRef | None:
    """A training set by digest."""
    with transaction() as session:
        row = session.get(TrainingSet, digest)
    return TrainingSetRef.model_validate(row.ref) if row and row.ref else None


def _training_set_up(case: UseCase, digest: str) -> Node:
    ref = reference(digest)
    if ref is None:
        return Node(kind="training set", name=digest, words="the ledger does not know it")
    words = (
        f"{ref.train_rows} + {ref.holdout_rows} rows, {ref.train_start:%Y-%m-%d} to {ref.holdout_end:%Y-%m-%d}, by "
        f"{ref.feature_service}"
    )
    return Node(
        kind="training set", name=digest, words=words,
        children=tuple(_table(case, name, version, ref) for name, version in sorted(ref.data_versions.items())),
    )  # fmt: skip


def _table(case: UseCase, name: str, version: int, ref: TrainingSetRef) -> Node:
    """A table in a version: its intervals that count, and what they were made from."""
    last = Interval.containing(ref.holdout_end)
    days = sorted(
        day
        for day, c in newest_commits(name, last=last).items()
        if c.data_version <= version or commit_in(name, day, version)
    )
    span = f"{len(days)} intervals, {days[0]} to {days[-1]}" if days else "no interval"
    layer, _, short = name.removeprefix(f"{case.name}/").partition("/")
    sources = [short] if layer == "clean" else _sources(case, name)
    children = tuple(_files(case, source, days) for source in sources)
    return Node(kind="table", name=name, words=f"version {version}: {span}", children=children)


def _sources(case: UseCase, table: str) -> list[str]:
    from airworthy.features.catalog import catalog

    return [s for view in catalog(case).views if view.table == table for s in view.view.sources]


def _files(case: UseCase, source: str, days: list[str]) -> Node:
    span = f"{len(days)} days, {days[0]} to {days[-1]}" if days else "none"
    return Node(kind="landed files", name=f"{case.name}/{source}", words=span)


def _file(case: UseCase, source: str, day: str) -> Node:
    manifest = landing.landed_manifest(case, source, Interval.of(day))
    words = (
        f"{manifest.rows} rows, {manifest.sha256[:SHORT]}, published {manifest.published_at:%Y-%m-%d %H:%M}"
        if manifest else "not in the landing zone (any more)"
    )  # fmt: skip
    return Node(kind="landed file", name=f"{case.name}/{source}/{day}", words=words)


def _interval_up(case: UseCase, table: str, day: str) -> Node:
    commit = commit_in(table, day)
    words = (
        f"version {commit.data_version}, {commit.rows} rows, {commit.digest[:SHORT]}" if commit else "never published"
    )
    layer, _, short = table.removeprefix(f"{case.name}/").partition("/")
    if is_scores(case, table):
        rows = _interval_up(case, case.table("clean", case.prediction.source), day)
        children = [rows, *(_release_up(case, digest) for digest in scored_by(table, day))] if commit else []
    elif layer == "features":
        children = [_interval_up(case, case.table("clean", source), day) for source in _sources(case, table)]
    else:
        children = [_file(case, short, day)]
    return Node(kind="interval", name=f"{table}/{day}", words=words, children=tuple(children) if commit else ())


def _interval_down(case: UseCase, table: str, day: str) -> Node:
    from airworthy.features.catalog import catalog

    commit = commit_in(table, day)
    words = (
        f"version {commit.data_version}, {commit.rows} rows, {commit.digest[:SHORT]}" if commit else "never published"
    )
    children: list[Node] = []
    if commit is not None:
        for view in catalog(case).views:
            if table in [case.table("clean", s) for s in view.view.sources]:
                reach = view.view.lookback_days
                span = f"{day} and {reach} days after it" if reach else day
                uses = tuple(_uses(case, view.table, day, reach))
                children.append(Node(kind="features", name=view.table, words=f"intervals of {span}", children=uses))
        children += _uses(case, table, day, 0)
        if table == case.table("clean", case.prediction.source):
            children += _scores(case, day)
    return Node(kind="interval", name=f"{table}/{day}", words=words, children=tuple(children))


def _scores(case: UseCase, day: str) -> list[Node]:
    """The batch predictions of an interval."""
    from airworthy.serving import batch

    table = case.table(batch.LAYER, batch.NAME)
    commit = commit_in(table, day)
    if commit is None:
        return []
    by = ", ".join(digest[:SHORT] for digest in scored_by(table, day))
    since = "; outdated: rows or features changed since" if day in batch.outdated(case) else ""
    return [Node(kind="batch predictions", name=f"{table}/{day}", words=f"{commit.rows} rows by release {by}{since}")]


def _uses(case: UseCase, table: str, day: str, reach: int) -> list[Node]:
    """Training sets that read a version of a table with this interval in it (or one that looks back on it)."""
    interval = Interval.of(day)
    with transaction() as session:
        rows = session.scalars(
            select(TrainingSet).where(TrainingSet.use_case == case.name).order_by(TrainingSet.built_at)
        ).all()
    found = []
    for row in rows:
        ref = TrainingSetRef.model_validate(row.ref)
        version = ref.data_versions.get(table)
        late = interval.start >= ref.holdout_end
        early = interval.end + timedelta(days=reach) < ref.train_start and table == case.table(
            "clean", case.prediction.source
        )
        if version is not None and not late and not early and commit_in(table, day, version):
            found.append(_training_set_down(case, ref.digest))
    return found


def _training_set_down(case: UseCase, digest: str) -> Node:
    with transaction() as session:
        verdicts = session.scalars(
            select(VerdictRow.id).where(VerdictRow.record["training_set_digest"].astext == digest)
        ).all()
        releases = session.scalars(
            select(ReleaseRow.digest).where(ReleaseRow.verdict_id.in_(verdicts)).order_by(ReleaseRow.created_at)
        ).all()
        refused = session.scalars(
            select(VerdictRow).where(VerdictRow.id.in_(verdicts), VerdictRow.decision != "pass")
        ).all()
    children = [_release_down(case, r) for r in releases]
    children += [Node(kind="refused model", name=v.model_digest, words=str(v.record["summary"])[:200]) for v in refused]
    ref = reference(digest)
    words = f"{ref.train_start:%Y-%m-%d} to {ref.holdout_end:%Y-%m-%d}" if ref else "the ledger does not know it"
    return Node(kind="training set", name=digest, words=words, children=tuple(children))


def _release_down(case: UseCase, digest: str) -> Node:
    with transaction() as session:
        row = session.get(ReleaseRow, digest)
    served = [r for r in promotions.changes(case.name) if r.to_digest == digest]
    children = [
        Node(kind="promotion", name=f"generation {r.generation}", words=f"{r.action} by {r.who} at {r.at:%Y-%m-%d %H:%M}: {r.why[:200]}")
        for r in served
    ]  # fmt: skip
    count = predictions_of(case, digest)
    if count:
        children.append(Node(kind="predictions", name=case.table("log", "predictions"), words=f"{count} in the log"))
    if count := batch_predictions_of(case, digest):
        from airworthy.serving import batch

        name = case.table(batch.LAYER, batch.NAME)
        children.append(Node(kind="batch predictions", name=name, words=f"{count} rows"))
    return Node(
        kind="release", name=f"{case.name}/{row.version}" if row else digest,
        words=f"{digest[:SHORT]}, {row.state if row else 'unknown'}", children=tuple(children),
    )  # fmt: skip


def predictions_of(case: UseCase, digest: str) -> int:
    """How many collected predictions a release answered."""
    from airworthy.monitoring.collect import log_table

    return _rows_by(log_table(case), digest, pc.field("role").is_null() | (pc.field("role") != "shadow"))


def batch_predictions_of(case: UseCase, digest: str) -> int:
    """How many rows of published intervals a release scored in batch."""
    from airworthy.serving import batch

    return _rows_by(case.table(batch.LAYER, batch.NAME), digest)


def _rows_by(table: str, digest: str, which: pc.Expression | None = None) -> int:
    if not DeltaTable.is_deltatable(tables.url(table)):
        return 0
    own = pc.field("release") == digest
    return int(tables.dataset(table).count_rows(filter=own if which is None else own & which))
