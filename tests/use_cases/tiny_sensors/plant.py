"""For tests: a plant (``tiny_sensors``) on real Delta tables, ledger and Feast, whose days the tests publish."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from airworthy.config import Settings, UseCase, get_use_case, use_cases
from airworthy.config.settings import get_settings
from airworthy.intervals import Interval
from airworthy.records import IngestOutcome
from tiny_sensors import world


class Plant:
    """Publishes days of the plant as ingest does, without its files and expectations: those have their own tests."""

    def __init__(self, use_case: UseCase) -> None:
        from airworthy import ingest
        from airworthy.features import apply, catalog, table_schemas
        from airworthy.lake import tables

        catalog.forget()
        self.use_case = use_case
        for name, schema in {**ingest.table_schemas(use_case), **table_schemas(use_case)}.items():
            tables.create(name, schema)
        apply(use_case)

    def clean(self, source: str, key: str, rows: list[dict[str, Any]], known_at: datetime | None = None) -> pa.Table:
        """Clean rows of a day; those of a correction are known when it came."""
        from airworthy.ingest import cleaning, parse_rows

        clean = cleaning.run_clean(self.use_case, source, parse_rows(self.use_case, source, rows))
        moments = cleaning.availability(self.use_case, source, clean, Interval.of(key))
        if known_at is not None:
            moments = pa.array([known_at] * clean.num_rows, moments.type)
        return clean.append_column("available_at", moments)

    def now(self, moment: datetime) -> None:
        """Set the data clock."""
        from airworthy.ledger.clock import advance

        advance(self.use_case, moment)

    def publish_rows(self, source: str, key: str, rows: list[dict[str, Any]], known_at: datetime | None = None) -> None:
        """Publish a source's clean rows of a day; as a correction when they are known at a moment of their own."""
        self.publish_table(source, key, self.clean(source, key, rows, known_at), known_at)

    def publish_table(self, source: str, key: str, clean: pa.Table, came: datetime | None = None) -> None:
        """Publish a clean table of a day as it is; what it replaces is kept when it came as a correction."""
        from airworthy.ingest.superseded import keep_superseded
        from airworthy.lake import tables
        from airworthy.ledger import commits

        resource = f"{self.use_case.name}/ingest/{key}"
        token = commits.claim(resource, "test")
        table, interval = self.use_case.table("clean", source), Interval.of(key)
        if came is not None:
            before = tables.read(table, interval, interval)
            keep_superseded(
                self.use_case, source, interval, before=before, clean=clean, now=came, resource=resource, token=token,
                inputs="",
            )  # fmt: skip
        tables.publish(table, {key: clean}, resource=resource, token=token, inputs={key: ""})

    def decide(self, key: str, status: str = "published") -> None:
        """Record what became of a day."""
        from airworthy.ledger import commits

        resource = f"{self.use_case.name}/ingest/{key}"
        outcome = IngestOutcome.model_validate(
            {"use_case": self.use_case.name, "interval": Interval.of(key), "status": status, "landed_digest": "-"}
        )
        commits.decide_interval(resource, commits.claim(resource, "test"), outcome)

    def publish(self, *keys: str) -> None:
        """Publish whole days."""
        for key in keys:
            for source, rows_of in world.ROWS.items():
                if rows := rows_of(key):
                    self.publish_rows(source, key, rows)
            self.decide(key)

    def land(self, key: str) -> None:
        """Land a day's files, of which nobody has looked at a byte yet."""
        from airworthy.lake.landing import land

        for source in ("jobs", "readings"):
            land(self.use_case, source, Interval.of(key), f"{source} {key}".encode(), 1, Interval.of(key).end)

    def features(self, view: str, **where: Any) -> list[dict[str, Any]]:
        """Rows of a feature table, sorted."""
        from airworthy.lake import tables

        rows = tables.read(self.use_case.table("features", f"tiny_sensors_{view}"), **where)
        names = ["interval", *(n for n in ("site", "sensor_id") if n in rows.schema.names), "event_timestamp"]
        return rows.sort_by([(n, "ascending") for n in names]).to_pylist()


@pytest.fixture
def plant(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """An empty plant, its tables created and its features applied."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_sensors")
    get_settings.cache_clear()
    use_cases.cache_clear()
    yield Plant(get_use_case("tiny_sensors"))
    from airworthy.features import close

    close()
