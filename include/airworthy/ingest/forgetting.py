"""At the door: rows that bear a forgotten key are left out, whether they are landed, corrected or pushed again."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.ingest.parse import Parsed
from airworthy.ledger.forgotten import forgotten, key_digest


def forgotten_rows(use_case: UseCase, rows: pa.Table) -> pa.Array:
    """Which rows bear a forgotten key, as booleans."""
    mask = pa.array([False] * rows.num_rows, pa.bool_())
    for column, digests in forgotten(use_case.name).items():
        if column in rows.schema.names:
            values = [v for v in rows[column].unique().to_pylist() if v is not None]
            bad = [v for v in values if key_digest(use_case.name, column, v) in digests]
            mask = pc.or_(mask, pc.is_in(rows[column].combine_chunks(), pa.array(bad, rows[column].type)))
    return mask


def without_forgotten(use_case: UseCase, parsed: Parsed) -> tuple[Parsed, int]:
    """A file's rows but for those with a forgotten key, and how many those are."""
    mask = forgotten_rows(use_case, parsed.rows)
    count = pc.sum(mask).as_py() or 0
    if not count:
        return parsed, 0
    kept = pc.indices_nonzero(pc.invert(mask)).to_pylist()
    number = {before: after for after, before in enumerate(kept)}
    return replace(
        parsed,
        rows=parsed.rows.take(pa.array(kept, pa.int64())),
        rejected={number[n]: reason for n, reason in parsed.rejected.items() if n in number},
        texts={number[n]: texts for n, texts in parsed.texts.items() if n in number},
    ), int(count)
