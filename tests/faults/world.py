"""A platform that can be broken and put back: a folder and three databases, restored from a snapshot for each fault."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from airworthy.config import UseCase, get_settings, get_use_case
from airworthy.config.use_case import use_cases

DATABASES = ("ledger", "feast", "online")
COUNT, BEFORE, AFTER, TORN, FULL, PAUSE = 1, 2, 3, 4, 5, 6
MODES = {BEFORE: "before", AFTER: "after", TORN: "in the middle of"}
STRATA = {1: "ledger", 2: "online store", 3: "bytes of files", 4: "names of files"}
NEVER = 2**62


def compile_shim(folder: Path) -> Path:
    """The library that is preloaded (see syscalls.c). Needs a C compiler."""
    library = folder / "syscalls.so"
    source = Path(__file__).with_name("syscalls.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


class Zygote:
    """The process that forks the jobs (zygote.py), with the library preloaded."""

    def __init__(self, library: Path, log: Path) -> None:
        self._log = log.open("w")
        tests = Path(__file__).parents[1]
        env = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": f"{tests}:{tests / 'use_cases'}"}
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("zygote.py")], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._log, env=env,
        )  # fmt: skip
        assert self._line() == "ready\n"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def run(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """Run a batch; how each job ended: ``status`` (-9 when it was killed) and ``said``."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(batch) + "\n")
        self._process.stdin.flush()
        answer = self._line()
        assert answer, f"the zygote is gone: {Path(self._log.name).read_text()[-3000:]}"
        return list(json.loads(answer))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._log.close()


