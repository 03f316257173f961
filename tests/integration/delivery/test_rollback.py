"""A rollback goes to what really served before, under load, in seconds, without a failed request."""

from __future__ import annotations

from pathlib import Path

import pytest

from airworthy import registry
from airworthy.config import UseCase
from airworthy.delivery import candidates, rollback, watch
from airworthy.delivery.rollback import RollbackError
from airworthy.errors import NoChampionError, ReleaseError
from airworthy.ledger import promotions
from airworthy.training import model_files
from ports import free_port

from ..serving.world import (  # noqa: TID252 - one small world for both
    Traffic,
    delivered,
    promote,
    release,
    release_of,
    service,
    undone,
)


def test_rollback_under_load_to_what_served_before_and_then_further_back(orders: UseCase, tmp_path: Path) -> None:
    # Given three champions one after the other, and a service under load.
    first, second, third = (release(orders, seed=n, version=n) for n in (1, 2, 3))
    promote(orders, first)
    promote(orders, second, expected=first.digest)
    promote(orders, third, expected=second.digest)
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, 3, 60)
        with Traffic(api.url).running() as traffic:
            traffic.wait(100)
            # When it is rolled back, and rolled back again.
            once = rollback(orders, who="op", why="it flags everyone")
            mark = len(traffic.answers)
            traffic.wait(100)
            twice = rollback(orders, who="op", why="still")
            traffic.wait(100)
    # Then it went to the second and to the first, not back to the one that was withdrawn; nobody noticed.
    assert (once.from_digest, once.to_digest, once.generation) == (third.digest, second.digest, 4)
    assert (twice.from_digest, twice.to_digest, twice.generation) == (second.digest, first.digest, 5)
    assert once.seconds < 30
    assert (once.workers, "aliases" in once.note) == (1, True)
    assert traffic.failures == []
    assert traffic.answers[mark + 4]["version"] == f"v2-{second.digest[:12]}"
    assert traffic.answers[-1]["version"] == f"v1-{first.digest[:12]}"
    last = promotions.promotion_log(orders.name)[-2]
    assert (last.action, last.who, last.why) == ("rollback", "op", "it flags everyone")
    # Both others are candidates still, marked, and can be named.
    assert [(c.version, c.withdrawn) for c in candidates(orders)] == [(2, True), (3, True)]
    with pytest.raises(RollbackError, match="nothing to roll back to"):
        rollback(orders, who="op", why="again")
    named = rollback(orders, to=third.digest[:8], who="op", why="it was right")
    assert (named.to_digest, named.workers) == (third.digest, 0)


def test_without_a_champion_or_an_earlier_one_it_says_so(orders: UseCase) -> None:
    with pytest.raises(NoChampionError, match="deliver a release first"):
        rollback(orders, who="op", why="?")
    assert candidates(orders) == []
    first, never = release(orders, seed=1), release(orders, seed=2)
    promote(orders, first)
    with pytest.raises(RollbackError, match="nothing to roll back to"):
        rollback(orders, who="op", why="?")
    # A release that never served is no choice, however it is named.
    with pytest.raises(RollbackError, match="served before"):
        rollback(orders, to=never.digest, who="op", why="?")
    with pytest.raises(RollbackError):
        rollback(orders, to=first.digest, who="op", why="to itself")
    assert len(promotions.promotion_log(orders.name)) == 1


def test_a_release_that_workers_refused_never_served(orders: UseCase) -> None:
    first, bad, third = (release(orders, seed=n, version=n) for n in (1, 2, 3))
    promote(orders, first)
    promote(orders, bad, expected=first.digest)
    undone(orders, bad)
    promote(orders, third, expected=bad.digest)
    assert [c.version for c in candidates(orders)] == [1]
    assert rollback(orders, who="op", why="?").to_digest == first.digest


def test_what_was_rolled_back_by_hand_while_it_was_watched_did_serve(orders: UseCase) -> None:
    # Given a champion that every worker acknowledged, and that somebody rolls back while its delivery watches it.
    first, second = (release(orders, seed=n, version=n) for n in (1, 2))
    promote(orders, first)
    promote(orders, second, expected=first.digest)
    number = delivered(orders, second, "approval", "promote", "watch").id
    rollback(orders, who="op", why="a call from a client")

    ended = watch(orders, number, run="r")

    # Then nothing is wrong with it: it stays, and can be gone back to by name.
    assert (ended.status, "rollback by op" in ended.reason) == ("stale", True)
    assert [(c.digest, c.withdrawn) for c in candidates(orders)] == [(second.digest, True)]
    assert [r.digest for r in promotions.releases(orders.name, "retired")] == [second.digest]
    # And so it is when it is turned down later; only it is nobody's default.
    promotions.set_release_state(second.digest, "refused", "its next trial aborted it")
    assert rollback(orders, to=second.digest[:10], who="op", why="it was right").to_digest == second.digest
    promotions.set_release_state(first.digest, "refused", "another day")
    assert [(c.digest, c.withdrawn) for c in candidates(orders)] == [(first.digest, True)]


def test_an_altered_release_changes_nothing(orders: UseCase) -> None:
    first, second = release(orders, seed=1), release(orders, seed=2)
    promote(orders, first)
    promote(orders, second, expected=first.digest)
    (Path(registry.release_folder(first.digest)) / "encoder.json").write_text("{}")
    with pytest.raises(ReleaseError, match="altered"):
        rollback(orders, who="op", why="?")
    assert promotions.champion(orders.name) == promotions.Champion(second.digest, 2)


def test_digits_that_fit_several_releases_are_refused(orders: UseCase) -> None:
    # More releases than there are first digits; they differ in their version only.
    first = release(orders, seed=1)
    model, folder = first.model_digest, f"{model_files.models_url()}/{first.model_digest}"
    made = [release_of(orders, model, folder, version=n, against=None) for n in range(1, 19)]
    before = None
    for one in made:
        promote(orders, one, expected=before)
        before = one.digest
    firsts = [m.digest[0] for m in made[:-1]]
    common = max(firsts, key=firsts.count)
    with pytest.raises(RollbackError, match="more digits"):
        rollback(orders, to=common, who="op", why="?")


def test_a_release_of_other_feature_definitions_is_no_way_back(orders: UseCase) -> None:
    first = release(orders, seed=1, definitions={"tiny_orders_customer": "another"})
    second = release(orders, seed=2)
    promote(orders, first)
    promote(orders, second, expected=first.digest)
    with pytest.raises(RollbackError, match=r"other feature definitions .*: tiny_orders_customer changed"):
        rollback(orders, who="op", why="?")
    assert promotions.champion(orders.name) == promotions.Champion(second.digest, 2)
