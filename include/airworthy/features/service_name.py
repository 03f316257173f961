"""A feature service's name stands for one set of definitions: what a training set was joined with is never redefined."""

from __future__ import annotations

import re

from sqlalchemy import select

from airworthy.config import UseCase
from airworthy.errors import ConfigurationError
from airworthy.features.catalog import Catalog, catalog
from airworthy.features.definitions_match import differences
from airworthy.ledger.database import transaction
from airworthy.ledger.models import TrainingSet


def check_service_name(use_case: UseCase) -> None:
    """Refuse definitions that differ from those which a training set used under the same feature service.

    Before the first training, definitions may change freely.

    Raises:
        ConfigurationError: the service was used with other definitions; the message names what changed.
    """
    name, compiled = use_case.training.feature_service, catalog(use_case)
    used = TrainingSet.ref["feature_digest"].astext
    with transaction() as ledger:
        found = ledger.scalars(
            select(TrainingSet)
            .where(TrainingSet.use_case == use_case.name, TrainingSet.ref["feature_service"].astext == name)
            .where(used != compiled.digest)
            .order_by(TrainingSet.built_at.desc())
            .limit(1)
        ).first()
    if found is not None:
        raise ConfigurationError(
            f"feature service {name} was used by training set {found.digest[:12]} with other definitions: "
            f"{_changed(compiled, found.ref.get('view_digests', {}))}",
            next_step=f"set training.feature_service to {_next(use_case, name)} in use_case.yaml and run `airworthy "
            "migrate`, so that models of both can be told apart; or take the change back",
        )


def _changed(compiled: Catalog, before: dict[str, str]) -> str:
    new = [f"{view.name} is new" for view in compiled.views if view.name not in before]
    return ", ".join(sorted(new + differences(compiled.view_digests, before))) or "the request features changed"


def _next(use_case: UseCase, name: str) -> str:
    number = re.fullmatch(rf"{re.escape(use_case.name)}_v(\d+)", name)
    return f"{use_case.name}_v{int(number[1]) + 1}" if number else f"{use_case.name}_v<N>"
