"""The guarded online store on a real PostgreSQL: nothing goes backwards, nothing stays broken."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64, Int64, String
from pydantic import ValidationError

from airworthy.errors import ConfigurationError, ServiceUnavailableError
from airworthy.features.delta_source import DeltaSource
from airworthy.features.offline_store import latest_known
from airworthy.features.online_store import GuardedPostgresOnlineStore, GuardedPostgresOnlineStoreConfig, OnlineRow

T0 = datetime(2013, 1, 1, tzinfo=UTC)
DATABASE = "features"
SCHEMA = pa.schema(
    [
        ("plane", pa.int64()),
        ("event_timestamp", pa.timestamp("us", "UTC")),
        ("available_at", pa.timestamp("us", "UTC")),
        ("speed", pa.float64()),
        ("maker", pa.string()),
    ]
)


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def connect(folder: Path, database: str = DATABASE) -> psycopg.Connection:
    return psycopg.connect(f"host={folder} user=postgres dbname={database}", autocommit=True)


def repo_config(folder: Path, **online: object) -> RepoConfig:
    return RepoConfig(
        project="test",
        provider="local",
        registry={
            "registry_type": "sql",
            "path": f"postgresql+psycopg://postgres@/{DATABASE}?host={folder}",
            "cache_ttl_seconds": 60,
            "sqlalchemy_config_kwargs": {"pool_pre_ping": True},
        },
        offline_store={"type": "airworthy.features.offline_store.DuckDBAsofOfflineStore"},
        online_store={
            "type": "airworthy.features.online_store.GuardedPostgresOnlineStore",
            "host": str(folder),
            "sslmode": "disable",
            "database": DATABASE,
            "user": "postgres",
            **online,
        },
        entity_key_serialization_version=3,
    )


@pytest.fixture(scope="module")
def database(feature_postgres: Path) -> Path:
    """The database of these tests; yields the folder of the server's socket."""
    with connect(feature_postgres, "postgres") as admin:
        admin.execute(f"CREATE DATABASE {DATABASE}")
    return feature_postgres


@pytest.fixture(scope="module")
def project(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    """A Feast project with one view."""
    path = tmp_path_factory.mktemp("lake") / "planes"
    DeltaTable.create(str(path), SCHEMA)
    plane = Entity(name="plane", join_keys=["plane"], value_type=ValueType.INT64)
    source = DeltaSource("planes", path, "event_timestamp", "available_at")
    fields = [Field(name="plane", dtype=Int64), Field(name="speed", dtype=Float64), Field(name="maker", dtype=String)]
    feast = FeatureStore(config=repo_config(database))
    feast.apply([plane, source, FeatureView(name="planes", entities=[plane], schema=fields, source=source)])
    yield feast
    feast.registry.write_engine.dispose()


@pytest.fixture
def store(project: FeatureStore) -> Iterator[FeatureStore]:
    """The project, with nothing in its tables and no connection open."""
    DeltaTable(project.get_data_source("planes").path).delete()
    with connect(Path(project.config.online_store.host)) as admin:
        admin.execute("TRUNCATE test_planes")
    yield project
    online(project).close_pool()


def online(store: FeatureStore) -> GuardedPostgresOnlineStore:
    return store._get_provider().online_store


def row(plane: int, speed: float, event: datetime, created: datetime | None = None) -> OnlineRow:
    key = EntityKey(join_keys=["plane"], entity_values=[Value(int64_val=plane)])
    return key, {"speed": Value(double_val=speed), "maker": Value(string_val=f"m{speed}")}, event, created


def write(store: FeatureStore, *rows: OnlineRow) -> None:
    online(store).online_write_batch(store.config, store.get_feature_view("planes"), list(rows), None)


def read(store: FeatureStore, *planes: int) -> list[float | None]:
    entities = [{"plane": plane} for plane in planes]
    return store.get_online_features(["planes:speed", "planes:maker"], entities).to_dict()["speed"]


def times(store: FeatureStore) -> tuple[datetime, datetime | None]:
    with connect(Path(store.config.online_store.host)) as connection:
        found = connection.execute("SELECT DISTINCT event_ts, created_ts FROM test_planes").fetchall()
    assert len(found) == 1
    return found[0]


def kill_connections(store: FeatureStore) -> int:
    """Terminate every other connection of the store's database; returns how many those were."""
    with connect(Path(store.config.online_store.host), "postgres") as admin:
        killed = admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [DATABASE]
        ).fetchall()
    return len(killed)


# --- values never go backwards


