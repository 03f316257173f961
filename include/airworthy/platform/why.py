"""Why a prediction was what it was, or a version what it is: in plain words, on one screen."""

from __future__ import annotations

from typing import Any

from airworthy.config import UseCase
from airworthy.errors import AirworthyError, ConfigurationError
from airworthy.ledger import promotions
from airworthy.ledger.database import transaction
from airworthy.ledger.feedback import feedback
from airworthy.ledger.models import Promotion, ReleaseRow, VerdictRow
from airworthy.platform.lineage import SHORT, batch_predictions_of, predictions_of, reference
from airworthy.platform.lineage_things import Thing, commit_in, is_scores, release_of, scored_by
from airworthy.records import Record, Verdict
from airworthy.training.candidates import find_candidate

MOST = 5
SAME = 1e-9


class Why(Record):
    """The answer.

    Attributes:
        title: What it is about.
        parts: Heading and words, in the order of reading.
    """

    title: str
    parts: tuple[tuple[str, str], ...]


def why(thing: Thing) -> Why:
    """Why a prediction, an interval of batch predictions or a version is as it is.

    Raises:
        ConfigurationError: it is neither.
    """
    if thing.kind == "interval":
        behind, (title, parts) = _batch(thing)
        return Why(title=title, parts=(*parts, *_version(thing.use_case, release_of(behind))))
    case, row = thing.use_case, release_of(thing)
    if thing.kind == "prediction" and thing.record is not None:
        record = thing.record
        title = f"Prediction {record['prediction_id']} of {case.name}"
        return Why(title=title, parts=(*_prediction(case, record, row), *_version(case, row)))
    title = f"{case.name} version {row.version}, release {row.digest[:SHORT]}: {row.state}"
    return Why(title=title, parts=(*_standing(case, row), *_version(case, row)))


def _prediction(case: UseCase, record: dict[str, Any], row: ReleaseRow) -> list[tuple[str, str]]:
    threshold = case.problem.threshold
    acts = "at or above" if record["decision"] else "below"
    hidden = case.sources[case.prediction.source].masks
    asked = ", ".join(f"{name} {hidden.get(name) or value}" for name, value in record["request"].items())
    parts = [
        (
            "answer",
            f"probability {record['probability']:.4f}, {acts} the threshold {threshold:.4f} that the costs imply (a false "
            f"alarm costs {case.problem.cost_false_alarm:g}, a miss {case.problem.cost_miss:g}): "
            f"{'act' if record['decision'] else 'do not act'}. Positive means: {' '.join(case.problem.label.split())}",
        ),
        ("asked", f"at {record['prediction_time']:%Y-%m-%d %H:%M} UTC (data time): {asked}"),
        ("features", _features(record)),
        ("what moved it", _moved(case, record, row)),
    ]
    promotion = {r.generation: r for r in promotions.promotion_log(case.name)}.get(record["generation"])
    role = record.get("role") or "champion"
    words = f"version {row.version}, release {row.digest[:SHORT]}, generation {record['generation']}, as {role}"
    parts.append(("answered by", words + (": nobody saw it" if role == "shadow" else "")))
    if said := _said(case, record["prediction_id"]):
        parts.append(("feedback", said))
    if promotion is not None:
        parts.append(("who let it serve", _promotion(promotion)))
    return parts


def _batch(thing: Thing) -> tuple[Thing, tuple[str, list[tuple[str, str]]]]:
    """The release behind an interval of batch predictions, and what is known of the interval.

    Raises:
        ConfigurationError: it is no interval of batch predictions, or was never scored.
    """
    case, (table, _, day) = thing.use_case, thing.key.rpartition("/")
    commit = commit_in(table, day) if is_scores(case, table) else None
    by = scored_by(table, day) if commit else []
    if commit is None or not by:
        raise ConfigurationError(
            f"{thing.key} holds no batch predictions",
            next_step=f"give an interval of scores, such as {case.name}/scores/batch/{day}; `airworthy lineage` has the others",
        )
    clean = case.table("clean", case.prediction.source)
    rows = commit_in(clean, day)
    served = {r.to_digest: r for r in promotions.changes(case.name)}.get(by[0])
    parts = [
        ("scored", f"{commit.rows} rows at {commit.committed_at:%Y-%m-%d %H:%M} UTC, version {commit.data_version} of {table}"),
        ("rows", f"{clean}/{day}, version {rows.data_version}, {rows.rows} rows" if rows else f"{clean}/{day} is gone"),
        ("features", f"as they were known at each row's {case.prediction.time}, by the offline path; they can be made again"),
        ("answered by", f"release {by[0][:SHORT]}, the champion then"),
    ]  # fmt: skip
    if served is not None:
        parts.append(("who let it serve", _promotion(served)))
    return Thing(case, "release", by[0]), (f"Batch predictions of {case.name}, {day}", parts)


def _said(case: UseCase, prediction: str) -> str:
    return "; ".join(
        f"{one.kind} {one.comment[:200] if one.label is None else str(one.label).lower()} ({one.at:%Y-%m-%d %H:%M} UTC)"
        for one in feedback(case.name, [prediction], limit=MOST)
    )


