"""The ledger's tables: what was claimed, published, asked for, judged, released and promoted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Float, Index, Integer, MetaData, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Moment = DateTime(timezone=True)


class Base(DeclarativeBase):
    """Base of the ledger's tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSONB, datetime: Moment, int: BigInteger, str: Text, float: Float}  # noqa: RUF012


class DataClock(Base):
    """The replay clock: data time now, for each use case that is replayed."""

    __tablename__ = "data_clock"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    now: Mapped[datetime]


class Claim(Base):
    """The newest fencing token of a piece of work. Who holds an older one must stand down."""

    __tablename__ = "claim"
    resource: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[int]
    owner: Mapped[str]
    claimed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class Commit(Base):
    """One published interval of one table: the newest row of (table_name, interval) is what counts."""

    __tablename__ = "table_commit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    table_name: Mapped[str]
    interval: Mapped[str] = mapped_column(String(10))
    data_version: Mapped[int]
    token: Mapped[int]
    rows: Mapped[int]
    digest: Mapped[str]
    inputs: Mapped[str]
    committed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    __table_args__ = (Index("ix_table_commit_newest", "table_name", "interval", "id"),)


class IngestedInterval(Base):
    """What became of an interval's landed files: the newest digest that was decided on."""

    __tablename__ = "ingested_interval"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(String(10), primary_key=True)
    status: Mapped[str]
    landed_digest: Mapped[str]
    token: Mapped[int]
    reason: Mapped[str] = mapped_column(server_default="")
    outcome: Mapped[dict[str, Any]]
    decided_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class Validation(Base):
    """One validation report."""

    __tablename__ = "validation"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    use_case: Mapped[str]
    table_name: Mapped[str]
    interval: Mapped[str] = mapped_column(String(10))
    passed: Mapped[bool]
    report: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class QuarantineRelease(Base):
    """Who asked to release an interval's quarantine and why; ``asked`` until it is known what became of it."""

    __tablename__ = "quarantine_release"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    use_case: Mapped[str]
    interval: Mapped[str] = mapped_column(String(10))
    status: Mapped[str] = mapped_column(server_default="asked")
    landed_digest: Mapped[str]
    who: Mapped[str]
    why: Mapped[str]
    outcome: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    data_time: Mapped[datetime]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class OnlineWatermark(Base):
    """Newest interval of a feature view whose values were published online, and the definition that they are made by."""

    __tablename__ = "online_watermark"
    view: Mapped[str] = mapped_column(primary_key=True)
    inputs: Mapped[str]
    definition: Mapped[str | None]
    event_time: Mapped[datetime]
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class RetrainingRequest(Base):
    """A wish for a training, with its cause. The event only wakes; this row decides."""

    __tablename__ = "retraining_request"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    use_case: Mapped[str]
    cause: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    requested_by: Mapped[str]
    data_time: Mapped[datetime]
    requested_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    claimed_by: Mapped[str | None]
    claimed_at: Mapped[datetime | None]
    outcome: Mapped[str | None]


class TrainingSet(Base):
    """A training set that was built."""

    __tablename__ = "training_set"
    digest: Mapped[str] = mapped_column(primary_key=True)
    use_case: Mapped[str]
    ref: Mapped[dict[str, Any]] = mapped_column(JSON)  # keeps the order of the columns, as jsonb does not
    built_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    removed_at: Mapped[datetime | None]


class Candidate(Base):
    """A fitted model, with all that is needed to make it once more without its files and without MLflow."""

    __tablename__ = "candidate"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    use_case: Mapped[str]
    model_digest: Mapped[str] = mapped_column(index=True)
    training_set: Mapped[str]
    run: Mapped[str]
    recipe: Mapped[dict[str, Any]] = mapped_column(JSON)
    revision: Mapped[str]
    lock: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    predictions: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class VerdictRow(Base):
    """A verdict, whole."""

    __tablename__ = "verdict"
    id: Mapped[str] = mapped_column(primary_key=True)
    use_case: Mapped[str]
    model_digest: Mapped[str]
    champion_digest: Mapped[str | None]
    decision: Mapped[str]
    mode: Mapped[str]
    causes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    record: Mapped[dict[str, Any]]
    data_time: Mapped[datetime]
    judged_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class ReleaseRow(Base):
    """A release and its state: ``challenger | champion | retired | refused | removed``. A verdict makes one."""

    __tablename__ = "release"
    digest: Mapped[str] = mapped_column(primary_key=True)
    use_case: Mapped[str]
    model_digest: Mapped[str]
    version: Mapped[int | None]
    verdict_id: Mapped[str]
    champion_digest: Mapped[str | None]
    run_id: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str] = mapped_column(server_default="")
    record: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    __table_args__ = (UniqueConstraint("use_case", "verdict_id", name="uq_release_verdict"),)