@pytest.mark.parametrize(
    ("second", "kept"),
    [
        pytest.param(row(1, 2.0, at(11)), 2.0, id="newer event"),
        pytest.param(row(1, 2.0, at(9)), 1.0, id="older event"),
        pytest.param(row(1, 2.0, at(9), at(99)), 1.0, id="older event that became known later"),
        pytest.param(row(1, 2.0, at(10), at(21)), 2.0, id="same event, known later: a correction"),
        pytest.param(row(1, 2.0, at(10), at(19)), 1.0, id="same event, known earlier"),
        pytest.param(row(1, 2.0, at(10), at(20)), 2.0, id="same times: the interval is published again"),
        pytest.param(row(1, 2.0, at(10)), 1.0, id="same event, created time missing"),
    ],
)
def test_a_value_is_replaced_only_by_one_that_is_not_older(store: FeatureStore, second: OnlineRow, kept: float) -> None:
    write(store, row(1, 1.0, at(10), at(20)))

    write(store, second)

    assert read(store, 1) == [kept]


def test_a_created_time_beats_none(store: FeatureStore) -> None:
    write(store, row(1, 1.0, at(10)))

    write(store, row(1, 2.0, at(10), at(10)))

    assert read(store, 1) == [2.0]


def test_the_newest_of_one_batch_wins_in_any_order(store: FeatureStore) -> None:
    write(store, row(1, 3.0, at(3)), row(1, 5.0, at(5), at(6)), row(1, 4.0, at(4)), row(1, 6.0, at(5), at(5)))

    assert read(store, 1) == [5.0]


def test_a_batch_is_written_whole_or_not_at_all(store: FeatureStore) -> None:
    with pytest.raises(ConfigurationError, match="no event time"):
        write(store, row(1, 1.0, at(1)), row(2, 1.0, pd.NaT))
    bad = (row(2, 1.0, at(1))[0], {"nul\x00": Value(double_val=1.0)}, at(1), None)
    with pytest.raises(psycopg.Error):
        write(store, row(1, 1.0, at(1)), bad)

    assert read(store, 1, 2) == [None, None]


def test_an_empty_batch_is_fine(store: FeatureStore) -> None:
    seen: list[int] = []

    online(store).online_write_batch(store.config, store.get_feature_view("planes"), [], seen.append)

    assert seen == [0]


def test_concurrent_writers_in_opposite_order_leave_the_newest(store: FeatureStore) -> None:
    """Given writers that go through the same 300 keys in different orders, no deadlock and no step back."""
    planes, rounds = range(300), 8
    barrier = threading.Barrier(2)

    def writer(offset: int, keys: list[int]) -> None:
        for step in range(rounds):
            barrier.wait(20)
            moment = at(2 * step + offset)
            write(store, *(row(key, 2.0 * step + offset, moment) for key in keys))

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(writer, 0, list(planes)), pool.submit(writer, 1, list(reversed(planes)))]
        for job in jobs:
            job.result(60)

    assert read(store, *planes) == [2.0 * rounds - 1] * len(planes)


def test_an_older_writer_that_waited_for_a_newer_one_does_not_win(store: FeatureStore) -> None:
    """Given a newer value in an open transaction, an older writer waits for it and then gives way."""
    write(store, row(1, 1.0, at(1)))
    newer = f"UPDATE test_planes SET event_ts = '{at(9)}', value = %s WHERE feature_name = 'speed'"
    with connect(Path(store.config.online_store.host)) as other:
        other.autocommit = False
        other.execute(newer, [Value(double_val=9.0).SerializeToString()])
        with ThreadPoolExecutor(1) as pool:
            older = pool.submit(write, store, row(1, 5.0, at(5)))
            with pytest.raises(TimeoutError):
                older.result(0.3)
            other.commit()
            older.result(20)

    assert read(store, 1) == [9.0]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_times_are_utc_whatever_the_server_and_the_process_think(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    with connect(Path(store.config.online_store.host)) as admin:
        admin.execute(f"ALTER DATABASE {DATABASE} SET timezone TO '{zone}'")
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            write(store, row(1, 1.0, at(10).replace(tzinfo=None), at(20)))
            assert times(store) == (at(10), at(20))
            write(store, row(1, 2.0, at(9)))
            response = store.get_online_features(["planes:speed"], [{"plane": 1}]).proto
        finally:
            monkeypatch.undo()
            time.tzset()
            admin.execute(f"ALTER DATABASE {DATABASE} RESET timezone")

    assert response.results[1].values[0].double_val == 1.0
    assert response.results[1].event_timestamps[0].ToDatetime(UTC) == at(10)


# --- connections


def test_reads_and_writes_work_right_after_all_connections_were_killed(store: FeatureStore) -> None:
    """Given a pool full of connections that the server has ended, the next calls succeed.

    Finding the dead ones one by one would take longer than a call waits for a connection.
    """
    write(store, *(row(plane, float(plane), at(1)) for plane in range(8)))
    hold = threading.Barrier(4)

    def open_one(_: int) -> None:
        with online(store)._get_conn(store.config, autocommit=True) as connection:
            connection.execute("SELECT 1")
            hold.wait(20)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(open_one, range(4)))

    for _ in range(3):
        assert kill_connections(store) >= 1
        assert [read(store, plane) for plane in range(8)] == [[float(plane)] for plane in range(8)]
    kill_connections(store)
    write(store, row(1, 2.0, at(2)))
    assert read(store, 1) == [2.0]


