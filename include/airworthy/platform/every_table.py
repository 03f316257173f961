"""Every table of a use case, whichever stage it belongs to: for migrations, retention and backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airworthy.config import UseCase

if TYPE_CHECKING:
    import pyarrow as pa


def table_schemas(use_case: UseCase) -> dict[str, pa.Schema]:
    """Schema of every table by name.

    Raises:
        ConfigurationError: a definition of the use case does not fit its declared columns.
    """
    from airworthy import features, ingest, monitoring
    from airworthy.serving import batch

    found: dict[str, pa.Schema] = {}
    for stage in (ingest, features, batch, monitoring):
        found.update(stage.table_schemas(use_case))
    return found
