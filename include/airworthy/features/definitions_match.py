"""Whether a model may be fed: the definitions that it was trained on, held against those that its values are made by now."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select

from airworthy.config import UseCase
from airworthy.features.catalog import REQUEST, catalog
from airworthy.ledger.database import transaction
from airworthy.ledger.models import OnlineWatermark


def differences(deployed: Mapping[str, str], trained: Mapping[str, str]) -> list[str]:
    """What of the definitions that a model was trained on is another one now, in words. New views are no difference.

    Args:
        deployed: Digest of each view's definition by its name; of the request features under ``request``.
        trained: The same, of the training set.
    """
    words = [f"{name} is gone" for name in trained if name not in deployed and name != REQUEST]
    changed = sorted(name for name, digest in trained.items() if deployed.get(name, digest) != digest)
    return sorted(words) + [f"{'the request features' if name == REQUEST else name} changed" for name in changed]


def published_definitions(use_case: UseCase) -> dict[str, str]:
    """Digest of the definition that each view's online values are made by; none of a view that was never published.

    Raises:
        SQLAlchemyError: the ledger does not answer.
    """
    names = [view.name for view in catalog(use_case).views]
    with transaction() as session:
        rows = session.scalars(select(OnlineWatermark).where(OnlineWatermark.view.in_(names))).all()
    return {row.view: row.definition for row in rows if row.definition}


def unlike(
    use_case: UseCase, feature_digest: str, view_digests: Mapping[str, str], published: Mapping[str, str]
) -> list[str]:
    """Why a model must not be fed with this process's features, in words; empty when it may be.

    Args:
        use_case: The use case.
        feature_digest: Of all definitions that it was trained on.
        view_digests: The same view by view; empty for a model of the time before they were recorded.
        published: As :func:`published_definitions` gives them.
    """
    compiled = catalog(use_case)
    if not view_digests:
        return [] if feature_digest == compiled.digest else ["its feature definitions changed"]
    found = differences(compiled.view_digests, view_digests)
    online = {name: digest for name, digest in published.items() if name in view_digests}
    return found or [f"the online values of {w}" for w in differences({**view_digests, **online}, view_digests)]
