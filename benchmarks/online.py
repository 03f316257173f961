"""Reading one request's features online, against a direct SQL read of the same values.

Three days of flights are landed, ingested and published online on a PostgreSQL of its own in a temporary folder. Then one
request is read again and again as the prediction service does it: five feature views from the guarded online store, on a
connection that was tried. The reference is what one would write by hand: one connection, one query for each of the five tables
by the same key, the same protobuf values decoded, and nothing checked. Beside it the whole lookup, with the request's own
features (computed in DuckDB) and the ages checked. All in one process, in turn; medians; the values must be equal.
Peak memory is that of the process while it reads one request again and again (1x), and ten requests at once (10x).

    make bench BENCH=online
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _year import prepare

AIM = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=2_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ao", dir="/tmp") as name:
        prepare(Path(name))
        print(json.dumps(measure(arguments.reads)))


def measure(reads: int) -> dict[str, Any]:
    from airworthy import features
    from airworthy.config import get_use_case
    from airworthy.features import OnlineFeatures, catch_up
    from airworthy.features.catalog import catalog
    from airworthy.features.feast_repo import registered_view
    from airworthy.features.online_store import entity_bytes
    from airworthy.ingest import ingest_interval
    from airworthy.intervals import Interval, days
    from airworthy.ledger.clock import advance
    from use_cases.flight_delays.replay import World

    case, last = get_use_case("flight_delays"), Interval.of("2013-01-03")
    world = World(case)
    advance(case, world.landing_time(last.key))
    world.land_history(last.key)
    for interval in days(case.data.first_interval, last):
        ingest_interval(case, interval, run="benchmarks/online")
    catch_up(case, run="benchmarks/online")
    online, request = OnlineFeatures(case), case.prediction.example
    direct, by_hand = Direct(case, request), list[float]()

    def ours() -> dict[str, Any]:
        (vector,) = online.lookup([request], last.end)
        if vector.missing or vector.stale:
            raise SystemExit(f"the request has no value of {vector.missing + vector.stale}")
        return vector.values

    values = ours()
    if direct.read() != {name: values[name] for name in direct.names}:
        raise SystemExit("the online read and the direct read give other values")
    store, views = features.store(case), catalog(case).views
    asked = [
        (
            registered_view(case, v.name),
            [entity_bytes(tuple(v.keys), tuple(v.keys.values()), tuple(request[key] for key in v.keys), 3)],
        )
        for v in views
    ]

    def read() -> Any:
        return store.provider.online_store.read_views(store.config, asked)

    through, whole = list[float](), list[float]()
    for _ in range(reads):
        through.append(timed(read))
        by_hand.append(timed(direct.read))
        whole.append(timed(ours))
    warm = slice(reads // 10, None)
    value, reference = (1000 * statistics.median(times[warm]) for times in (through, by_hand))
    p99 = 1000 * statistics.quantiles(through[warm], n=100)[98]
    memory = {
        "1x": peak(lambda: [ours() for _ in range(100)]),
        "10x": peak(lambda: online.lookup([request] * 10, last.end)),
    }
    return {
        "name": "online", "metric": "milliseconds for one request, median", "value": round(value, 3),
        "reference": round(reference, 3), "reference_is": "one SQL query for each feature view, values decoded",
        "ratio": round(value / reference, 2), "aim": AIM, "met": value / reference <= AIM, "p99_ms": round(p99, 3),
        "views": len(direct.queries), "features": len(values), "reads": reads,
        "whole_lookup_ms": round(1000 * statistics.median(whole[warm]), 3), "values_equal": True,
        "peak_memory_mb": memory,
    }  # fmt: skip


def peak(work: Callable[[], Any]) -> int:
    """Peak memory in MB of this process while it works; what it needed to get here is not counted as its peak."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew at what is held now
    work()
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return round(int(line.split()[1]) / 1024)


class Direct:
    """The five queries and nothing else."""

    def __init__(self, case: Any, request: dict[str, Any]) -> None:
        import psycopg
        from feast.infra.key_encoding_utils import serialize_entity_key
        from feast.infra.online_stores.helpers import compute_table_id
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        from airworthy.config import get_settings
        from airworthy.features.catalog import catalog
        from airworthy.features.feast_repo import PROJECT, registered_view

        settings = get_settings()
        self.value = Value
        self.names = [name for view in catalog(case).views for name in view.features]
        self.connection = psycopg.connect(
            host=settings.online_host, dbname=settings.online_database, user=settings.online_user, autocommit=True
        )
        self.queries = []
        for view in catalog(case).views:
            key = EntityKey(
                join_keys=list(view.keys), entity_values=[Value(string_val=request[name]) for name in view.keys]
            )
            table = compute_table_id(PROJECT, registered_view(case, view.name), False)
            query = f'SELECT feature_name, value, event_ts FROM "{table}" WHERE entity_key = %s'
            self.queries.append((query, (serialize_entity_key(key, 3),)))

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for query, key in self.queries:
            for name, value, _ in self.connection.execute(query, key).fetchall():
                proto = self.value.FromString(value)
                field = proto.WhichOneof("val")
                found[name] = getattr(proto, field) if field else None
        return found


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
