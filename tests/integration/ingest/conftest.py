"""The parcels use case on a fresh platform with its tables created."""

from __future__ import annotations

import pytest

from airworthy.config import Settings, UseCase, load_use_case
from airworthy.ingest import table_schemas
from airworthy.lake import tables


@pytest.fixture
def parcels(platform_env: Settings) -> UseCase:
    """The use case, its tables empty."""
    use_case = load_use_case("parcels")
    for name, schema in table_schemas(use_case).items():
        tables.create(name, schema)
    return use_case
