"""One landed file -> what may be published of it, or why nothing may. Reads and computes; publishes nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from airworthy.config import UseCase
from airworthy.errors import CheckFailure
from airworthy.ingest import cleaning
from airworthy.ingest.forgetting import without_forgotten
from airworthy.ingest.parse import Parsed, parse_file
from airworthy.ingest.schemas import AVAILABLE_AT, UTC_TIMESTAMP, clean_masks, clean_schema, raw_schema
from airworthy.intervals import Interval
from airworthy.lake import landing, quarantine
from airworthy.lake.landing import Landed, Manifest
from airworthy.records import ValidationReport
from airworthy.validation import failures_of, validate, validate_stage


@dataclass(frozen=True)
class Prepared:
    """One source's part of an interval.

    Attributes:
        source: The source.
        file: Name of the landed file (of the manifest, when that is broken).
        content: The file's bytes; None when they were not there.
        raw: Every row of the file, typed.
        clean: Rows to publish, with ``available_at`` = observation + lag.
        rejected: Rows for quarantine, with the reasons.
        report: What Great Expectations found; None when the rows did not get that far.
        clean_report: What was found in the clean rows; None when they have no suite, or there are none.
        failures: Why nothing of the interval may be published; empty when it may.
        forgotten: Rows that were left out, because their key is to be forgotten.
    """

    source: str
    file: str
    content: bytes | None
    raw: pa.Table
    clean: pa.Table
    rejected: pa.Table
    report: ValidationReport | None = None
    clean_report: ValidationReport | None = None
    failures: tuple[CheckFailure, ...] = ()
    forgotten: int = 0


def prepare(use_case: UseCase, landed: Landed, source: str, *, content: bytes | None = None) -> Prepared:
    """Check, type, validate and clean one source's landed file.

    Args:
        use_case: The use case.
        landed: The delivery.
        source: One of its sources.
        content: The data file, when it is not landed yet.

    Raises:
        ConfigurationError: the use case's own code or suite is at fault, not the file.
    """
    if source in landed.broken:
        manifest_bytes = landing.read_bytes(f"{landing.folder(use_case, source, landed.interval)}/{landing.MANIFEST}")
        why = CheckFailure(f"the manifest cannot be used: {landed.broken[source]}")
        return _refused(use_case, source, landing.MANIFEST, manifest_bytes, [why])
    manifest = landed.manifests[source]
    if landing.leads_out(landing.data_file(use_case, manifest)):
        why = CheckFailure("the file leads out of the landing zone by a link: it was not read")
        return _refused(use_case, source, manifest.file, None, [why])
    content = content or landing.read_bytes(landing.data_file(use_case, manifest))
    if content is None:  # refused before, and kept: its digest is checked like that of any file
        content = quarantine.read_file(use_case, landed.interval, landed.digest, source)
    damage = _damage(manifest, content)
    if damage or content is None:
        return _refused(use_case, source, manifest.file, content, damage)
    parsed = parse_file(use_case.sources[source], content)
    failures = list(parsed.failures)
    if not failures and parsed.rows.num_rows != manifest.rows:
        failures.append(CheckFailure(f"{parsed.rows.num_rows} rows in the file, {manifest.rows} in the manifest"))
    if failures:
        return _refused(use_case, source, manifest.file, content, failures)
    parsed, forgotten = without_forgotten(use_case, parsed)
    return replace(_validated(use_case, landed.interval, manifest, content, parsed), forgotten=forgotten)


def _damage(manifest: Manifest, content: bytes | None) -> list[CheckFailure]:
    if content is None:
        return [CheckFailure("the file that the manifest names is not there")]
    if not content:
        return [CheckFailure("the file is empty (0 bytes)")]
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != manifest.sha256:
        found = (
            f"the SHA-256 of its {len(content)} bytes is {sha256[:12]}..., the manifest says {manifest.sha256[:12]}..."
        )
        return [CheckFailure(f"the file is truncated or altered: {found}")]
    return []


def _validated(use_case: UseCase, interval: Interval, manifest: Manifest, content: bytes, parsed: Parsed) -> Prepared:
    source, spec = manifest.source, use_case.sources[manifest.source]
    typed = [number for number in range(parsed.rows.num_rows) if number not in parsed.rejected]
    rows = parsed.rows.take(pa.array(typed, pa.int64()))
    report, mask, reasons = validate(use_case, source, rows, interval, already_rejected=len(parsed.rejected))
    rejected = dict(parsed.rejected) | {typed[n]: reason for n, reason in enumerate(reasons) if reason is not None}
    numbers = sorted(rejected)
    quarantined = quarantine.keep_rows(
        parsed.rows.take(pa.array(numbers, pa.int64())), [rejected[n] for n in numbers], file=manifest.file,
        texts=[parsed.texts.get(n, {}) for n in numbers],
    )  # fmt: skip
    failures = failures_of(report, spec.max_rejected_share)
    clean, clean_report = _empty_clean(use_case, source), None
    if not failures:
        clean, failures = _cleaned(use_case, source, rows.filter(pc.invert(mask)), interval)
    if not failures:
        masks = clean_masks(use_case, source)
        clean_report = validate_stage(use_case, "clean", source, clean, interval, masks=masks)
        failures = failures_of(clean_report, 1.0) if clean_report else []
    return Prepared(
        source, manifest.file, content, parsed.rows, clean, quarantined, report, clean_report, tuple(failures)
    )


def _cleaned(use_case: UseCase, source: str, rows: pa.Table, interval: Interval) -> tuple[pa.Table, list[CheckFailure]]:
    clean = cleaning.run_clean(use_case, source, rows)
    failures = cleaning.key_failures(use_case, source, clean)
    available = cleaning.availability(use_case, source, clean, interval)
    if available.null_count:
        failures.append(
            CheckFailure("time of observation is empty", use_case.sources[source].observed, available.null_count)
        )
    return clean.append_column(pa.field(AVAILABLE_AT, UTC_TIMESTAMP), available), failures


def _refused(
    use_case: UseCase, source: str, file: str, content: bytes | None, failures: list[CheckFailure]
) -> Prepared:
    raw = raw_schema(use_case.sources[source]).empty_table()
    nothing = quarantine.SCHEMA.empty_table()
    return Prepared(source, file, content, raw, _empty_clean(use_case, source), nothing, failures=tuple(failures))


def _empty_clean(use_case: UseCase, source: str) -> pa.Table:
    return clean_schema(use_case, source).append(pa.field(AVAILABLE_AT, UTC_TIMESTAMP)).empty_table()
