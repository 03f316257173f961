"""A version is made again from its pedigree alone; what is not the same is found and named."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from packaging.utils import canonicalize_name
from sqlalchemy import text

from airworthy.config import UseCase, get_settings
from airworthy.config.settings import PROJECT_ROOT
from airworthy.errors import ReleaseError, ServiceUnavailableError
from airworthy.lake import tables
from airworthy.ledger.database import transaction
from airworthy.platform import rebuilding, reproducing
from airworthy.platform.reproducing import reproduce
from airworthy.records import Release
from airworthy.training import tracking
from airworthy.training.candidates import find_candidate
from airworthy.training.fitting import lock_digest
from airworthy.training.folders import sha256

from .versions import git


@pytest.fixture
def trained(version: tuple[UseCase, Release], monkeypatch: pytest.MonkeyPatch) -> tuple[UseCase, Release]:
    """A version whose releases and MLflow are gone."""
    shutil.rmtree(get_settings().release_url)
    monkeypatch.setenv("AIRWORTHY_MLFLOW_URL", "http://127.0.0.1:9")
    get_settings.cache_clear()
    return version


def test_the_same_model_comes_out_of_a_new_process_without_releases_and_mlflow(
    trained: tuple[UseCase, Release], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, release = trained
    said: list[str] = []
    outcome = reproduce(case, release, say=said.append)
    assert outcome.same, outcome.differences
    assert outcome.revision == git(repository, "rev-parse", "HEAD")
    assert outcome.data[0] == outcome.data[1]
    assert outcome.model == (release.model_digest, release.model_digest)
    assert outcome.largest_difference == 0
    assert {"train roc_auc", "holdout roc_auc", "holdout log_loss"} <= set(outcome.metrics)
    assert "lock file is the same" in outcome.environment
    assert outcome.notes == ()
    assert len(said) == 2
    # Nothing is left of it: no worktree, and no store was made.
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert not Path(get_settings().release_url).exists()
    check_another_lock(case, release, repository, monkeypatch)


def check_another_lock(case: UseCase, release: Release, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained with other packages than those here: they are installed as they were locked, and it runs with them."""
    lock, uv = repository / "uv.lock", PROJECT_ROOT / ".uv" / "bin" / "uv"
    lock.write_text(lock.read_text().replace(f"    {{ name = {LEFT_OUT!r} }},\n".replace("'", '"'), "", 1))
    git(repository, "commit", "-q", "-a", "-m", "another lock")
    changed(f"revision = '{git(repository, 'rev-parse', 'HEAD')}', lock = '{sha256(lock.read_bytes())}'")
    if uv.exists():
        (repository / ".uv" / "bin").mkdir(parents=True)
        (repository / ".uv" / "bin" / "uv").symlink_to(uv)
    installed: list[set[str]] = []
    run = reproducing._run

    def look(python: str, *rest: Any) -> dict[str, Any]:
        listed = subprocess.run([python, "-c", NAMES], capture_output=True, text=True, check=True).stdout
        installed.append({str(canonicalize_name(name)) for name in listed.split()})
        return run(python, *rest)

    monkeypatch.setattr(reproducing, "_run", look)
    outcome = reproduce(case, release)

    assert outcome.same, outcome.differences
    assert "installed apart" in outcome.environment
    assert outcome.model == (release.model_digest, release.model_digest)
    (there,) = installed
    assert "scikit-learn" in there
    assert LEFT_OUT not in there
    assert LEFT_OUT in {canonicalize_name(d.name) for d in distributions()}, "the lock would be no other one"


def altered_row(case: UseCase) -> None:
    """One amount of one published row, in the file of the table itself; the table's log is made to fit."""
    table = Path(tables.url(case.table("clean", "orders")))
    (file,) = (table / "interval=2024-01-05").glob("*.parquet")
    rows = pq.ParquetFile(file).read()
    amounts = rows["amount"].to_pylist()
    amounts[0] += 1
    index, size = rows.schema.get_field_index("amount"), file.stat().st_size
    pq.write_table(rows.set_column(index, rows.schema.field(index), [amounts]), file)
    for entry in (table / "_delta_log").glob("*.json"):
        content = entry.read_text()
        if file.name in content:
            entry.write_text(content.replace(f'"size":{size}', f'"size":{file.stat().st_size}'))


def changed(what: str) -> None:
    with transaction() as session:
        session.execute(text(f"UPDATE candidate SET {what}"))


LEFT_OUT = "fastapi-offline"
NAMES = "from importlib.metadata import distributions as d; print(*(p.name for p in d()))"
OTHER_C = """recipe = jsonb_set(recipe::jsonb, '{parameters}', '{"max_iter": 500, "C": 0.01}')"""


def test_what_differs_is_named_and_what_cannot_be_done_says_why(
    trained: tuple[UseCase, Release], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, release = trained
    head = git(repository, "rev-parse", "HEAD")

    def refused(change: str, words: str) -> None:
        changed(change)
        with pytest.raises(ReleaseError, match=words):
            reproduce(case, release)

    refused("revision = 'unknown'", "nobody knows what code")
    refused(f"revision = '{'0' * 40}'", "cannot be checked out")
    refused(f"revision = '{head}-dirty'", "was trained with changes that revision")
    refused(f"revision = '{head}', lock = 'another'", r"uv\.lock is not the one")
    # A revision that has no rebuilding: the process ends, and says so.
    (repository / "include" / "airworthy" / "platform" / "rebuilding.py").unlink()
    git(repository, "commit", "-q", "-a", "-m", "older")
    changed(f"revision = '{git(repository, 'rev-parse', 'HEAD')}', lock = '{lock_digest()}'")
    with pytest.raises(ServiceUnavailableError, match="No module named"):
        reproduce(case, release)

    # From here on in this process: the way out of it is the other test's.
    def run(_: str, __: UseCase, ___: Path, scratch: Path, order: dict[str, Any]) -> dict[str, Any]:
        return rebuilding.rebuild(order, scratch)

    monkeypatch.setattr(reproducing, "_run", run)
    monkeypatch.setattr(rebuilding, "get_use_case", lambda _: case)
    before = find_candidate(release.model_digest)
    assert before is not None
    for change, words in (
        (OTHER_C, "the predictions are others, by up to"),
        ("recipe = jsonb_set(recipe::jsonb, '{flip_labels}', '0.4')", "train roc_auc is"),
        ("predictions = jsonb_set(predictions, '{rows}', '1')", "recorded for 1"),
    ):
        changed(change)
        outcome = reproduce(case, release)
        assert (outcome.same, words in "; ".join(outcome.differences)) == (False, True), outcome
        with transaction() as session:
            session.merge(before)
    assert reproduce(case, release).same
    # An altered row in the lake, written by somebody who knew how; and a file that was only damaged.
    altered_row(case)
    outcome = reproduce(case, release)
    assert not outcome.same
    assert "the data are others" in outcome.differences[0]
    (file,) = (Path(tables.url(case.table("clean", "orders"))) / "interval=2024-01-06").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ReleaseError, match="a data version is gone or damaged"):
        reproduce(case, release)
    with transaction() as session:
        session.execute(text("DELETE FROM candidate"))
    with pytest.raises(ReleaseError, match="the ledger has no candidate"):
        reproduce(case, release)


def test_a_dirty_tree_is_on_record(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert tracking.revision() == head
    (repository / "notes.txt").write_text("not code")
    assert tracking.revision() == head
    (repository / "include" / "new.py").write_text("x = 1")
    assert tracking.revision() == f"{head}-dirty"
