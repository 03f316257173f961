"""Poisoned and altered releases are refused before a byte of them is parsed, and nothing of them ever runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from airworthy.config import UseCase
from airworthy.errors import ReleaseError
from airworthy.ledger import promotions
from airworthy.records import Release, Verdict
from airworthy.registry import load, load_card, load_verdict, release_folder, verify
from airworthy.registry.store import releases_url
from airworthy.training import model_files
from airworthy.training.folders import MANIFEST, read_folder, sha256, write_folder

from .test_registration import RELEASE_FILES, Bomb, Make, released

Poison = Callable[[Path, Release, Path], None]
EVERY = [n for n in RELEASE_FILES if n != MANIFEST]


def flipped(file: Path, *_: object) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])


def truncated(file: Path, *_: object) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def emptied(file: Path, *_: object) -> None:
    file.write_bytes(b"")


def lengthened(file: Path, *_: object) -> None:
    file.write_bytes(file.read_bytes() + b" ")


def missing(file: Path, *_: object) -> None:
    file.unlink()


def pickled(file: Path, _: Release, trace: Path) -> None:
    file.write_bytes(pickle.dumps(Bomb(trace)))


def foreign_type(file: Path, _: Release, trace: Path) -> None:
    """A skops archive whose state names a function to call."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        state = {"__class__": "mkdir", "__module__": "os", "__loader__": "FunctionNode", "content": str(trace)}
        archive.writestr("schema.json", json.dumps({**state, "protocol": 2, "_skops_version": "0.16"}))
    file.write_bytes(buffer.getvalue())


def another_releases(file: Path, other: Release, _: Path) -> None:
    content = (Path(release_folder(other.digest)) / file.name).read_bytes()
    file.write_bytes(content if content != file.read_bytes() else content + b"\n")


def linked_out(file: Path, _: Release, trace: Path) -> None:
    """A link to a file outside the store, even one with the very same bytes."""
    outside = trace.with_name(f"outside-{file.name}")
    outside.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(outside)


def endless(file: Path, *_: object) -> None:
    """A link to what never ends: whoever reads it first has lost."""
    file.unlink()
    file.symlink_to("/dev/zero")


def pipe(file: Path, *_: object) -> None:
    """A pipe nobody writes to."""
    file.unlink()
    os.mkfifo(file)


POISONS: list[Poison] = [
    flipped, truncated, emptied, lengthened, missing, pickled, foreign_type, another_releases, linked_out, endless, pipe,
]  # fmt: skip


def test_each_file_poisoned_in_each_way_is_refused_unread(
    tiny: UseCase, training_set: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two releases, and parsers that tell when they are asked.
    ref = training_set()
    release, other = released(tiny, ref, "train__1"), released(tiny, ref, "train__2", C=0.1)
    folder, trace = Path(release_folder(release.digest)), tmp_path / "it ran"

    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("a poisoned release was parsed")

    monkeypatch.setattr(model_files, "from_files", parsed)
    monkeypatch.setattr(Verdict, "model_validate_json", parsed)

    # When any file is poisoned in any way; then every way to use the release refuses it and names the file.
    for name in RELEASE_FILES:
        original = (folder / name).read_bytes()
        for poison in POISONS:
            poison(folder / name, other, trace)
            for use in (verify, load, load_verdict, load_card):
                with pytest.raises(
                    ReleaseError, match=rf"{name} of {release.digest[:12]} .*(altered|missing|is a link|no plain)"
                ):
                    use(release.digest)
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_bytes(original)
    # And nothing ran.
    assert not trace.exists()
    monkeypatch.undo()


def test_a_manifest_that_fits_the_poison_is_not_the_one_that_was_released(
    tiny: UseCase, training_set: Make, tmp_path: Path
) -> None:
    release = released(tiny, training_set())
    folder, trace = Path(release_folder(release.digest)), tmp_path / "it ran"
    for name in EVERY:
        original = {n: (folder / n).read_bytes() for n in (name, MANIFEST)}
        pickled(folder / name, release, trace)
        manifest = json.loads(original[MANIFEST])
        manifest["files"][name] = sha256((folder / name).read_bytes())
        (folder / MANIFEST).write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))
        with pytest.raises(ReleaseError, match=rf"manifest\.json of {release.digest[:12]} .* was altered"):
            load(release.digest)
        for n, content in original.items():
            (folder / n).write_bytes(content)
    assert load(release.digest).digest == release.digest
    assert not trace.exists()


def test_a_whole_release_of_poison_has_no_verdict_about_it(tiny: UseCase, training_set: Make, tmp_path: Path) -> None:
    """Digests that all fit, even the folder's name: the verdict was about another model."""
    release = released(tiny, training_set())
    manifest, files = read_folder(release_folder(release.digest), release.digest)
    facts = {k: v for k, v in manifest.items() if k != "files"}
    for name in model_files.MODEL_FILES:
        planted = tmp_path / "planted"
        pickled(planted, release, tmp_path / "it ran")
        digest, _ = write_folder(releases_url(), {**files, name: planted.read_bytes()}, facts)
        for use in (verify, load):
            with pytest.raises(ReleaseError, match="another model than its verdict"):
                use(digest)
    assert not (tmp_path / "it ran").exists()


def test_a_folder_that_is_a_link_out_of_the_store_is_not_opened(
    tiny: UseCase, training_set: Make, tmp_path: Path
) -> None:
    release = released(tiny, training_set())
    folder = Path(release_folder(release.digest))
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match="is a link; it was not opened"):
        load(release.digest)


def test_a_manifest_that_names_files_elsewhere_is_refused(tiny: UseCase, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    digest, folder = write_folder(str(tmp_path / "models"), {"../../secret": b"s"}, {})
    with pytest.raises(ReleaseError, match="no plain file in it"):
        read_folder(folder, digest)
    assert promotions.releases(tiny.name) == []
