"""A release of the pipeline: built from a tested revision only, found whole or refused, and tried in staging."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airworthy.cli import app
from airworthy.commands.output import actor
from airworthy.config import Settings, get_settings
from airworthy.config.use_case import use_cases
from airworthy.errors import ConfigurationError, ReleaseError, StaleVerdictError
from airworthy.ledger import audit
from airworthy.ledger import pipeline_releases as ledger
from airworthy.platform import pg_tools, releasing, revisions, switching
from airworthy.platform.staging import PREFIX, StagingFailedError
from pipeline_repository import USE_CASE, Repository

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("team") / "repository")


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the tests, as one platform shares it among its releases."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def team(
    platform_env: Settings, repository: Repository, environments: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Repository]:
    for name, value in {
        "AIRWORTHY_PIPELINE_REPOSITORY": str(repository.root),
        "AIRWORTHY_USE_CASES": USE_CASE,
        "AIRWORTHY_DELIVERY_LOAD_REQUESTS": "40",
        "AIRWORTHY_UV": releasing.find_uv(),
        "UV_COMPILE_BYTECODE": "0",  # a minute that no test needs
    }.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    pipeline = platform_env.var / "pipeline"
    pipeline.mkdir(parents=True)
    (pipeline / "environments").symlink_to(environments)
    yield repository
    use_cases.cache_clear()


@pytest.fixture(scope="module")
def tested(repository: Repository) -> str:
    """The head of develop, tested."""
    revision = repository.git("rev-parse", "develop")
    repository.attest(revision)
    return revision


def test_a_release_is_built_once_from_its_revision_and_knows_its_code(team: Repository, tested: str) -> None:
    release = releasing.build(tested)
    again = releasing.build(tested)

    assert (release.revision, release.tested_by) == (tested, "ci")
    assert again == releasing.read(release.digest) == release
    assert {p.name for p in release.folder.iterdir()} >= {*releasing.FOLDERS, "uv.lock", "manifest.json", release.wheel}
    # What its interpreter imports is its wheel, and the libraries are those of the lock.
    words = (
        "from airworthy.platform.code_identity import imported; import airworthy, airflow, sys;"
        "print(imported()); print(airworthy.__file__); print(airflow.__version__)"
    )
    done = subprocess.run([release.python, "-P", "-c", words], capture_output=True, text=True, check=True)
    identity, place, version = done.stdout.split("\n")[-4:-1]
    assert identity == f"wheel {release.code}"
    assert str(releasing.environments_folder().resolve()) in str(Path(place).resolve())
    assert version == "3.3.2"


def test_the_same_lock_is_one_environment(team: Repository, tested: str) -> None:
    first = releasing.build(tested)
    (shared,) = [p for p in releasing.environments_folder().glob("lock-*") if p.is_dir()]
    made = (shared / releasing.DONE).stat().st_mtime_ns
    other = team.change("dags/extra.py", '"""Nothing."""\n')
    team.attest(other)

    second = releasing.build(other)

    assert second.digest != first.digest
    assert second.lock_sha256 == first.lock_sha256
    assert (shared / releasing.DONE).stat().st_mtime_ns == made
    team.git("reset", "-q", "--hard", tested)


@pytest.mark.parametrize(
    ("attested", "words"),
    [
        (None, "there is no tag tested/"),
        ({"by": "me"}, "no attestation"),
        ({"by": "me", "wheel": "0" * 64}, "another package would run than the one that was tested"),
    ],
)
def test_an_untested_revision_is_refused_by_hand_too(
    team: Repository, tested: str, attested: dict[str, str] | None, words: str
) -> None:
    revision = team.change("dags/extra.py", f'"""{words}"""\n')
    if attested:
        team.attest(revision, **attested)

    done = CliRunner().invoke(app, ["release", "build", revision])

    team.git("reset", "-q", "--hard", tested)
    assert isinstance(done.exception, revisions.UntestedError)
    assert words in str(done.exception)
    assert ledger.built() == []
    (row,) = audit.actions()
    assert (row.action, row.subject, row.via) == ("build pipeline release", revision, "shell")
    assert row.outcome.startswith("failed: ")
    assert words in row.outcome


def test_a_build_by_hand_is_a_row_of_what_people_did(team: Repository, tested: str) -> None:
    done = CliRunner().invoke(app, ["release", "build", tested])

    assert done.exit_code == 0, done.output
    (built,) = ledger.built()
    (row,) = audit.actions()
    assert (row.action, row.subject, row.outcome) == (
        "build pipeline release", tested, f"release {built.digest[:12]}",
    )  # fmt: skip
    assert row.who == actor()


def test_a_tag_on_another_commit_vouches_for_nothing(team: Repository, tested: str) -> None:
    revision = team.change("dags/extra.py", '"""Not tested."""\n')
    team.git("tag", "-f", "-a", "-m", json.dumps({"by": "me", "wheel": "0" * 64}), f"tested/{revision}", tested)

    heads = revisions.tested_heads()
    with pytest.raises(revisions.UntestedError, match="another commit"):
        releasing.build(revision)

    team.git("reset", "-q", "--hard", tested)
    assert heads == []


def test_tested_heads_of_the_watched_branches(team: Repository, tested: str) -> None:
    team.git("branch", "-f", "main", tested)
    untested = team.change("dags/extra.py", '"""Not tested."""\n')
    before = revisions.tested_heads()
    team.attest(untested, by="ci", wheel="0" * 64)

    after = revisions.tested_heads()
    ledger.take(tested, "production", "a run")

    assert revisions.untaken() == [(untested, "staging")]
    team.git("reset", "-q", "--hard", tested)
    team.git("branch", "-D", "main")
    assert before == [(tested, "production")]
    assert after == [(untested, "staging"), (tested, "production")]


def test_a_url_names_a_repository_too_and_an_absent_one_is_told(
    team: Repository, tested: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRWORTHY_PIPELINE_REPOSITORY", f"file://{team.root}")
    get_settings.cache_clear()
    assert revisions.absent() == ""
    assert revisions.tested_heads() == [(tested, "staging")]

    monkeypatch.setenv("AIRWORTHY_PIPELINE_REPOSITORY", str(tmp_path / "nothing"))
    get_settings.cache_clear()
    assert "ls-remote" in revisions.absent()
    with pytest.raises(ConfigurationError, match=r"does not appear to be a git repository|not exist"):
        revisions.fetch()

    monkeypatch.setenv("PATH", str(tmp_path))
    assert revisions.absent() == "there is no git program on the PATH"


def test_what_was_altered_is_not_used(team: Repository, tested: str) -> None:
    release = releasing.build(tested)
    file = release.folder / "dags" / "train.py"

    file.write_text(file.read_text() + "# changed\n")
    with pytest.raises(ReleaseError, match=r"dags/train.py was altered"):
        releasing.read(release.digest)
    releasing.build(tested)  # mends it
    (release.folder / "dags" / "smuggled.py").write_text("")
    with pytest.raises(ReleaseError, match=r"dags/smuggled.py is missing, or was not released"):
        releasing.find(release.digest[:10])


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("include/use_cases/tiny_orders/sample.py", "def land_sample", "def nothing", "land_sample"),
        ("dags/score.py", "import airworthy_wiring as wiring", "import no_such_wiring as wiring", "no_such_wiring"),
    ],
)
def test_a_revision_that_cannot_work_fails_in_staging_with_its_words(
    team: Repository, tested: str, postgres: Path, file: str, old: str, new: str, words: str
) -> None:
    path, text = file, (team.root / file).read_text()
    revision = team.change(path, text.replace(old, new))
    team.attest(revision)
    release = releasing.build(revision)
    team.git("reset", "-q", "--hard", tested)

    with pytest.raises(StagingFailedError, match=words):
        releasing.try_in_staging(release)

    row = ledger.find_built(release.digest)
    assert row is not None
    assert row.staged is None
    assert_nothing_left(postgres)


def assert_nothing_left(postgres: Path) -> None:
    assert list((get_settings().var / "pipeline" / "staging").iterdir()) == []
    with pg_tools.connect(get_settings().ledger_dsn) as connection:
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database")]
    assert [n for n in names if n.startswith(PREFIX)] == []


def test_switches_are_compared_and_set(team: Repository) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ledger.ask, "a" * 64, expected=None, who="t", why="race") for _ in range(8)]
    won = [a.result() for a in asked if a.exception() is None]
    assert [type(a.exception()) for a in asked].count(StaleVerdictError) == 7
    (first,) = won
    # Its generation is free, and what it expects is what runs: the index of the open switch alone refuses it.
    with pytest.raises(StaleVerdictError, match="another switch"):
        ledger.ask("b" * 64, expected=None, who="t", why="at the same time")
    ledger.end_switch(first, ledger.SWITCHED, "")

    with pytest.raises(StaleVerdictError, match="aaaaaaaaaaaa of the pipeline runs, not none"):
        ledger.ask("b" * 64, expected=None, who="t", why="decided before")
    second = ledger.ask("b" * 64, expected="a" * 64, who="t", why="decided now")
    ledger.end_switch(second, ledger.FELL_BACK, "not healthy")
    ledger.end_switch(second, ledger.SWITCHED, "too late")

    assert ledger.current() == "a" * 64
    assert [s.state for s in ledger.switches()] == ["switched", "fell_back"]


def test_what_never_passed_a_staging_run_is_not_switched_to(team: Repository, tested: str) -> None:
    release = releasing.build(tested)

    with pytest.raises(ReleaseError, match="never passed a staging run"):
        switching.ask(release, who="t", why="by hand")

    assert ledger.switches() == []


def test_the_code_of_a_release_refuses_the_dags_of_another(team: Repository, tested: str) -> None:
    release = releasing.build(tested)
    words = (
        "import sys; from pathlib import Path; from airworthy.platform.code_identity import refuse_another_wheel\n"
        "refuse_another_wheel(Path(sys.argv[1]))"
    )

    def run(root: Path) -> subprocess.CompletedProcess[str]:
        command = [str(release.python), "-P", "-c", words, str(root / "dags" / "train.py")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    own, other = run(release.folder), run(team.root)

    assert own.returncode == 0, own.stderr
    assert f"OtherWheelError: train.py belongs to checkout {team.root}"[:60] in other.stderr
    assert "restart this worker" in other.stderr