def _features(record: dict[str, Any]) -> str:
    unknown = [name for name, value in record["features"].items() if value is None]
    words = f"{len(record['features'])} values, {len(unknown)} of them unknown"
    words += f" ({', '.join(unknown[:8])}{', ...' if len(unknown) > 8 else ''})" if unknown else ""
    for name, views in (("nothing from", record["missing"]), ("too old to use", record["stale"])):
        words += f"; {name}: {', '.join(views)}" if views else ""
    return words


def _moved(case: UseCase, record: dict[str, Any], row: ReleaseRow) -> str:
    """The values that moved the probability most, by their SHAP values."""
    from airworthy import features, registry
    from airworthy.serving.explanation import explained

    try:
        found = explained(registry.load(row.digest), record["features"])
    except (AirworthyError, KeyError) as error:
        return f"not known: {error.what if isinstance(error, AirworthyError) else f'no value of {error} was logged'}"
    again = abs(found.probability - record["probability"])
    hidden = features.masks(case)
    told = "; ".join(
        f"{e.feature} = {hidden.get(e.feature) or _shown(e.value)} ({e.change:+.3f})" for e in found.effects[:MOST]
    )
    same = "the release gives the same answer again" if again <= SAME else f"the release now differs by {again:.2g}"
    return (
        f"{told}. (SHAP values: from {found.base:.4f} all {len(found.effects)} of them sum to the probability; {same}.)"
    )


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _standing(case: UseCase, row: ReleaseRow) -> list[tuple[str, str]]:
    log = promotions.changes(case.name)
    served = [r for r in log if r.to_digest == row.digest]
    parts = [("state", f"{row.state}{f': {row.reason}' if row.reason else ''}")]
    parts += [("who let it serve", _promotion(r)) for r in served[-3:]]
    ended = [r for r in log if r.from_digest == row.digest]
    if ended and row.state != "champion":
        parts.append(("what followed", _promotion(ended[-1])))
    if count := predictions_of(case, row.digest):
        parts.append(("predictions", f"{count} in the prediction log"))
    if count := batch_predictions_of(case, row.digest):
        parts.append(("batch predictions", f"{count} rows"))
    return parts


def _promotion(row: Promotion) -> str:
    before = f", after {row.from_digest[:SHORT]}" if row.from_digest else ", the first champion"
    return (
        f"{row.who}, {row.at:%Y-%m-%d %H:%M} UTC ({row.data_time:%Y-%m-%d} data time): {row.action} to "
        f"{row.to_digest[:SHORT]}, generation {row.generation}{before}. {row.why[:300]}"
    )


def _version(case: UseCase, row: ReleaseRow) -> list[tuple[str, str]]:
    with transaction() as session:
        found = session.get(VerdictRow, row.verdict_id)
    parts: list[tuple[str, str]] = []
    if found is None:
        return [("verdict", f"{row.verdict_id}: the ledger does not have it")]
    verdict = Verdict.model_validate(found.record)
    parts.append(("evidence", f"{verdict.summary} (verdict {verdict.id}, {verdict.holdout_rows} rows of the holdout)"))
    parts.append(("champion before", _champion_before(case, verdict)))
    causes = "; ".join(_cause(c) for c in found.causes.values()) or "no cause on record"
    parts.append(("asked for by", causes))
    ref = reference(verdict.training_set_digest)
    if ref is not None:
        tables = ", ".join(f"{n.removeprefix(f'{case.name}/')}@{v}" for n, v in sorted(ref.data_versions.items()))
        parts.append(
            (
                "data",
                f"{ref.train_rows} rows predicted {ref.train_start:%Y-%m-%d} to {ref.train_end:%Y-%m-%d}, label rate "
                f"{ref.label_rate:.3f}; judged on {ref.holdout_start:%Y-%m-%d} to {ref.holdout_end:%Y-%m-%d}; training set "
                f"{ref.digest[:SHORT]} of {tables}",
            )
        )
    kept = find_candidate(row.model_digest, row.run_id) or find_candidate(row.model_digest)
    if kept is not None:
        parameters = ", ".join(f"{k}={v}" for k, v in kept.recipe["parameters"].items())
        parts.append(("model", f"{kept.recipe['algorithm']} ({parameters}), seed {kept.recipe['seed']}"[:400]))
        parts.append(("code", f"revision {kept.revision}, lock {kept.lock[:SHORT]}, MLflow run {kept.run_id}"))
    parts.append(
        ("more", f"airworthy lineage {case.name}/{row.version}; airworthy reproduce {case.name}/{row.version}")
    )
    return parts


def _champion_before(case: UseCase, verdict: Verdict) -> str:
    if verdict.champion_digest is None:
        return "none: it was judged by absolute bounds and baselines"
    before = promotions.get_release(verdict.champion_digest)
    figures = ", ".join(
        f"{name} {verdict.metrics[name]:.4f} against {value:.4f}"
        for name, value in verdict.champion_metrics.items() if name in verdict.metrics
    )  # fmt: skip
    return (
        f"version {before.version if before else '?'} ({verdict.champion_digest[:SHORT]}), on the same rows: {figures}"
    )


def _cause(cause: Any) -> str:
    if not isinstance(cause, dict):
        return str(cause)
    evidence = ", ".join(f"{k} {v}" for k, v in (cause.get("evidence") or {}).items())
    return f"{cause.get('cause', 'unknown')} by {cause.get('requested_by', 'unknown')}{f' ({evidence[:200]})' if evidence else ''}"
