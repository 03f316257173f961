"""Releases of the pipeline itself: what runs, what one goes back to and what anything still uses stays; the rest goes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airworthy.config import Settings, get_settings, get_use_case
from airworthy.lake import tables
from airworthy.ledger import pipeline_releases as ledger
from airworthy.platform import pipeline_retention, places, releasing, retention
from airworthy.platform.every_table import table_schemas
from airworthy.platform.places import Place, Pointer
from airworthy.platform.releasing import PipelineRelease
from airworthy.platform.switching import Journal
from airworthy.training.folders import MANIFEST, canonical_manifest, sha256

OLD, NEW = "a" * 64, "b" * 64  # two locks
NAMES = ("before", "present", "asked", "alive", "mine", "other", "sixth", "seventh")


def made(name: str, lock: str) -> PipelineRelease:
    """A release with its files, its environment and its row."""
    scratch = releasing.releases_folder() / name
    (scratch / "dags").mkdir(parents=True)
    (scratch / "dags" / "a.py").write_text(name)
    facts = {
        "revision": name, "tested_by": "ci", "version": "1", "wheel": "w.whl", "wheel_sha256": "w", "lock_sha256": lock,
        "code": name,
    }  # fmt: skip
    manifest = canonical_manifest({"dags/a.py": sha256(name.encode())}, facts)
    (scratch / MANIFEST).write_bytes(manifest)
    release = PipelineRelease(digest=sha256(manifest), **facts)
    scratch.rename(release.folder)
    release.python.parent.mkdir(parents=True)
    (release.python.parents[1] / releasing.DONE).touch()
    locked(lock).mkdir(exist_ok=True)
    ledger.record_built(release.digest, name, release.to_json())
    return releasing.read(release.digest)


def locked(lock: str) -> Path:
    return releasing.environments_folder() / f"lock-{lock[:32]}-3.11"


@pytest.fixture
def history(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, PipelineRelease]]:
    """Eight releases: one ran before, one runs, one waits for approval, one has a live process, two are needed by nobody."""
    monkeypatch.setenv("AIRWORTHY_KEEP_PIPELINE_RELEASES", "2")
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    get_settings.cache_clear()
    built = {name: made(name, OLD if name == "mine" else NEW) for name in NAMES}
    for name in ("mine", "before", "present"):
        generation = ledger.ask(built[name].digest, expected=ledger.current(), who="t", why="t")
        ledger.end_switch(generation, ledger.SWITCHED, "")
    generation = ledger.ask(built["other"].digest, expected=built["present"].digest, who="t", why="t")
    ledger.end_switch(generation, ledger.FELL_BACK, "not healthy")
    ledger.take("asked", ledger.PRODUCTION, "a run")
    ledger.note("a run", "staged", digest=built["asked"].digest)
    ledger.take("other", ledger.PRODUCTION, "another run")
    ledger.note("another run", ledger.FELL_BACK, digest=built["other"].digest)
    checkout = Place(digest=None, python=sys.executable, root="/checkout")
    here = Place(digest=built["present"].digest, python="p", root=str(built["present"].folder))
    places.write("current.json", Pointer(present=here, checkout=checkout))
    alive = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env=os.environ | {"AIRWORTHY_PROJECT_ROOT": str(built["alive"].folder)},
    )
    yield built
    alive.kill()
    alive.wait()


def stays(release: PipelineRelease) -> bool:
    home, there = release.python.parents[1], release.folder.is_dir()
    assert home.is_dir() == there, release.revision
    return there


def test_what_is_needed_stays_with_the_reason_and_the_rest_goes(history: dict[str, PipelineRelease]) -> None:
    for name, schema in table_schemas(get_use_case("tiny_orders")).items():
        tables.create(name, schema)
    (releasing.releases_folder() / f"{releasing.BUILDING}x").mkdir()  # of a build that was killed
    # When it is only asked, then each has its reason, and nothing goes.
    asked = pipeline_retention.plan()
    needed = {name: asked.needed.get(release.digest, "") for name, release in history.items()}
    assert (needed["mine"], needed["other"]) == ("", "")
    assert "gone back to" in needed["before"]
    assert "starts it" in needed["present"]
    assert needed["asked"] == "a run is at it"
    assert "runs from it" in needed["alive"]
    assert needed["sixth"] == needed["seventh"] == "one of the newest 2"
    assert all(stays(release) for release in history.values())
    # When the daily housekeeping tidies up, then those go that nobody needs, with their environments.
    gone = {history["mine"].digest, history["other"].digest}
    outcome = retention.tidy()
    assert set(outcome.pipeline) == gone == set(asked.releases)
    assert {name for name, release in history.items() if not stays(release)} == {"mine", "other"}
    # The environment of a lock stays while a release has this lock.
    assert (locked(OLD).exists(), locked(NEW).exists()) == (False, True)
    assert list(releasing.releases_folder().glob(".*")) == []
    assert retention.tidy().pipeline == ()


def test_while_one_is_built_tried_or_switched_none_goes(history: dict[str, PipelineRelease]) -> None:
    with releasing.held():
        assert pipeline_retention.remove().releases == ()
    generation = ledger.ask(history["other"].digest, expected=ledger.current(), who="t", why="t")
    assert pipeline_retention.remove().releases == ()
    ledger.end_switch(generation, ledger.REFUSED, "")
    place = places.pointer().present
    places.write("switch.json", Journal(generation=generation, old=place, new=place))
    assert pipeline_retention.remove().releases == ()
    (places.folder() / "switch.json").unlink()
    assert len(pipeline_retention.remove().releases) == 2


def test_a_damaged_one_that_is_needed_keeps_every_environment_of_a_lock(history: dict[str, PipelineRelease]) -> None:
    (history["before"].folder / MANIFEST).unlink()
    pipeline_retention.remove()
    assert locked(OLD).exists()
    assert locked(NEW).exists()
    assert history["before"].folder.exists()
