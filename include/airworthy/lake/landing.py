"""The landing zone: where upstream systems put files, one folder for each source and day.

``{landing_url}/{use_case}/{source}/{YYYY-MM-DD}/`` holds data files and one ``manifest.json``, which is written last
and names the file that counts. A corrected delivery is a new data file and a replaced manifest. Any fsspec URL
works; nothing that a manifest says is trusted before it is checked.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import AwareDatetime, Field, ValidationError, field_validator

from airworthy.config import UseCase, get_settings
from airworthy.intervals import Interval
from airworthy.lake.disk import writing
from airworthy.records import Record

MANIFEST = "manifest.json"
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")

# What manifests said when they were last read, by path: (signature, line of the digest). A watcher asks every few
# seconds and reads only what was replaced since.
_seen: dict[str, tuple[object, str]] = {}


class Manifest(Record):
    """What an upstream system says about one delivery.

    Attributes:
        source: The source.
        interval: Key of the interval.
        file: Name of the data file in the same folder: a plain name, never a path.
        sha256: Digest of the data file's bytes, 64 hexadecimal digits.
        rows: Rows in the data file.
        published_at: When upstream published it; must carry a time zone.
        content: Digest of the rows, whatever their order and the file's bytes; only of a delivery that was extracted.
    """

    source: str
    interval: str
    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rows: int = Field(ge=0)
    published_at: AwareDatetime
    content: str | None = None

    @field_validator("file")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not SAFE_NAME.fullmatch(name) or ".." in name or name == MANIFEST:
            raise ValueError(
                "must be the plain name of a file in the manifest's own folder (letters, digits, '.', '_', '-')"
            )
        return name


class Landed(Record):
    """A complete delivery: every required source has a manifest.

    Attributes:
        interval: The interval.
        digest: Digest over what the manifests say; it changes with every corrected delivery.
        manifests: The manifests that can be read, by source.
        broken: Why a manifest cannot be used, by source.
    """

    interval: Interval
    digest: str
    manifests: dict[str, Manifest]
    broken: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it. Object stores are configured by the AWS_* variables."""
    # Listings must be true now: other processes write here.
    fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return fs, str(path)


def write_file(folder: str, name: str, content: bytes) -> str:
    """Write a file so that readers see all of it or nothing; returns its URL.

    A local file is written under another name and renamed; an object store gets one put, which is atomic there.

    Raises:
        DiskFullError: there is no space for it; nothing is left of it.
    """
    fs, path = filesystem(folder)
    if isinstance(fs, LocalFileSystem):
        local = Path(path)
        temporary = local / f".{name}.{uuid.uuid4().hex}.tmp"
        with writing(f"{folder}/{name}", len(content)):
            local.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(content)
                temporary.replace(local / name)
            finally:
                temporary.unlink(missing_ok=True)
    else:
        fs.pipe_file(f"{path}/{name}", content)
    return f"{folder}/{name}"


def read_bytes(url: str) -> bytes | None:
    """A file's bytes, or None when there is none."""
    fs, path = filesystem(url)
    try:
        return bytes(fs.cat_file(path))
    except FileNotFoundError:
        return None


def folder(use_case: UseCase, source: str, interval: Interval) -> str:
    """URL of the folder into which a source's files of an interval are landed."""
    return f"{get_settings().landing_url}/{use_case.name}/{source}/{interval.key}"


def land(
    use_case: UseCase, source: str, interval: Interval, content: bytes, rows: int, published_at: AwareDatetime
) -> Manifest:
    """Deliver a file as an upstream system should: the data file first, the manifest last, each atomically.

    Args:
        use_case: The use case.
        source: The source that is delivered.
        interval: The interval.
        content: The data file.
        rows: Rows in it.
        published_at: When upstream published it (with a time zone).

    Returns:
        The manifest, now the one that counts for this source and interval.
    """
    manifest = manifest_of(use_case, source, interval, content, rows, published_at)
    deliver(use_case, manifest, content)
    return manifest


def manifest_of(
    use_case: UseCase,
    source: str,
    interval: Interval,
    content: bytes,
    rows: int,
    published_at: AwareDatetime,
    *,
    rows_digest: str | None = None,
) -> Manifest:
    """The manifest of a data file that is still to be delivered; see ``land``."""
    sha256 = hashlib.sha256(content).hexdigest()
    return Manifest(
        source=source, interval=interval.key, sha256=sha256, rows=rows, published_at=published_at, content=rows_digest,
        file=f"{source}-{interval.key}.{sha256[:12]}.{use_case.sources[source].format}",
    )  # fmt: skip


def deliver(use_case: UseCase, manifest: Manifest, content: bytes) -> None:
    """Write a data file, then its manifest."""
    where = folder(use_case, manifest.source, Interval.of(manifest.interval))
    write_file(where, manifest.file, content)
    write_file(where, MANIFEST, manifest.model_dump_json(indent=1, exclude_none=True).encode())


def data_file(use_case: UseCase, manifest: Manifest) -> str:
    """URL of the data file that a manifest names."""
    return f"{folder(use_case, manifest.source, Interval.of(manifest.interval))}/{manifest.file}"


def leads_out(url: str) -> bool:
    """Whether a file of the landing zone is really somewhere else: behind a link, of its own or of a folder."""
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        return False
    zone = Path(filesystem(get_settings().landing_url)[1]).resolve()
    return zone not in Path(path).resolve().parents