def test_an_idle_connection_is_asked_also_when_its_server_vanished_without_a_word(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airworthy.features import online_pool

    write(store, row(1, 1.0, at(1)))
    # Given a machine that lost its power: nothing comes from it, not even the end of the connection.
    monkeypatch.setattr(online_pool, "_has_input", lambda _: False)
    kill_connections(store)
    time.sleep(online_pool.FRESH_SECONDS)
    # When somebody writes and reads later, then it is by new connections.
    write(store, row(1, 2.0, at(2)))
    assert read(store, 1) == [2.0]


def test_a_connection_that_dies_in_use_is_not_given_out_again(store: FeatureStore) -> None:
    """Given errors in the middle of calls, more of them than the pool has connections, nothing leaks."""
    write(store, row(1, 1.0, at(1)))

    def fail(statement: str, *, kill: bool) -> None:
        with online(store)._get_conn(store.config) as connection:
            if kill:
                kill_connections(store)
            connection.execute(statement)

    for _ in range(6):
        with pytest.raises(psycopg.OperationalError):
            fail("SELECT 1", kill=True)
    for _ in range(6):
        with pytest.raises(psycopg.errors.UndefinedTable):
            fail("SELECT * FROM nowhere", kill=False)

    assert read(store, 1) == [1.0]


def test_eight_threads_read_the_right_values(store: FeatureStore) -> None:
    planes = range(40)
    write(store, *(row(plane, float(plane), at(1)) for plane in planes))

    def reader(thread: int) -> int:
        for step in range(50):
            plane = (thread * 7 + step) % 40
            assert read(store, plane, (plane + 1) % 40) == [float(plane), float((plane + 1) % 40)]
        return step + 1

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader, range(8))) == [50] * 8
    assert len(online(store)._connections._pool._pool) <= 4


def test_a_forked_process_opens_its_own_connections(store: FeatureStore) -> None:
    """Given a pool in use (and its lock held) in the parent, a child reads over its own, and the parent goes on."""
    from airworthy.features import online_pool

    def backend() -> int:
        with online(store)._get_conn(store.config, autocommit=True) as connection:
            return connection.info.backend_pid

    write(store, row(1, 1.0, at(1)))
    online(store)._connections._pool.wait()
    ours = {connection.info.backend_pid for connection in online(store)._connections._pool._pool}
    with online_pool._pool_lock:
        child = os.fork()
        if child == 0:
            result = 1
            try:
                result = 0 if backend() not in ours and read(store, 1) == [1.0] else 2
            finally:
                os._exit(result)
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)

    assert ended == (child, 0)
    assert read(store, 1) == [1.0]


def test_a_server_that_is_away_is_reported_in_time(store: FeatureStore, tmp_path: Path) -> None:
    config = repo_config(tmp_path, pool_timeout_seconds=0.5)
    alone = GuardedPostgresOnlineStore()
    started = time.monotonic()

    with pytest.raises(ServiceUnavailableError, match="gave no connection"):
        alone.online_read(config, store.get_feature_view("planes"), [row(1, 1.0, T0)[0]], ["speed"])

    assert time.monotonic() - started < 20  # pools wait 30 s unless told otherwise
    alone.close_pool()


def test_it_works_over_tcp_with_a_password(store: FeatureStore, database: Path, tcp_port: int) -> None:
    write(store, row(1, 1.0, at(1)))
    config = repo_config(database, host="127.0.0.1", port=tcp_port, user="reader", password="a b'c", db_schema="public")
    alone = GuardedPostgresOnlineStore()

    found = alone.online_read(config, store.get_feature_view("planes"), [row(1, 1.0, T0)[0]], ["speed"])

    assert found[0][1]["speed"].double_val == 1.0
    alone.close_pool()
    config.online_store.password, config.online_store.pool_timeout_seconds = "wrong", 0.5
    with pytest.raises(ServiceUnavailableError):
        alone.online_read(config, store.get_feature_view("planes"), [row(1, 1.0, T0)[0]], ["speed"])
    alone.close_pool()


