"""F2 to F6, F18 and F24: what upstream may do wrong, and that the good delivery afterwards is published whole.

Each fault of one kind is tested for its words in tests/integration/ingest; here they come in a seeded order, one day
each, and the invariant is checked over the whole history.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from feast.protos.feast.types.Value_pb2 import Value
from tiny_orders import world as shop

from airworthy.config import UseCase
from airworthy.errors import AirworthyError, NotLandedError
from airworthy.features import catch_up
from airworthy.ingest import ingest_interval
from airworthy.intervals import Interval, days
from airworthy.lake import landing, tables
from airworthy.ledger import commits
from airworthy.ledger.clock import advance
from airworthy.records import CatchUpOutcome

from .campaign import FULL_CAMPAIGN, SEED, deliver
from .invariant import violations
from .world import World, table_names

Fault = Callable[[UseCase, str, Path], None]


def _bytes(case: UseCase, key: str, content: bytes, count: int = shop.ORDERS_A_DAY) -> landing.Manifest:
    interval = Interval.of(key)
    return landing.land(case, "orders", interval, content, count, interval.end)


def _path(case: UseCase, manifest: landing.Manifest) -> Path:
    return Path(landing.data_file(case, manifest))


def _manifest(case: UseCase, key: str, **changes: object) -> None:
    path = Path(landing.folder(case, "orders", Interval.of(key))) / landing.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _good(key: str) -> bytes:
    return shop.to_csv(shop.orders_of(key))


def twice(case: UseCase, key: str, _: Path) -> None:
    _bytes(case, key, _good(key))
    assert ingest_interval(case, Interval.of(key), run="twice").status == "published"
    _bytes(case, key, _good(key))


def truncated(case: UseCase, key: str, _: Path) -> None:
    path = _path(case, _bytes(case, key, _good(key)))
    path.write_bytes(path.read_bytes()[:-77])


def zipped(case: UseCase, key: str, _: Path) -> None:
    _bytes(case, key, gzip.compress(_good(key))[:-9])


def latin(case: UseCase, key: str, _: Path) -> None:
    _bytes(case, key, _good(key).replace(b"phone", "t\u00e9l".encode("latin-1")))


def nothing(case: UseCase, key: str, _: Path) -> None:
    _bytes(case, key, b"", 0)


def unfinished(case: UseCase, key: str, _: Path) -> None:
    path = _path(case, _bytes(case, key, _good(key)))
    (path.parent / landing.MANIFEST).unlink()


def partial(case: UseCase, key: str, _: Path) -> None:
    _bytes(case, key, b"\n".join(_good(key).split(b"\n")[:70]) + b"\n")


def new_column(case: UseCase, key: str, _: Path) -> None:
    _bytes(case, key, b"\n".join(line + b",x" for line in _good(key).splitlines()) + b"\n")


def missing_column(case: UseCase, key: str, _: Path) -> None:
    _bytes(case, key, b"\n".join(line.rpartition(b",")[0] for line in _good(key).splitlines()) + b"\n")


def other_type(case: UseCase, key: str, _: Path) -> None:
    _bytes(case, key, shop.to_csv([{**row, "items": "two"} for row in shop.orders_of(key)]))


def other_unit(case: UseCase, key: str, _: Path) -> None:
    _bytes(case, key, shop.to_csv([{**row, "amount": row["amount"] * 10_000} for row in shop.orders_of(key)]))


def strange_numbers(case: UseCase, key: str, _: Path) -> None:
    strange = ["NaN", "inf", "-inf", "1e308", "-0.0", "", "1e400"]
    rows = shop.orders_of(key)
    _bytes(case, key, shop.to_csv([{**row, "amount": strange[n % 7]} for n, row in enumerate(rows)]))


def out_of_the_folder(case: UseCase, key: str, outside: Path) -> None:
    _bytes(case, key, _good(key))
    _manifest(case, key, file=os.path.relpath(outside, landing.folder(case, "orders", Interval.of(key))))


def absolute(case: UseCase, key: str, outside: Path) -> None:
    _bytes(case, key, _good(key))
    _manifest(case, key, file=str(outside))


def network(case: UseCase, key: str, _: Path) -> None:
    _bytes(case, key, _good(key))
    _manifest(case, key, file="\\\\server\\share\\orders.csv")


def link(case: UseCase, key: str, outside: Path) -> None:
    """The manifest is right about every byte of a file that is not in the landing zone."""
    path = _path(case, _bytes(case, key, outside.read_bytes()))
    path.unlink()
    path.symlink_to(outside)


def linked_folder(case: UseCase, key: str, outside: Path) -> None:
    place = Path(landing.folder(case, "orders", Interval.of(key)))
    place.parent.mkdir(parents=True, exist_ok=True)
    elsewhere = outside.parent / f"elsewhere-{key}"
    _bytes(case, key, outside.read_bytes())
    place.rename(elsewhere)
    place.symlink_to(elsewhere)


def hostile_values(case: UseCase, key: str, _: Path) -> None:
    rows = shop.orders_of(key)
    for number in range(20):
        rows[number]["customer"] = ("<script>alert(1)</script>", "=cmd|' /C calc'!A0", "'; DROP TABLE claim;--")[
            number % 3
        ]
    _bytes(case, key, shop.to_csv(rows))


FAULTS: dict[str, tuple[Fault, str]] = {
    "F2 delivered twice": (twice, ""),
    "F3 truncated": (truncated, "truncated or altered"),
    "F3 broken gzip": (zipped, "not UTF-8"),
    "F3 wrong encoding": (latin, "not UTF-8"),
    "F3 no bytes": (nothing, "empty (0 bytes)"),
    "F3 still being written": (unfinished, "has not landed"),
    "F5 a part of it": (partial, "rows in the file"),
    "F6 new column": (new_column, "column"),
    "F6 missing column": (missing_column, "missing column"),
    "F6 other type": (other_type, "not of type"),
    "F6 other unit": (other_unit, "rows rejected"),
    "F18 strange numbers": (strange_numbers, "amount"),
    "F24 path out of the folder": (out_of_the_folder, "plain name"),
    "F24 absolute path": (absolute, "plain name"),
    "F24 network path": (network, "plain name"),
    "F24 link to a file": (link, "leads out of the landing zone"),
    "F24 link to a folder": (linked_folder, "leads out of the landing zone"),
    "F24 hostile values": (hostile_values, "customer"),
}


def test_whatever_upstream_does_the_good_delivery_is_published_whole(
    world: World, findings: list[dict[str, Any]], tmp_path: Path
) -> None:
    # Given a file that nobody may read through the landing zone, and faults in a seeded order,
    order = random.Random(SEED).sample(sorted(FAULTS), len(FAULTS) if FULL_CAMPAIGN else 4)
    order += [name for name in ("F24 link to a file",) if name not in order]
    keys = [day.key for day in days(Interval.of("2024-02-01"), Interval.of("2024-02-28"))]
    problems = []
    for name, key in zip(order, keys, strict=False):
        fault, words = FAULTS[name]
        outside = tmp_path / f"{key}.csv"
        outside.write_bytes(_good(key))
        with world.here() as case:
            # when one comes, it is refused with its words (or it is no fault at all),
            fault(case, key, outside)
            said = _attempt(world, case, key)
            broken = [] if words in said else [f"it said {said[:300]!r}"]
            # and afterwards the good delivery comes.
            place = Path(landing.folder(case, "orders", Interval.of(key)))
            if place.is_symlink():
                place.unlink()
            for left in place.glob("*") if place.exists() else ():
                left.unlink()
            deliver(case, key, shop.orders_of(key))
            said = _attempt(world, case, key)
            broken += [] if said in ("published", "already") else [f"the good delivery: {said}"]
        # Then nothing is lost or doubled, and every error was a good one.
        broken += violations(world)
        findings.append({"fault": name, "violations": broken})
        problems += [f"{name}: {found}" for found in broken]
    assert problems == []


ON_TIME = ("2024-02-05", "2024-02-06", "2024-02-07", "2024-02-08")
LATE, AFTER = ON_TIME[0], timedelta(hours=6)  # when a day's rows are known


@pytest.mark.parametrize(("late", "closed"), [(timedelta(hours=1), 1), (timedelta(days=3), 4)])
def test_a_late_file_leaves_what_it_would_have_left_on_time(
    world: World, findings: list[dict[str, Any]], late: timedelta, closed: int
) -> None:
    # Given what four days leave when each file comes as soon as its rows are known,
    for key in ON_TIME:
        _live(world, key, lands=(key,))
    expected = _seen(world)
    world.reset()
    # when the first one's file is missing then, and later days are published and built without it,
    for key in ON_TIME[:closed]:
        _live(world, key, lands=(key,) if key != LATE else ())
    with world.here() as case:
        advance(case, Interval.of(LATE).end + AFTER + late)
    # and it comes late,
    rebuilt = _live(world, ON_TIME[closed - 1], lands=(LATE,), again=LATE)
    # then the days that look back on it, and no others, are built once more,
    view = "tiny_orders_customer"
    assert (rebuilt.built, rebuilt.recomputed) == ({view: closed}, {view: closed - 1})
    for key in ON_TIME[closed:]:
        _live(world, key, lands=(key,))
    # and in the end tables and online values are those of the world where it was on time.
    broken, seen = violations(world), _seen(world)
    broken += [
        f"{name} differs" for name in seen.keys() | expected.keys() if not _same(seen.get(name), expected.get(name))
    ]
    findings.append({"fault": f"F4 late by {late}", "rebuilt": rebuilt.recomputed, "violations": broken})
    assert broken == []


def _seen(world: World) -> dict[str, Any]:
    """What is decided, every row of every table, every online value."""
    with world.here() as case:
        decided = commits.decided_intervals(case.name)
        found: dict[str, Any] = {key: (row.status, row.landed_digest) for key, row in decided.items()}
        for table in table_names(case):
            rows = tables.read(table)
            found[table] = rows.sort_by([(name, "ascending") for name in rows.schema.names]).to_pylist()
    found["online"] = [(*row[:3], *_value(row[3]), *row[4:]) for row in world.online()]
    return found


def _value(stored: bytes) -> tuple[str | None, Any]:
    value = Value.FromString(stored)
    kind = value.WhichOneof("val")
    return kind, getattr(value, kind) if kind else None


def _same(one: Any, other: Any) -> bool:
    """Equal; numbers but for the last bits: a sum over days depends on how many days are built at once."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _live(world: World, key: str, *, lands: tuple[str, ...], again: str = "") -> CatchUpOutcome:
    """A day is over and its rows are known: files land, the day's run takes its own (or another's), features catch up."""
    with world.here() as case:
        advance(case, Interval.of(key).end + AFTER)
        for landed in lands:
            shop.land_day(case, landed)
        said = _attempt(world, case, again or key)
        assert said == "published" if lands else "has not landed" in said
        return catch_up(case, run="campaign")


def _attempt(world: World, case: UseCase, key: str) -> str:
    """Ingest the interval; what came of it, noted in the history."""
    try:
        outcome = ingest_interval(case, Interval.of(key), run="campaign")
    except AirworthyError as error:
        world.note(
            {"step": ["ingest", key], "error": type(error).__name__, "what": error.what, "next": error.next_step}
        )
        if not isinstance(error, NotLandedError):
            with pytest.raises(type(error)):
                ingest_interval(case, Interval.of(key), run="campaign again")
        return str(error)
    world.note({"step": ["ingest", key], "status": outcome.status})
    return outcome.status
