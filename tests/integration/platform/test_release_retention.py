"""What a champion, a challenger or a rollback needs keeps its files; the rest goes, and says so beforehand."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from airworthy import registry
from airworthy.config import Settings, UseCase, get_settings, get_use_case
from airworthy.delivery import candidates, rollback
from airworthy.errors import ReleaseError
from airworthy.lake import tables
from airworthy.ledger import promotions
from airworthy.ledger.clock import advance, wall_now
from airworthy.ledger.database import transaction
from airworthy.ledger.models import Candidate, TrainingSet
from airworthy.platform import release_retention, retention
from airworthy.platform.every_table import table_schemas
from airworthy.records import Release, TrainingSetRef

from ..serving import world  # noqa: TID252 - one small world for both


def aged(days: int = 60) -> None:
    """Everything in the ledger happened long ago."""
    with transaction() as session:
        for table, column in (("release", "updated_at"), ("training_set", "built_at"), ("candidate", "at")):
            session.execute(text(f"UPDATE {table} SET {column} = {column} - make_interval(days => {days})"))


def folder(made: Release) -> Path:
    return Path(registry.release_folder(made.digest))


def staged(made: Release) -> Path:
    return Path(get_settings().release_url) / "models" / made.model_digest


def reference(made: Release, file: Path) -> TrainingSetRef:
    day = wall_now()
    return TrainingSetRef(
        use_case=made.use_case, digest=made.digest, url=str(file), data_versions={}, feature_service="s",
        feature_digest="f", columns={}, train_rows=1, holdout_rows=1, train_start=day, train_end=day, holdout_start=day,
        holdout_end=day, data_time=day, label_rate=0.5,
    )  # fmt: skip


def known(made: Release, use_case: UseCase) -> None:
    """The candidate and the training set of a release, as `fit` leaves them."""
    verdict = registry.load_verdict(made.digest)
    record = verdict.model_copy(update={"training_set_digest": made.digest})
    promotions.record_verdict(record, {})
    file = Path(get_settings().release_url) / "training_sets" / f"{made.digest}.parquet"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"rows")
    with transaction() as session:
        session.add(TrainingSet(digest=made.digest, use_case=use_case.name, ref=reference(made, file).to_json()))
        session.add(
            Candidate(
                run_id=made.digest, use_case=use_case.name, model_digest=made.model_digest, training_set=made.digest,
                run="r", recipe={}, revision="x", lock="x", metrics={}, predictions={},
            )
        )  # fmt: skip


@pytest.fixture
def shop(platform_env: Settings, monkeypatch: pytest.MonkeyPatch) -> UseCase:
    """The tiny use case with its tables, without a row in them."""
    monkeypatch.setenv("AIRWORTHY_USE_CASES", "tiny_orders")
    get_settings.cache_clear()
    case = get_use_case("tiny_orders")
    for name, schema in table_schemas(case).items():
        tables.create(name, schema)
    advance(case, world.NOW)
    return case


@pytest.fixture
def history(shop: UseCase, monkeypatch: pytest.MonkeyPatch) -> dict[str, Release]:
    """Five champions one after the other, one that workers refused, a superseded one, and an open challenger; all old."""
    monkeypatch.setenv("AIRWORTHY_KEEP_RELEASES", "2")
    get_settings.cache_clear()
    made: dict[str, Release] = {}
    before = None
    for number, name in enumerate(("first", "second", "third", "bad", "champion"), 1):
        made[name] = world.release(shop, seed=number, version=number)
        world.promote(shop, made[name], expected=before)
        before = made[name].digest
    world.undone(shop, made["bad"])
    for number, name in enumerate(("superseded", "challenger"), 6):
        made[name] = world.release(shop, seed=number, version=number)
    promotions.set_release_state(made["superseded"].digest, "retired", "superseded")
    for release in made.values():
        known(release, shop)
    aged()
    return made


def test_what_is_needed_stays_with_the_reason_and_the_rest_goes(shop: UseCase, history: dict[str, Release]) -> None:
    # When it is only asked, then it says what would go, and why the others stay; nothing goes.
    asked = release_retention.plan(shop)
    stays = {name: asked.needed.get(made.digest, "") for name, made in history.items()}
    assert stays == {
        "champion": "it is champion", "third": "a rollback can go back to it", "second": "a rollback can go back to it",
        "challenger": "it waits for its delivery", "first": "", "bad": "", "superseded": "",
    }  # fmt: skip
    goes = [history[n] for n in ("first", "bad", "superseded")]
    assert set(asked.releases) == set(asked.training_sets) == {made.digest for made in goes}
    assert set(asked.models) == {made.model_digest for made in goes}
    assert all(folder(made).exists() and staged(made).exists() for made in history.values())
    # When it is tidied up, then just that goes; twice is once.
    outcome = retention.tidy()
    assert set(outcome.releases) == set(outcome.training_sets) == {made.digest for made in goes}
    assert {n for n, m in history.items() if not folder(m).exists()} == {"first", "bad", "superseded"}
    assert {n for n, m in history.items() if not staged(m).exists()} == {"first", "bad", "superseded"}
    kept = {p.stem for p in (Path(get_settings().release_url) / "training_sets").iterdir()}
    assert kept == {m.digest for n, m in history.items() if stays[n]}
    again = retention.tidy()
    assert again.releases == again.models == again.training_sets == ()
    # Then the rest of the platform knows: it is no choice of a rollback, cannot be promoted, and lineage has its row.
    assert [c.digest for c in candidates(shop)] == [history["third"].digest, history["second"].digest]
    assert rollback(shop, who="op", why="?").to_digest == history["third"].digest
    with pytest.raises(ReleaseError, match="were removed by retention"):
        world.promote(shop, history["first"], expected=history["third"].digest)
    assert promotions.champion(shop.name) == promotions.Champion(history["third"].digest, 6)
    assert promotions.get_release(history["first"].digest) == history["first"]


def test_what_is_needed_cannot_be_removed_by_name(shop: UseCase, history: dict[str, Release]) -> None:
    for name, words in (("champion", "champion"), ("third", "rollback"), ("challenger", "waits for its delivery")):
        with pytest.raises(ReleaseError, match=f"stays: .*{words}"):
            release_retention.remove_release(shop, history[name].digest)
        assert folder(history[name]).exists()
    assert release_retention.remove_release(shop, history["first"].digest)
    assert not folder(history["first"]).exists()


def test_what_a_live_worker_answers_with_and_what_is_young_stays(shop: UseCase, history: dict[str, Release]) -> None:
    promotions.report_worker("far", 7, shop.name, 1, history["first"].digest)
    promotions.set_release_state(history["bad"].digest, "refused", "just now")
    asked = release_retention.plan(shop)
    assert asked.needed[history["first"].digest] == "worker far/7 answers with it"
    assert asked.needed[history["bad"].digest] == "refused less than 30 days ago"
    assert asked.releases == (history["superseded"].digest,)


def test_a_rollback_in_the_same_moment_wins_or_is_refused_but_never_loses_its_files(
    shop: UseCase, history: dict[str, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is old by the time that files go: whoever has the row's lock first decides."""
    wanted = history["first"]
    real = promotions.mark_removed

    def late(digest: str, reason: str) -> bool:
        if digest == wanted.digest:
            other = threading.Thread(
                target=lambda: world.promote(shop, wanted, expected=history["champion"].digest, action="rollback")
            )
            other.start()
            other.join()
        return real(digest, reason)

    monkeypatch.setattr(promotions, "mark_removed", late)
    outcome = retention.tidy()
    assert wanted.digest not in outcome.releases
    assert registry.verify(wanted.digest) == wanted
    assert promotions.champion(shop.name) == promotions.Champion(wanted.digest, 6)


def test_a_removal_that_died_half_way_is_finished(shop: UseCase, history: dict[str, Release]) -> None:
    assert promotions.mark_removed(history["first"].digest, "x")
    assert folder(history["first"]).exists()
    assert history["first"].digest in retention.tidy().releases
    assert not folder(history["first"]).exists()


def test_a_training_set_built_again_is_young_again(shop: UseCase, history: dict[str, Release]) -> None:
    digest = history["first"].digest
    with transaction() as session:
        row = session.get(TrainingSet, digest)
        assert row is not None
        row.built_at = wall_now() - timedelta(minutes=1)
    assert digest not in retention.tidy().training_sets
