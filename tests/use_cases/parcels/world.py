"""The outside world of the parcels: files as an upstream system would write them."""

from __future__ import annotations

import io
import json
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from airworthy.config import UseCase
from airworthy.intervals import Interval
from airworthy.lake import landing
from airworthy.lake.landing import Manifest

COLUMNS = ("parcel", "zone", "weight", "pieces", "promised", "delivered", "late")


def parcels(key: str, count: int = 40) -> list[dict[str, str]]:
    """A day's parcels as texts, on the depot's own clock."""
    return [
        {
            "parcel": f"p{key.replace('-', '')}{n:03d}", "zone": ("north", "south")[n % 2],
            "weight": "" if n == 7 else f"{1 + n * 0.5}", "pieces": str(1 + n % 3),
            "promised": f"{key} {8 + n % 12:02d}:15:00", "delivered": f"{key} {9 + n % 12:02d}:00:00",
            "late": ("true", "false", "")[n % 3],
        }
        for n in range(count)
    ]  # fmt: skip


def to_csv(rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> bytes:
    """Rows as the depot's CSV file."""
    return "\n".join([",".join(columns), *(",".join(row[c] for c in columns) for row in rows)]).encode() + b"\n"


def depots(key: str) -> list[dict[str, object]]:
    """A day's states of two depots, every six hours."""
    return [
        {"depot": d, "at": f"{key}T{h:02d}:00:00Z", "queue": h + len(d), "note": None}
        for d in ("east", "west")
        for h in (0, 6, 12, 18)
    ]


def to_jsonl(rows: list[dict[str, object]]) -> bytes:
    """Rows as one JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def vans() -> bytes:
    """The register of vans as Parquet."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({"van": ["v1", "v2", "v3"], "built": pa.array([2001, None, 2012], pa.int32())}), buffer)
    return buffer.getvalue()


def published(interval: Interval) -> datetime:
    """When upstream publishes a day's files."""
    return interval.end


def land_parcels(
    use_case: UseCase,
    key: str,
    rows: list[dict[str, str]] | None = None,
    *,
    content: bytes | None = None,
    count: int | None = None,
) -> Manifest:
    """Land a day's parcels, good ones unless rows or bytes are given."""
    interval = Interval.of(key)
    given = parcels(key) if rows is None else rows
    return landing.land(
        use_case,
        "parcels",
        interval,
        to_csv(given) if content is None else content,
        len(given) if count is None else count,
        published(interval),
    )


def land_depots(use_case: UseCase, key: str, rows: list[dict[str, object]] | None = None) -> Manifest:
    """Land a day's depot states."""
    interval, given = Interval.of(key), depots(key) if rows is None else rows
    return landing.land(use_case, "depots", interval, to_jsonl(given), len(given), published(interval))


def land_vans(use_case: UseCase, key: str) -> Manifest:
    """Land the register of vans."""
    interval = Interval.of(key)
    return landing.land(use_case, "vans", interval, vans(), 3, published(interval))


def land_day(use_case: UseCase, key: str) -> None:
    """Land all that a day needs."""
    land_parcels(use_case, key)
    land_depots(use_case, key)
