"""Which models use a feature view: the pedigree of releases, read from the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from airworthy.features.catalog import CompiledView
from airworthy.ledger.database import transaction
from airworthy.ledger.models import ReleaseRow, TrainingSet, VerdictRow


@dataclass(frozen=True)
class Use:
    """A release whose model was trained on a feature view.

    Attributes:
        release: The release's digest.
        version: Version of the registered model.
        state: ``challenger | champion | retired | refused``.
        feature_service: The feature service that its training set was joined with.
        as_defined: Whether the view meant then what it means now.
    """

    release: str
    version: int | None
    state: str
    feature_service: str
    as_defined: bool


def uses(view: CompiledView) -> list[Use]:
    """The releases that use a view, newest first."""
    digests = TrainingSet.ref["view_digests"][view.name].astext
    query = (
        select(ReleaseRow, TrainingSet.ref["feature_service"].astext, digests)
        .join(VerdictRow, VerdictRow.id == ReleaseRow.verdict_id)
        .join(TrainingSet, TrainingSet.digest == VerdictRow.record["training_set_digest"].astext)
        .where(digests.is_not(None))
        .order_by(ReleaseRow.created_at.desc())
    )
    with transaction() as session:
        return [
            Use(row.digest, row.version, row.state, service, digest == view.definition)
            for row, service, digest in session.execute(query).all()
        ]
