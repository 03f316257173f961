"""A retrieval of the offline store, and the DuckDB session that it runs in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from feast import OnDemandFeatureView, RepoConfig
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata

from airworthy.errors import ConfigurationError


class DuckDBRetrievalJob(RetrievalJob):
    """A retrieval that runs when its result is asked for, on the data versions of the moment it was created.

    Attributes:
        data_versions: Delta version by the name of each data source that is read: the pedigree of the result.
            Give it to ``delta_source.pinned_versions`` to read the same data again.
    """

    def __init__(
        self,
        run: Callable[[], pa.Table],
        data_versions: dict[str, int],
        metadata: RetrievalMetadata | None = None,
        full_feature_names: bool = False,
    ) -> None:
        self._run = run
        self.data_versions = data_versions
        self._metadata = metadata
        self._full_feature_names = full_feature_names

    @property
    def full_feature_names(self) -> bool:
        """Whether features are named ``<view>__<feature>``."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Always empty: this store refuses on-demand feature views."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """The features and join keys asked for; None for a plain read of one table."""
        return self._metadata

    def persist(self, storage: Any, allow_overwrite: bool = False, timeout: int | None = None) -> NoReturn:
        """Refused: see ``offline_write_batch``."""
        refuse_write("a saved dataset")

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._run()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._run().to_pandas()


def query(config: RepoConfig, dataset: ds.Dataset, sql: str) -> pa.Table:
    """What SQL over the relation ``source`` gives, in a session of its own."""
    with duckdb_session(config) as session:
        session.register("source", dataset)
        # Feast's conversion to protobuf looks at the first chunk only.
        return session.sql(sql).to_arrow_table().combine_chunks()


@contextmanager
def duckdb_session(config: RepoConfig) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own: UTC whatever the process thinks, and nothing downloaded."""
    options = config.offline_store
    # Two queries must not share a folder for what does not fit in memory.
    with tempfile.TemporaryDirectory(prefix="airworthy-duckdb-", ignore_cleanup_errors=True) as spill:
        settings: dict[str, str | bool | int] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": str(Path(spill)),
        }
        if options.threads:
            settings["threads"] = options.threads
        if options.memory_limit:
            settings["memory_limit"] = options.memory_limit
        with duckdb.connect(":memory:", config=settings) as session:
            session.execute("SET TimeZone = 'UTC'")
            yield session


def refuse_write(what: str) -> NoReturn:
    """Raise the error that says who writes tables."""
    raise ConfigurationError(
        f"the offline store does not write ({what})",
        next_step="publish an interval of the table through airworthy.lake",
    )
