"""The answer to the question of ``platform.release``, and a release that was altered after it was tried."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from airworthy.config import Settings
from airworthy.errors import ReleaseError
from airworthy.ledger import audit
from airworthy.ledger import pipeline_releases as ledger
from airworthy.platform import release_steps, releasing, switching
from airworthy.platform.releasing import PipelineRelease
from airworthy.training.folders import MANIFEST

from .test_pipeline_retention import NEW, made

RUN = "platform.release/asset_triggered__1"


@pytest.fixture
def release(platform_env: Settings) -> PipelineRelease:
    """One that passed its staging run, and waits for approval."""
    built = made("f00d", NEW)
    releasing.environments_folder().joinpath(f"lock-{NEW[:32]}-3.11", releasing.DONE).touch()
    ledger.take("f00d", ledger.PRODUCTION, RUN)
    ledger.note(RUN, "staged", digest=built.digest)
    ledger.record_staged(built.digest, {})
    return built


def answered(release: PipelineRelease, who: str, *, approved: bool, why: str = "") -> int | None:
    taken = release_steps.Taken(revision="f00d", target="production", present=None)
    return release_steps.settle(RUN, taken, release, who=who, approved=approved, why=why)


def state() -> tuple[str, str]:
    (row,) = ledger.requests()
    return row.state, row.reason


def test_a_no_is_a_row_of_what_people_did_and_the_last_word(release: PipelineRelease) -> None:
    for _ in range(2):  # a task may run twice
        assert answered(release, "ada", approved=False, why="not on a Friday") is None
    (row,) = audit.actions()
    assert (row.who, row.action, row.subject, row.why) == (
        "ada", "reject pipeline release", release.digest, "not on a Friday",
    )  # fmt: skip
    assert (row.via, row.outcome) == ("airflow", RUN)
    assert ledger.switches() == []
    assert release_steps.finish(RUN) == state() == ("rejected", "by ada: not on a Friday")


@pytest.mark.parametrize("approved", [False, True])
def test_nobody_is_no_person_and_no_yes(release: PipelineRelease, approved: bool) -> None:
    assert answered(release, "", approved=approved) is None
    assert audit.actions() == []
    assert ledger.switches() == []
    assert release_steps.finish(RUN) == ("rejected", "nobody approved it in time")


def altered(release: PipelineRelease) -> Path:
    path = release.folder / "dags" / "a.py"
    path.write_text("import os")
    return path


def smuggled(release: PipelineRelease) -> Path:
    path = release.folder / "plugins" / "evil.py"
    path.parent.mkdir()
    path.write_text("import os")
    return path


def missing(release: PipelineRelease) -> Path:
    (release.folder / "dags" / "a.py").unlink()
    return release.folder / "dags" / "a.py"


def linked(release: PipelineRelease) -> Path:
    path = release.folder / "dags" / "b.py"
    path.symlink_to("/etc/passwd")
    return path


def renamed(release: PipelineRelease) -> Path:
    """The digest of a file changed in the manifest as well."""
    from airworthy.training.folders import sha256

    path = altered(release)
    manifest = json.loads((release.folder / MANIFEST).read_text())
    manifest["files"]["dags/a.py"] = sha256(path.read_bytes())
    (release.folder / MANIFEST).write_text(json.dumps(manifest))
    return release.folder / MANIFEST


DAMAGES: dict[Callable[[PipelineRelease], Path], str] = {
    altered: r"dags/a.py was altered",
    smuggled: r"plugins/evil.py is missing, or was not released",
    missing: r"dags/a.py is missing, or was not released",
    linked: r"dags/b.py is a link",
    renamed: r"its manifest was altered",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_was_changed_after_it_was_tried_is_not_switched_to(
    release: PipelineRelease, damage: Callable[[PipelineRelease], Path]
) -> None:
    whole = release.folder.with_name("whole")
    shutil.copytree(release.folder, whole)
    damage(release)
    # Before a switch is asked for,
    with pytest.raises(ReleaseError, match=DAMAGES[damage]):
        switching.ask(release, who="t", why="t")
    assert ledger.switches() == []
    # and between the question and the switch: it ends there, so that another one may be asked for.
    shutil.rmtree(release.folder)
    whole.rename(release.folder)
    generation = switching.ask(release, who="t", why="t")
    damage(release)
    with pytest.raises(ReleaseError, match=DAMAGES[damage]):
        switching.carry_out()
    row = ledger.find_switch(generation)
    assert row is not None
    assert row.state == "refused"
    assert switching.carry_out()  # nothing is asked for any more
    assert ledger.current() is None


@pytest.mark.parametrize("end", [ledger.FELL_BACK, ledger.REFUSED])
def test_a_switch_that_did_not_get_there_fails_the_run_and_is_the_last_word(release: PipelineRelease, end: str) -> None:
    generation = switching.ask(release, who="t", why="t")
    ledger.end_switch(generation, end, "the migration failed")
    with pytest.raises(ReleaseError, match="not switched: the migration failed"):
        release_steps.ended(RUN, generation)
    assert release_steps.finish(RUN) == state() == (end, "the migration failed")
