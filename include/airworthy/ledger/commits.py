"""Claims with fencing tokens, and the commits that they allow."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from airworthy.errors import SupersededError
from airworthy.intervals import Interval
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Claim, Commit, IngestedInterval
from airworthy.records import IngestOutcome, PartitionRef


def claim(resource: str, owner: str) -> int:
    """Take the next fencing token of a piece of work; every earlier holder is superseded from now on.

    Args:
        resource: Such as ``flight_delays/ingest/2013-01-31``.
        owner: Who claims, for people who look: the Airflow run, a command.
    """
    with transaction() as session:
        token = session.scalar(
            text(
                "INSERT INTO claim AS c (resource, token, owner) VALUES (:resource, 1, :owner) ON CONFLICT (resource) "
                "DO UPDATE SET token = c.token + 1, owner = EXCLUDED.owner, claimed_at = now() RETURNING token"
            ),
            {"resource": resource, "owner": owner},
        )
    return int(token or 0)


def check_token(resource: str, token: int, session: Session | None = None) -> None:
    """Raise SupersededError unless the token is still the newest.

    Args:
        resource, token: What was claimed.
        session: When given, the claim's row stays locked until that transaction ends.
    """
    query = select(Claim).where(Claim.resource == resource)
    if session is None:
        with transaction() as own:
            row = own.scalar(query)
    else:
        row = session.scalar(query.with_for_update())
    if row is None or row.token != token:
        holder = f"{row.owner} holds token {row.token}" if row else "nobody holds it"
        raise SupersededError(
            f"the claim {token} on {resource} is superseded: {holder}",
            next_step="nothing: the newer run publishes this work",
        )


def record_commits(resource: str, token: int, refs: Iterable[PartitionRef], inputs: dict[str, str]) -> None:
    """Write the ledger rows of a table write. Raises SupersededError when a newer claim exists.

    Args:
        resource, token: The claim under which it was written.
        refs: What was written.
        inputs: Digest of what each interval was made from, by the interval's key.
    """
    with transaction() as session:
        check_token(resource, token, session)
        session.add_all(
            Commit(
                table_name=r.table, interval=r.interval.key, data_version=r.data_version, token=token, rows=r.rows,
                digest=r.digest, inputs=inputs[r.interval.key],
            )
            for r in refs
        )  # fmt: skip


def newest_commits(table: str, first: Interval | None = None, last: Interval | None = None) -> dict[str, Commit]:
    """The commit that counts, by interval key, of a table's intervals from first to last."""
    query = select(Commit).where(Commit.table_name == table).ext(distinct_on(Commit.interval))
    if first is not None:
        query = query.where(Commit.interval >= first.key)
    if last is not None:
        query = query.where(Commit.interval <= last.key)
    with transaction() as session:
        rows = session.scalars(query.order_by(Commit.interval, Commit.id.desc())).all()
    return {row.interval: row for row in rows}


def known_versions(table: str, versions: list[int]) -> set[int]:
    """Which of these Delta versions of a table have a row."""
    query = select(Commit.data_version).where(Commit.table_name == table, Commit.data_version.in_(versions))
    with transaction() as session:
        return {int(version) for version in session.scalars(query)}


def decide_interval(resource: str, token: int, outcome: IngestOutcome) -> None:
    """Record what became of an interval (published or rejected). Raises SupersededError for an old claim."""
    with transaction() as session:
        check_token(resource, token, session)
        session.merge(
            IngestedInterval(
                use_case=outcome.use_case, interval=outcome.interval.key, status=outcome.status,
                landed_digest=outcome.landed_digest, token=token, reason=outcome.reason, outcome=outcome.to_json(),
                decided_at=func.now(),
            )
        )  # fmt: skip


def decided_intervals(use_case: str) -> dict[str, IngestedInterval]:
    """What was decided, by interval key."""
    with transaction() as session:
        rows = session.scalars(
            select(IngestedInterval).where(IngestedInterval.use_case == use_case).order_by(IngestedInterval.interval)
        ).all()
    return {row.interval: row for row in rows}