class Promotion(Base):
    """The promotion log: append-only, one row a generation. It alone says who is champion, and who is on trial beside it.

    ``promote`` and ``rollback`` change the champion. ``shadow`` and ``canary`` leave it and put a challenger beside it
    with a share of the traffic (0: it answers unseen); every other row ends a trial.
    """

    __tablename__ = "promotion"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    use_case: Mapped[str]
    generation: Mapped[int]
    action: Mapped[str]
    from_digest: Mapped[str | None]
    to_digest: Mapped[str]
    challenger_digest: Mapped[str | None]
    share: Mapped[float] = mapped_column(server_default="0")
    verdict_id: Mapped[str | None]
    who: Mapped[str]
    why: Mapped[str]
    data_time: Mapped[datetime]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    __table_args__ = (UniqueConstraint("use_case", "generation", name="uq_promotion_generation"),)


class ServingWorker(Base):
    """What each live worker of the prediction service has loaded.

    Replicas in containers may share instance and process ids: ``process`` is drawn by the process itself.
    """

    __tablename__ = "serving_worker"
    instance: Mapped[str] = mapped_column(primary_key=True)
    pid: Mapped[int] = mapped_column(Integer, primary_key=True)
    process: Mapped[str] = mapped_column(primary_key=True, server_default="")
    use_case: Mapped[str] = mapped_column(primary_key=True)
    generation: Mapped[int]
    digest: Mapped[str | None]
    heartbeat: Mapped[datetime] = mapped_column(server_default=text("now()"))
    error: Mapped[str | None]


class PredictionBatch(Base):
    """A part of a spool file that was moved to the prediction log."""

    __tablename__ = "prediction_batch"
    spool_file: Mapped[str] = mapped_column(primary_key=True)
    start_offset: Mapped[int] = mapped_column(primary_key=True)
    end_offset: Mapped[int]
    use_case: Mapped[str]
    rows: Mapped[int]
    data_version: Mapped[int]
    moved_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class MonitoringWindow(Base):
    """What monitoring found in one window."""

    __tablename__ = "monitoring_window"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    window: Mapped[str] = mapped_column(primary_key=True)
    champion_digest: Mapped[str | None]
    violates: Mapped[bool]
    record: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class RecoveryDrill(Base):
    """A restore that was tried: from which backup, how long it took, and how the copy differed (empty: not at all)."""

    __tablename__ = "recovery_drill"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    backup: Mapped[str]
    recovery_point: Mapped[datetime]
    seconds: Mapped[float]
    passed: Mapped[bool]
    words: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class ForgottenKey(Base):
    """A key that is to be forgotten: its keyed digest, never the key. Landed and pushed rows that bear it are left out."""

    __tablename__ = "forgotten_key"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    use_case: Mapped[str]
    column_name: Mapped[str]
    key_digest: Mapped[str]
    who: Mapped[str]
    removed: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    __table_args__ = (UniqueConstraint("use_case", "column_name", "key_digest", name="uq_forgotten_key"),)


class RedactedTrainingSet(Base):
    """What is left of a training set's file after rows of a forgotten key were taken out."""

    __tablename__ = "redacted_training_set"
    digest: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    redacted_digest: Mapped[str]
    removed: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class SkewCheck(Base):
    """What came of recomputing the served feature vectors of one window."""

    __tablename__ = "skew_check"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    window: Mapped[str] = mapped_column(primary_key=True)
    vectors: Mapped[int]
    violates: Mapped[bool]
    record: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class TaskUsage(Base):
    """What one try of one task used. A try that was deferred has a row for each of its parts."""

    __tablename__ = "task_usage"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    run: Mapped[str] = mapped_column(index=True)
    use_case: Mapped[str]
    family: Mapped[str]
    task: Mapped[str]
    map_index: Mapped[int] = mapped_column(Integer, server_default="-1")
    try_number: Mapped[int] = mapped_column(Integer, server_default="1")
    outcome: Mapped[str]
    executor: Mapped[str]
    host: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    cpu_seconds: Mapped[float]
    peak_memory_bytes: Mapped[int]
    bytes_written: Mapped[int]