@pytest.fixture
def tcp_port(database: Path) -> Iterator[int]:
    """A TCP port of the same server, for a user with a password: a relay, since the server has only a socket."""
    with connect(database) as admin:
        admin.execute("DROP ROLE IF EXISTS reader")
        admin.execute("CREATE ROLE reader LOGIN PASSWORD 'a b''c' IN ROLE pg_read_all_data")
        rules = Path(admin.execute("SHOW hba_file").fetchone()[0])
        before = rules.read_text()
        rules.write_text("local all reader scram-sha-256\n" + before)
        admin.execute("SELECT pg_reload_conf()")

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(str(database / ".s.PGSQL.5432"))
                back = threading.Thread(target=pump, args=(server, self.request), daemon=True)
                back.start()
                pump(self.request, server)
                back.join(5)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        relay.daemon_threads = True
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        yield relay.server_address[1]
        relay.shutdown()
    with connect(database) as admin:
        rules.write_text(before)
        admin.execute("SELECT pg_reload_conf()")
        admin.execute("DROP ROLE reader")


# --- through Feast


def test_what_is_known_goes_online_through_feast(store: FeatureStore) -> None:
    """Given late rows, publishing what was known at a time, and later what became known, equals the offline view."""
    source = store.get_data_source("planes")
    rows = [(1, at(1), at(2), 1.0), (1, at(3), at(30), 3.0), (1, at(2), at(20), 2.0), (2, at(50), at(50), 5.0)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    table = pa.table([*columns, ["m"] * 4], names=SCHEMA.names).cast(SCHEMA)
    write_deltalake(source.path, table, mode="append")
    view = store.get_feature_view("planes")

    since = None
    for now, known in ((10, [1.0, None]), (25, [2.0, None]), (60, [3.0, 5.0])):
        store.write_to_online_store("planes", df=latest_known(store.config, view, at(now), since).to_df())
        offline = store.get_historical_features(
            pd.DataFrame({"plane": [1, 2], "event_timestamp": at(now)}), ["planes:speed"]
        ).to_df()["speed"]
        assert read(store, 1, 2) == known == [None if pd.isna(v) else v for v in offline]
        since = at(now)
    store.write_to_online_store("planes", df=latest_known(store.config, view, at(10)).to_df())
    assert read(store, 1, 2) == [3.0, 5.0]


def test_feast_materialises_with_both_stores(store: FeatureStore) -> None:
    source = store.get_data_source("planes")
    table = pa.table([[1, 1], [at(1), at(3)], [at(2), at(4)], [1.0, 3.0], ["m", "m"]], names=SCHEMA.names).cast(SCHEMA)
    write_deltalake(source.path, table, mode="append")

    store.materialize(at(0), at(5), feature_views=["planes"])
    assert read(store, 1) == [3.0]
    store.materialize(at(0), at(2), feature_views=["planes"])  # an old interval after a newer one
    assert read(store, 1) == [3.0]


def test_the_source_survives_the_registry(store: FeatureStore, tmp_path: Path) -> None:
    DeltaTable.create(str(tmp_path / "other"), SCHEMA)
    full = DeltaSource(
        "other", tmp_path / "other", "event_timestamp", "available_at", 0, {"speed": "v"}, "d", {"a": "b"}, "me"
    )
    plain = DeltaSource("plain", tmp_path / "other", "event_timestamp")
    store.apply([full, plain])
    again = FeatureStore(config=store.config)

    assert again.get_data_source("other") == full
    assert again.get_data_source("plain") == plain
    assert (again.get_data_source("other").version, again.get_data_source("plain").version) == (0, None)


# --- configuration


def test_the_configuration_refuses_what_the_guard_does_not_cover() -> None:
    base = {"host": "h", "database": "d", "user": "u"}
    assert GuardedPostgresOnlineStoreConfig(**base, conn_type="pool").max_conn == 4
    for wrong in ({"conn_type": "singleton"}, {"vector_enabled": True}, {"max_con": 3}, {"pool_timeout_seconds": 0}):
        with pytest.raises(ValidationError):
            GuardedPostgresOnlineStoreConfig(**base, **wrong)


def test_asynchronous_calls_are_refused(store: FeatureStore) -> None:
    provider = store._get_provider()

    assert not provider.async_supported.online.read
    with pytest.raises(ConfigurationError, match="in a thread"):
        online(store)._get_conn_async(store.config)
