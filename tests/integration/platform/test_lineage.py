"""Lineage goes both ways from whatever one has, and `why` says the same in words."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from typer.testing import CliRunner

from airworthy import registry
from airworthy.cli import app
from airworthy.config import UseCase, get_settings
from airworthy.errors import ConfigurationError
from airworthy.lake import tables
from airworthy.ledger import promotions
from airworthy.ledger.clock import data_now
from airworthy.monitoring.collect import collect, table_schemas
from airworthy.platform import lineage
from airworthy.platform.lineage import Node
from airworthy.platform.lineage_things import find
from airworthy.platform.why import why
from airworthy.records import Release
from airworthy.serving.spool import Spool


def nodes(node: Node) -> list[tuple[str, str]]:
    return [(node.kind, node.name), *(found for child in node.children for found in nodes(child))]


def answered(case: UseCase, release: Release, identity: str) -> dict[str, Any]:
    """A prediction as the service logs it, by a process that has ended."""
    model = registry.load(release.digest)
    vector = dict.fromkeys(model.columns) | {"order_amount": 90.0, "order_hour": 12, "order_channel": "web"}
    probability = float(model.predict([vector])[0])
    record = {
        "prediction_id": identity, "at": "2024-01-15T00:00:00Z", "prediction_time": "2024-01-15T00:00:00Z",
        "use_case": case.name, "release": release.digest, "model_digest": release.model_digest, "generation": 1,
        "probability": probability, "decision": probability >= case.problem.threshold, "latency_ms": 1.0,
        "missing": ["tiny_orders_customer"], "stale": [], "id": {"order_id": "o1"}, "request": {"customer": "c07"},
        "features": vector, "feature_service": "s", "feature_digest": "f",
    }  # fmt: skip
    pid = os.fork()
    if not pid:
        Spool(get_settings().spool, case.name, "test").append([record])
        os._exit(0)
    os.waitpid(pid, 0)
    return record


def test_from_anything_to_its_roots_and_its_fruits(version: tuple[UseCase, Release]) -> None:
    # Given a version that was promoted and answered two predictions, one of which was collected.
    case, release = version
    promotions.promote(
        case.name, release.digest, expected=None, action="promote", verdict_id=release.verdict_id, who="the desk",
        why="the first one", data_time=data_now(case),
    )  # fmt: skip
    for name, schema in table_schemas(case).items():
        tables.create(name, schema)
    answered(case, release, "a" * 32)
    collect(case)
    record = answered(case, release, "b" * 32)
    verdict = promotions.get_verdict(release.verdict_id)
    assert verdict is not None
    digest = verdict.training_set_digest
    clean, day = "tiny_orders/clean/orders", "2024-01-05"
    own = "tiny_orders/1"

    # A prediction goes up to the landed files, whether it is in the log or in the spool.
    for identity in ("a" * 32, "b" * 32):
        found = nodes(lineage.up(find(identity)))
        assert found[:2] == [("prediction", identity), ("release", own)]
        for one in (
            ("model", release.model_digest),
            ("training set", digest),
            ("table", clean),
            ("landed files", "tiny_orders/orders"),
        ):
            assert one in found
        assert [name for kind, name in found if kind == "cause"] == ["7"]
        assert {"code", "packages", "verdict"} <= {kind for kind, _ in found}
    # Every way to name the version means the same; its fruits are the promotion and the prediction.
    for words in ("1", "v1", "tiny_orders/1", f"v1-{release.digest[:12]}", release.digest[:8], release.model_digest):
        assert find(words).key == release.digest
    assert nodes(lineage.down(find("v1"))) == [
        ("release", own), ("promotion", "generation 1"), ("predictions", "tiny_orders/log/predictions"),
    ]  # fmt: skip
    # A landed file and an interval go down to the predictions, by themselves and by the features.
    landed = f"{get_settings().landing_url}/tiny_orders/orders/{day}/orders-{day}.csv"
    for words in (landed, f"tiny_orders/orders/{day}", f"{clean}/{day}"):
        found = nodes(lineage.down(find(words)))
        assert ("interval", f"{clean}/{day}") in found
        assert found.count(("training set", digest)) == 2
        assert ("features", "tiny_orders/features/customer") in found or [k for k, _ in found if k == "features"]
        assert ("predictions", "tiny_orders/log/predictions") in found
    # A day that no training set can have seen leads to none; a feature interval goes up to its files.
    assert not [n for n in nodes(lineage.down(find(f"{clean}/2024-02-05"))) if n[0] == "training set"]
    (view,) = {name for kind, name in nodes(lineage.down(find(f"{clean}/{day}"))) if kind == "features"}
    assert ("landed file", f"tiny_orders/orders/{day}") in nodes(lineage.up(find(f"{view}/{day}")))
    assert nodes(lineage.down(find(digest)))[1] == ("release", own)

    # `why` says who, on what evidence, which data, what moved it; and that the release answers the same again.
    parts = dict(why(find("b" * 32)).parts)
    assert f"{record['probability']:.4f}" in parts["answer"]
    assert "nothing from: tiny_orders_customer" in parts["features"]
    assert "the release gives the same answer again" in parts["what moved it"]
    assert " = unknown (" in parts["what moved it"]
    assert parts["what moved it"].startswith(("order_amount = 90", "order_channel = web", "order_hour = 12"))
    assert "the desk" in parts["who let it serve"]
    assert "none: it was judged by absolute bounds" in parts["champion before"]
    assert "drift by monitor (share 0.6)" in parts["asked for by"]
    assert digest[:12] in parts["data"]
    about = dict(why(find("tiny_orders/1")).parts)
    assert about["state"].startswith("champion")
    assert about["predictions"] == "1 in the prediction log"

    # The commands show the same, also as JSON, each on one screen.
    runner = CliRunner()
    told = runner.invoke(app, ["lineage", "1", "--up", "--json"])
    assert list(json.loads(told.stdout)) == ["comes from"]
    assert "landed files" in runner.invoke(app, ["lineage", "a" * 32]).stdout
    screen = runner.invoke(app, ["why", "b" * 32], env={"COLUMNS": "120"}).stdout
    assert len(screen.splitlines()) <= 40
    assert "who let it serve" in screen


def test_what_is_unknown_or_ambiguous_is_said(version: tuple[UseCase, Release]) -> None:
    case, release = version
    promotions.record_release(
        release.model_copy(update={"digest": release.digest[:8] + "0" * 56, "version": 2, "verdict_id": "v"})
    )
    for words in ("nothing", "99", "tiny_orders/9", "f" * 32, "another/1"):
        with pytest.raises(ConfigurationError, match="there is no prediction, version"):
            find(words)
    with pytest.raises(ConfigurationError, match="fits several: tiny_orders release"):
        find(release.digest[:8])
    with pytest.raises(ConfigurationError, match="holds no batch predictions"):
        why(find("tiny_orders/clean/orders/2024-01-05"))
    assert find("2").key != release.digest
    assert case.name == "tiny_orders"