class Attempt(Base):
    """A training or an experiment: what it was asked for, what was tried, what came of it. One row a run."""

    __tablename__ = "attempt"
    run: Mapped[str] = mapped_column(primary_key=True)
    use_case: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    record: Mapped[dict[str, Any]]
    started_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class OverdueInterval(Base):
    """An interval that did not land by its deadline: what it lacked, seen at which data time, and when it came."""

    __tablename__ = "overdue_interval"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(String(10), primary_key=True)
    lacks: Mapped[dict[str, Any]]
    data_time: Mapped[datetime]
    arrived: Mapped[datetime | None]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class PromotionPause(Base):
    """The kill switch: while a use case has a row here (``*`` stands for all of them), nothing new reaches its clients."""

    __tablename__ = "promotion_pause"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    who: Mapped[str]
    why: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class HumanAction(Base):
    """What a person did: written before it begins, with an empty outcome that is filled in once."""

    __tablename__ = "human_action"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    who: Mapped[str]
    via: Mapped[str]
    action: Mapped[str]
    use_case: Mapped[str]
    subject: Mapped[str] = mapped_column(server_default="")
    why: Mapped[str] = mapped_column(server_default="")
    outcome: Mapped[str] = mapped_column(server_default="")
    run: Mapped[str | None] = mapped_column(unique=True)


class ServingTally(Base):
    """What one process of the prediction service counted for one role under one generation of the promotion log."""

    __tablename__ = "serving_tally"
    instance: Mapped[str] = mapped_column(primary_key=True)
    pid: Mapped[int] = mapped_column(Integer, primary_key=True)
    process: Mapped[str] = mapped_column(primary_key=True)
    use_case: Mapped[str] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    requests: Mapped[int]
    errors: Mapped[int]
    model_ms: Mapped[list[int]] = mapped_column(JSONB)
    reported_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    __table_args__ = (Index("ix_serving_tally_generation", "use_case", "generation"),)


class Feedback(Base):
    """What a client said about a prediction. The same words about the same prediction are kept once."""

    __tablename__ = "feedback"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    use_case: Mapped[str]
    prediction_id: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str]
    label: Mapped[bool | None]
    comment: Mapped[str] = mapped_column(server_default="")
    digest: Mapped[str]
    data_time: Mapped[datetime]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    __table_args__ = (UniqueConstraint("use_case", "prediction_id", "digest", name="uq_feedback_content"),)


class RollbackDrill(Base):
    """A rehearsal of the way back: each release that a rollback may go to was loaded in a service of its own and answered."""

    __tablename__ = "rollback_drill"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    use_case: Mapped[str]
    candidates: Mapped[dict[str, Any]]
    seconds: Mapped[float]
    passed: Mapped[bool]
    words: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class DeliveryRow(Base):
    """The delivery of one release: where it stands. One is open for each use case.

    ``evidence`` is what a canary step has seen so far; ``token`` fences: who holds an older one must stand down.
    """

    __tablename__ = "delivery"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    use_case: Mapped[str]
    release_digest: Mapped[str]
    champion_digest: Mapped[str | None]
    run: Mapped[str]
    state: Mapped[str]
    step: Mapped[int] = mapped_column(Integer, server_default="0")
    generation: Mapped[int | None]
    token: Mapped[int] = mapped_column(server_default="1")
    approver: Mapped[str | None]
    reason: Mapped[str] = mapped_column(server_default="")
    evidence: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    figures: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    since: Mapped[datetime] = mapped_column(server_default=text("now()"))
    __table_args__ = (
        Index(
            "uq_delivery_open",
            "use_case",
            unique=True,
            postgresql_where=text("state IN ('staging', 'approval', 'shadow', 'canary', 'promote', 'watch')"),
        ),
    )


class DeliveryMove(Base):
    """A transition of a delivery, with its reason and figures."""

    __tablename__ = "delivery_move"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    delivery_id: Mapped[int] = mapped_column(index=True)
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    step: Mapped[int] = mapped_column(Integer, server_default="0")
    reason: Mapped[str]
    figures: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class PipelineRelease(Base):
    """A release of the pipeline itself that was built, and what came of its staging run."""

    __tablename__ = "pipeline_release"
    digest: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[str] = mapped_column(index=True)
    record: Mapped[dict[str, Any]]
    staged: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    built_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    staged_at: Mapped[datetime | None]


class PipelineRequest(Base):
    """A revision on its way to a target, taken by one run: what became of it."""

    __tablename__ = "pipeline_request"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    revision: Mapped[str]
    target: Mapped[str]
    run: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="taken")
    reason: Mapped[str] = mapped_column(server_default="")
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class PipelineSwitch(Base):
    """A switch of the pipeline's release, and what came of it. The newest that ``switched`` says what runs."""

    __tablename__ = "pipeline_switch"
    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    from_digest: Mapped[str | None]
    to_digest: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="asked")
    who: Mapped[str]
    why: Mapped[str]
    reason: Mapped[str] = mapped_column(server_default="")
    asked_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    ended_at: Mapped[datetime | None]