@dataclass
class World:
    """One platform: ``var`` and three databases on the session's PostgreSQL, with a snapshot of all of it.

    Attributes:
        history: What every step of this world said, in order.
    """

    postgres: Path
    folder: Path
    zygote: Zygote
    use_case: str = "tiny_orders"
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    _labels: set[str] = field(default_factory=set)

    @property
    def var(self) -> Path:
        return self.folder / "var"

    @property
    def history_file(self) -> Path:
        return self.folder / "history.jsonl"

    @property
    def env(self) -> dict[str, str]:
        dsn = {name: f"postgresql+psycopg://postgres@/{self.database(name)}?host={self.postgres}" for name in DATABASES}
        return {
            "AIRWORTHY_VAR": str(self.var), "AIRWORTHY_LEDGER_DSN": dsn["ledger"],
            "AIRWORTHY_FEAST_REGISTRY_DSN": dsn["feast"], "AIRWORTHY_ONLINE_HOST": str(self.postgres),
            "AIRWORTHY_ONLINE_DATABASE": self.database("online"), "AIRWORTHY_CLOCK": "replay",
            "AIRWORTHY_USE_CASES": self.use_case,
        }  # fmt: skip

    def database(self, name: str) -> str:
        """Name of one of its databases."""
        return f"fault_{name}_{self.name}"

    @contextmanager
    def here(self) -> Iterator[UseCase]:
        """This process works on that platform for a while."""
        from airworthy.features import close
        from airworthy.ledger.database import engine

        kept = {name: os.environ.get(name) for name in self.env}
        os.environ.update(self.env)
        get_settings.cache_clear()
        use_cases.cache_clear()
        try:
            yield get_use_case(self.use_case)
        finally:
            close()
            engine().dispose()
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
            get_settings.cache_clear()
            use_cases.cache_clear()

    def create(self, ledger_template: str) -> None:
        """Databases, empty tables, registered features."""
        from airworthy import features, ingest
        from airworthy.lake import tables

        templates = {"ledger": ledger_template}
        for name in DATABASES:
            self._sql(f"CREATE DATABASE {self.database(name)} TEMPLATE {templates.get(name, 'template0')}")
        with self.here() as case:
            for table, schema in {**ingest.table_schemas(case), **features.table_schemas(case)}.items():
                tables.create(table, schema)
            features.apply(case)

    def keep(self, label: str = "kept") -> None:
        """Take a snapshot that ``reset`` goes back to."""
        self._labels.add(label)
        shutil.rmtree(self.folder / label, ignore_errors=True)
        shutil.copytree(self.var, self.folder / label)
        for name in DATABASES:
            self._sql(f"DROP DATABASE IF EXISTS {label}_{self.database(name)} WITH (FORCE)")
            self._sql(f"CREATE DATABASE {label}_{self.database(name)} TEMPLATE {self.database(name)}")

    def reset(self, label: str = "kept") -> None:
        """Put everything back to a snapshot."""
        shutil.rmtree(self.var, ignore_errors=True)
        shutil.copytree(self.folder / label, self.var)
        self.history_file.unlink(missing_ok=True)
        for name in DATABASES:
            self._sql(f"DROP DATABASE IF EXISTS {self.database(name)} WITH (FORCE)")
            self._sql(f"CREATE DATABASE {self.database(name)} TEMPLATE {label}_{self.database(name)}")

    def drop(self) -> None:
        """Drop the databases."""
        for name in DATABASES:
            for database in (self.database(name), *(f"{label}_{self.database(name)}" for label in self._labels)):
                self._sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def run(
        self,
        *jobs: Sequence[Sequence[str]],
        at: int = NEVER,
        mode: int = COUNT,
        then: Sequence[Sequence[Sequence[str]]] = (),
        env: Mapping[str, str] | None = None,
        patience: float = 4.0,
        only: int = 0,
    ) -> list[dict[str, Any]]:
        """Run jobs at the same time, each in a process of its own; a job is a list of steps (see zygote.py).

        ``only`` counts the effects of one of STRATA alone.
        ``patience`` is how many seconds the jobs of ``then`` have before the stopped ones go on.
        """
        return self.zygote.run(
            {
                "env": {**self.env, **(env or {})}, "use_case": self.use_case, "history": str(self.history_file),
                "jobs": jobs, "at": at, "mode": mode, "then": then,
                "patience": patience, "only": only,
            }
        )  # fmt: skip

    def history(self) -> list[dict[str, Any]]:
        """What every finished step said since the last reset."""
        if not self.history_file.exists():
            return []
        return [json.loads(line) for line in self.history_file.read_text().splitlines()]

    def note(self, event: dict[str, Any]) -> None:
        """Add what a step of this process said; an error of the platform, when it is one."""
        with self.history_file.open("a") as file:
            file.write(json.dumps({"ours": True, **event}) + "\n")

    def state(self) -> dict[str, Any]:
        """What readers see: digest of each interval of each table, every online value, what was decided."""
        from airworthy.intervals import Interval
        from airworthy.lake import tables
        from airworthy.ledger import commits

        with self.here() as case:
            found: dict[str, Any] = {}
            for table in table_names(case):
                rows = tables.read(table)
                for key in sorted(set(rows["interval"].to_pylist())):
                    found[f"{table} {key}"] = tables.digest(tables.read(table, Interval.of(key), Interval.of(key)))
            decided = commits.decided_intervals(case.name)
            found["decided"] = {key: (row.status, row.landed_digest) for key, row in decided.items()}
        found["online"] = self.online()
        return found

    def online(self) -> list[tuple[Any, ...]]:
        """Every row of the online store."""
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(f"host={self.postgres} user=postgres dbname={self.database('online')}") as connection:
            names = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
            ).fetchall()
            for (name,) in names:
                found = connection.execute(
                    f'SELECT entity_key, feature_name, value, event_ts, created_ts FROM "{name}" ORDER BY 1, 2'
                ).fetchall()
                rows += [(name, *(bytes(v) if isinstance(v, memoryview) else v for v in row)) for row in found]
        return rows

    def _sql(self, statement: str) -> None:
        with psycopg.connect(f"host={self.postgres} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(statement)


def table_names(case: UseCase) -> list[str]:
    """Every table of the use case that the stages of this campaign write."""
    from airworthy import features, ingest

    return [*ingest.table_schemas(case), *features.table_schemas(case)]


def file_rows(content: bytes) -> list[dict[str, Any]]:
    """The rows of a landed CSV file, read without any code of the platform."""
    return list(csv.DictReader(io.StringIO(content.decode())))
