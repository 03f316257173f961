"""Two environments on one PostgreSQL: a release is copied, never rebuilt, and its verdict counts only where it says something."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from airworthy import registry
from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.config.use_case import use_cases
from airworthy.delivery.deliver import check_verdict
from airworthy.errors import ReleaseError, StaleVerdictError
from airworthy.features import close
from airworthy.ledger import promotions
from airworthy.ledger.database import engine
from airworthy.platform import lineage
from airworthy.platform.lineage_things import find
from airworthy.registry import export_release, import_release
from airworthy.training import tracking
from conftest import execute

from ..serving import world  # noqa: TID252 - one small world

Enter = Callable[[str], UseCase]


@pytest.fixture
def enter(platform_env: Settings, postgres: Path, ledger_template: str, mlflow_server: str, monkeypatch: pytest.MonkeyPatch,
          tmp_path: Path):  # fmt: skip
    """Go to an environment, ``staging`` or ``prod``: folders and databases of its own, one PostgreSQL and one MLflow for both."""
    made, ready = [], set()
    suffix = secrets.token_hex(4)

    def to(env: str) -> UseCase:
        close()
        for database, template in (("ledger", f" TEMPLATE {ledger_template}"), ("feast", ""), ("online", "")):
            if (name := f"{database}_{env}_{suffix}") not in made:
                execute(postgres, f"CREATE DATABASE {name}{template}")
                made.append(name)
            monkeypatch.setenv("AIRWORTHY_ONLINE_DATABASE", f"online_{env}_{suffix}")
        monkeypatch.setenv(
            "AIRWORTHY_LEDGER_DSN", f"postgresql+psycopg://postgres@/ledger_{env}_{suffix}?host={postgres}"
        )
        monkeypatch.setenv(
            "AIRWORTHY_FEAST_REGISTRY_DSN", f"postgresql+psycopg://postgres@/feast_{env}_{suffix}?host={postgres}"
        )
        for name, value in {
            "ENV": env, "VAR": str(tmp_path / env), "USE_CASES": "tiny_orders", "MLFLOW_URL": mlflow_server,
        }.items():  # fmt: skip
            monkeypatch.setenv(f"AIRWORTHY_{name}", value)
        get_settings.cache_clear()
        use_cases.cache_clear()
        if env not in ready:
            ready.add(env)
            return world.orders()
        return get_use_case("tiny_orders")

    yield to
    close()
    engine().dispose()
    for name in made:
        execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def versions(env: str) -> dict[str, str]:
    found = tracking.client().search_model_versions(f"name = '{env}.tiny_orders'")
    return {v.tags["airworthy.release"]: v.version for v in found}


def test_a_release_is_the_same_bytes_in_both_and_is_delivered_against_the_champion_of_each(
    enter: Enter, tmp_path: Path
) -> None:
    # Given a champion of staging, and a second release that was measured against it.
    case = enter("staging")
    first = world.release(case, seed=1, version=11)
    world.promote(case, first)
    second = world.release(case, seed=2, version=12, against=first.digest)
    copies = [export_release(case, r.digest, str(tmp_path / "copies"), who="ada") for r in (first, second)]

    # When prod, which has no champion, is given the second one, then its verdict says nothing there.
    case = enter("prod")
    with pytest.raises(
        StaleVerdictError, match=f"measured against {first.digest[:12]}, the champion here is no champion"
    ):
        import_release(case, copies[1], who="grace")
    assert promotions.releases(case.name) == []

    # When it is given the first one, twice,
    taken = [import_release(case, copies[0], who="grace") for _ in range(2)]
    # then it is one challenger with the same digest, a version of prod's own, and the delivery believes its verdict;
    assert taken[0] == taken[1]
    assert (taken[0].digest, [r.state for r in promotions.releases(case.name)]) == (first.digest, ["challenger"])
    assert versions("prod") == {first.digest: str(taken[0].version)}
    assert registry.verify(first.digest).model_digest == first.model_digest
    assert check_verdict(case, taken[0]).summary == "ROC AUC 0.800"
    # it is known where it comes from, by either number;
    (cause,) = [n for n in lineage.up(find(f"v11-{first.digest[:8]}")).children if n.kind == "cause"]
    assert cause.words.startswith("copied: ")
    assert {"env staging", "version there 11"} <= set(cause.words.removeprefix("copied: ").split(", "))
    # and once it is champion, the second one may come: the comparison holds, it is the same champion.
    world.promote(case, taken[0])
    assert import_release(case, copies[1], who="grace").digest == second.digest
    # Back in staging nothing changed.
    enter("staging")
    assert {r.digest: r.state for r in promotions.releases(case.name)} == {
        first.digest: "champion", second.digest: "challenger"
    }  # fmt: skip


def test_what_was_altered_on_the_way_or_does_not_fit_is_not_taken_in(enter: Enter, tmp_path: Path) -> None:
    # Given two copies: one altered on the way, one of other feature definitions; and no folder at all.
    case = enter("staging")
    good, other = (
        world.release(case, seed=1),
        world.release(case, seed=2, definitions={"tiny_orders_customer": "another"}),
    )
    twin = world.release(case, seed=3)
    altered = Path(export_release(case, good.digest, str(tmp_path / "copies"), who="ada"))
    foreign, second = (export_release(case, r.digest, str(tmp_path / "copies"), who="ada") for r in (other, twin))
    store = registry.release_folder(good.digest)
    card = altered / "model_card.json"
    card.write_text(card.read_text() + " ")

    case = enter("prod")
    for folder, words in (
        (str(altered), "altered"),
        (foreign, "other feature definitions"),
        ("/tmp/none", "not named by a digest"),
    ):
        with pytest.raises(ReleaseError, match=words):
            import_release(case, folder, who="grace")
    assert promotions.releases(case.name) == []
    assert not Path(registry.release_folder(good.digest)).exists()

    # When it is taken straight from the other environment's store, then it is as good as an export.
    assert import_release(case, store, who="grace").digest == good.digest
    shutil.rmtree(store)
    assert registry.verify(good.digest).digest == good.digest

    # And a verdict that has made a release here makes no second one.
    promotions.record_release(twin.model_copy(update={"digest": "d" * 64}))
    with pytest.raises(ReleaseError, match=r"is release dddddddddddd here already"):
        import_release(case, second, who="grace")
    assert {r.digest for r in promotions.releases(case.name)} == {good.digest, "d" * 64}