def missing(use_case: UseCase, interval: Interval) -> list[str]:
    """The manifests that a complete delivery still needs, as URLs."""
    urls = [
        f"{folder(use_case, name, interval)}/{MANIFEST}" for name, source in use_case.sources.items() if source.required
    ]
    return [url for url in urls if read_bytes(url) is None]


def landed_manifest(use_case: UseCase, source: str, interval: Interval) -> Manifest | None:
    """A source's manifest of an interval; None when there is none that can be used."""
    content = read_bytes(f"{folder(use_case, source, interval)}/{MANIFEST}")
    parsed = None if content is None else _parse(content, source, interval.key)
    return parsed if isinstance(parsed, Manifest) else None


def landed(use_case: UseCase, interval: Interval, *, instead: Mapping[str, Manifest] | None = None) -> Landed | None:
    """What is landed for an interval, or None unless every required source has a manifest.

    Args:
        use_case: The use case.
        interval: The interval.
        instead: Manifests that count as if they were landed, by source: to see what would come of them.
    """
    manifests: dict[str, Manifest] = {}
    broken: dict[str, str] = {}
    lines: dict[str, str] = {}
    for name, source in use_case.sources.items():
        if instead and name in instead:
            manifests[name] = instead[name]
            lines[name] = _line(name, instead[name], b"")
            continue
        content = read_bytes(f"{folder(use_case, name, interval)}/{MANIFEST}")
        if content is None:
            if source.required:
                return None
            continue
        parsed = _parse(content, name, interval.key)
        lines[name] = _line(name, parsed, content)
        if isinstance(parsed, Manifest):
            manifests[name] = parsed
        else:
            broken[name] = parsed
    return Landed(interval=interval, digest=_digest(lines), manifests=manifests, broken=broken)


def landed_since(use_case: UseCase, found: Landed, moment: datetime) -> bool:
    """Whether a file of a delivery was written after a moment of wall time (in UTC), even with the same content."""
    for name in [*found.manifests, *found.broken]:
        files = [MANIFEST, *([found.manifests[name].file] if name in found.manifests else [])]
        for file in files:
            fs, path = filesystem(f"{folder(use_case, name, found.interval)}/{file}")
            try:
                written = fs.modified(path)
            except FileNotFoundError:
                continue
            if written > moment:
                return True
    return False


def landed_digests(use_case: UseCase) -> dict[str, str]:
    """Digest of every complete interval between the use case's first and last, by key.

    One listing, and a read of the manifests that changed since this process last asked.
    """
    first, last = use_case.data.first_interval.key, use_case.data.last_interval.key
    lines: dict[str, dict[str, str]] = {}
    for name in use_case.sources:
        for key, path, signature in _manifests(f"{get_settings().landing_url}/{use_case.name}/{name}"):
            line = _line_of(path, signature, name, key) if first <= key <= last else None
            if line is not None:
                lines.setdefault(key, {})[name] = line
    required = {name for name, source in use_case.sources.items() if source.required}
    return {key: _digest(found) for key, found in sorted(lines.items()) if required <= found.keys()}


def _parse(content: bytes, source: str, key: str) -> Manifest | str:
    """The manifest, or why it cannot be used."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        value = str(first.get("input"))[:80]
        return f"{'.'.join(str(p) for p in first['loc']) or MANIFEST}: {first['msg']} (it says {value!r})"
    if (manifest.source, manifest.interval) != (source, key):
        return f"it speaks of {manifest.source} {manifest.interval}, not of {source} {key}"
    return manifest


def _line(source: str, parsed: Manifest | str, content: bytes) -> str:
    # A broken manifest counts with its bytes, so that a mended one is another delivery; a repeated one is not.
    if isinstance(parsed, Manifest):
        return f"{source} {parsed.file} {parsed.sha256} {parsed.rows}"
    return f"{source} broken {hashlib.sha256(content).hexdigest()}"


def _line_of(path: str, signature: object, source: str, key: str) -> str | None:
    known = _seen.get(path)
    if known is not None and known[0] == signature:
        return known[1]
    content = read_bytes(path)
    if content is None:
        return None
    line = _line(source, _parse(content, source, key), content)
    _seen[path] = (signature, line)
    return line


def _digest(lines: dict[str, str]) -> str:
    return hashlib.sha256("\n".join(lines[name] for name in sorted(lines)).encode()).hexdigest()


def _manifests(root: str) -> list[tuple[str, str, object]]:
    """Key, URL and signature of each manifest of a source; the signature changes when the manifest is replaced."""
    fs, path = filesystem(root)
    if isinstance(fs, LocalFileSystem):
        return _local_manifests(path)
    try:
        found = fs.find(path, detail=True)
    except FileNotFoundError:
        return []
    result = []
    for name, info in found.items():
        *_, key, file = str(name).split("/")
        if file == MANIFEST and DAY.fullmatch(key):
            signature = info.get("ETag") or (info.get("size"), str(info.get("LastModified") or info.get("created")))
            result.append((key, fs.unstrip_protocol(name), signature))
    return result


def _local_manifests(path: str) -> list[tuple[str, str, object]]:
    # Ten times faster than a generic listing, and a watcher does it every few seconds.
    result: list[tuple[str, str, object]] = []
    try:
        days = list(os.scandir(path))
    except FileNotFoundError:
        return []
    for day in days:
        if not DAY.fullmatch(day.name):
            continue
        manifest = f"{day.path}/{MANIFEST}"
        try:
            state = os.stat(manifest)  # noqa: PTH116 - one system call for each of thousands of files
        except (FileNotFoundError, NotADirectoryError):
            continue
        result.append((day.name, manifest, (state.st_ino, state.st_mtime_ns, state.st_size)))
    return result
