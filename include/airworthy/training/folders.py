"""Content-addressed folders: a folder is named by the digest of its manifest, which names the digest of every file.

Data first, manifest last: a folder without a manifest is not there. Any fsspec URL will do.
"""

from __future__ import annotations

import hashlib
import json
import stat
import uuid
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from airworthy.errors import ReleaseError
from airworthy.lake.disk import writing

MANIFEST = "manifest.json"


def sha256(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def manifest_bytes(files: dict[str, bytes], facts: dict[str, Any]) -> bytes:
    """The canonical manifest: sorted names with the digests of the files, and facts about the whole."""
    return canonical_manifest({name: sha256(content) for name, content in files.items()}, facts)


def canonical_manifest(digests: dict[str, str], facts: dict[str, Any]) -> bytes:
    """The same, from the files' digests."""
    return json.dumps(
        {**facts, "files": digests}, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def write_folder(root_url: str, files: dict[str, bytes], facts: dict[str, Any] | None = None) -> tuple[str, str]:
    """Write a folder, whole or not at all; writing the same again changes nothing (and mends what was damaged).

    Args:
        root_url: Where folders of this kind are.
        files: Name to content.
        facts: More keys of the manifest.

    Returns:
        The digest and the folder's URL.
    """
    manifest = manifest_bytes(files, facts or {})
    digest = sha256(manifest)
    folder = folder_url(root_url, digest)
    if not _complete(folder, digest):
        for name, content in {**files, MANIFEST: manifest}.items():
            put(f"{folder}/{name}", content)
    return digest, folder


def folder_url(root_url: str, digest: str) -> str:
    """Where the folder of a digest is."""
    return f"{root_url.rstrip('/')}/{digest}"


def read_folder(folder: str, digest: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read a folder, every byte checked before anyone parses it.

    Returns:
        The manifest, and name to content of the files that it names (others in the folder are never read).

    Raises:
        ReleaseError: the folder is not there or not whole, or a file is not what the digest says; it names both.
    """
    raw = _get(folder, MANIFEST, digest)
    _check(raw, digest, MANIFEST, folder, digest)
    manifest: dict[str, Any] = json.loads(raw)
    files = {}
    for name, expected in manifest["files"].items():
        files[name] = _get(folder, name, digest)
        _check(files[name], expected, name, folder, digest)
    return manifest, files


def put(url: str, content: bytes) -> None:
    """Write a file so that readers see all of it or nothing: an object store by one put, a folder by a rename."""
    filesystem, path = fsspec.core.url_to_fs(url)
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.pipe_file(path, content)
        return
    parent, _, name = path.rpartition("/")
    filesystem.makedirs(parent, exist_ok=True)
    with writing(url, len(content)):
        temporary = f"{parent}/.{name}.{uuid.uuid4().hex}"
        filesystem.pipe_file(temporary, content)
        filesystem.mv(temporary, path)


def _get(folder: str, name: str, digest: str) -> bytes:
    filesystem, path = fsspec.core.url_to_fs(f"{folder}/{name}")
    try:
        if isinstance(filesystem, LocalFileSystem):
            _plain_file(folder, name, digest)
        return bytes(filesystem.cat_file(path))
    except FileNotFoundError as error:
        raise ReleaseError(
            f"{name} of {digest[:12]} is missing in {folder}",
            next_step="restore the release store from its backup, or train again",
        ) from error


def _plain_file(folder: str, name: str, digest: str) -> None:
    """Refuse what is no file of this very folder, before it is opened: a link leads anywhere, a device never ends."""
    place, file = Path(folder.removeprefix("file://")), Path(name)
    mode = (place / file).lstat().st_mode
    if file.name != name or not stat.S_ISREG(mode) or place.is_symlink():
        kind = "a link" if place.is_symlink() or stat.S_ISLNK(mode) else "no plain file in it"
        raise ReleaseError(
            f"{name} of {digest[:12]} in {folder} is {kind}; it was not opened",
            next_step="restore the release store from its backup, or train again; find out who wrote there",
        )


def _check(content: bytes, expected: str, name: str, folder: str, digest: str) -> None:
    found = sha256(content)
    if found != expected:
        raise ReleaseError(
            f"{name} of {digest[:12]} in {folder} was altered: its SHA-256 is {found[:12]}, not {expected[:12]}; "
            "nothing of it was used",
            next_step="restore the release store from its backup, or train again; find out who wrote there",
        )


def _complete(folder: str, digest: str) -> bool:
    try:
        read_folder(folder, digest)
    except ReleaseError:
        return False
    return True
