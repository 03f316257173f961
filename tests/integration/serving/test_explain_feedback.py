"""What moved a prediction, what clients say about it, and the page that its answer links to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from airworthy import registry
from airworthy.cli import app
from airworthy.config import UseCase, get_settings
from airworthy.lake import tables
from airworthy.ledger.feedback import feedback
from airworthy.monitoring.collect import table_schemas
from airworthy.platform import reports
from airworthy.training import model_files
from ports import free_port

from .test_prediction_api import logged
from .world import ORDER, Service, promote, release, service


def test_explanations_feedback_and_why(orders: UseCase, tmp_path: Path) -> None:
    made = release(orders, seed=1)
    champion = promote(orders, made)
    for table, schema in table_schemas(orders).items():
        tables.create(table, schema)
    with service(free_port(), tmp_path) as api:
        api.wait_generation(orders, champion.generation, 60)
        explained = check_explanation(api, orders, made.digest)
        identity = check_feedback(api, orders)
        link = api.post("/predict", ORDER).headers["Link"]
    assert link.startswith(f"<{get_settings().reports_url}/why/")
    check_why(identity)
    check_command(explained)


def check_explanation(api: Service, orders: UseCase, digest: str) -> dict[str, Any]:
    answer = api.post("/explain", {"requests": [ORDER, {**ORDER, "customer": "c99"}]})
    known, unknown = answer.json()["predictions"]
    # They say what each value that was used did, unknown ones included, and sum to the answer.
    model = registry.load(digest)
    for one in (known, unknown):
        vector = logged(orders)[one["prediction_id"]]["features"]
        assert {e["feature"]: e["value"] for e in one["effects"]} == {name: vector[name] for name in model.columns}
        assert one["base"] + sum(e["change"] for e in one["effects"]) == pytest.approx(one["probability"], abs=1e-9)
        sizes = [abs(e["change"]) for e in one["effects"]]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > 0.01
    # The base is what the model says of the training rows that its release keeps.
    kept = [golden["probability"] for golden in model.golden[: -model_files.MADE_UP]]
    assert known["base"] == pytest.approx(sum(kept) / len(kept), abs=1e-12)
    assert any(e["value"] is None for e in unknown["effects"])
    assert api.post("/explain", {"requests": [ORDER] * 21}).json()["problems"][0]["field"] == "requests"
    return dict(known)


def check_command(one: dict[str, Any]) -> None:
    """The command gives the attributions that the service gave."""
    said = CliRunner().invoke(app, ["why", one["prediction_id"], "--json"])
    assert said.exit_code == 0, said.output
    moved = dict(json.loads(said.output)["parts"])["what moved it"]
    for effect in one["effects"][:5]:
        assert f"{effect['feature']} = " in moved
        assert f"({effect['change']:+.3f})" in moved
    assert f"from {one['base']:.4f} all {len(one['effects'])} of them sum to the probability" in moved
    assert "the same answer again" in moved


def check_feedback(api: Service, orders: UseCase) -> str:
    (one,) = api.post("/predict", ORDER).json()["predictions"]
    identity, stranger = one["prediction_id"], "0" * 32
    items = [
        {"kind": "label", "prediction_id": identity, "label": not one["decision"]},
        {"kind": "dispute", "prediction_id": identity, "comment": "we <b>called</b> them"},
        {"kind": "comment", "prediction_id": stranger, "comment": "which one was it?"},
    ]
    # Kept once, however often it is sent.
    assert api.post("/feedback", {"feedback": items}).json() == {"kept": 3, "repeated": 0}
    assert api.post("/tiny_orders/feedback", {"feedback": items[:2]}).json() == {"kept": 0, "repeated": 2}
    changed = {**items[0], "label": one["decision"]}
    assert api.post("/feedback", {"feedback": [changed, changed]}).json() == {"kept": 1, "repeated": 1}
    assert len(feedback(orders.name)) == 4
    for bad, field in [
        ({"kind": "label", "prediction_id": identity}, "label"),
        ({"kind": "label", "prediction_id": identity, "label": "yes"}, "label"),
        ({"kind": "label", "prediction_id": "../../x", "label": True}, "prediction_id"),
        ({"kind": "dispute", "prediction_id": identity, "comment": "x" * 2001}, "comment"),
        ({"kind": "comment", "prediction_id": identity, "comment": ""}, "comment"),
        ({"kind": "comment", "prediction_id": identity, "comment": "a", "label": True}, "label"),
        ({"kind": "praise", "prediction_id": identity}, "0"),
    ]:
        answer = api.post("/feedback", {"feedback": [bad]})
        assert answer.status_code == 422, bad
        assert answer.json()["problems"][0]["field"].endswith(field), (bad, answer.text)
    assert len(feedback(orders.name)) == 4
    # The command shows it beside the prediction; one that nobody made is said to be none.
    shown = CliRunner().invoke(app, ["feedback", "tiny_orders", "--json"])
    assert shown.exit_code == 0, shown.output
    rows = json.loads(shown.output)
    assert (rows[0]["kind"], rows[0]["label"]) == ("label", one["decision"])  # the newest first
    assert {(r["kind"], r["label"], r["probability"]) for r in rows} == {
        ("label", one["decision"], one["probability"]), ("label", not one["decision"], one["probability"]),
        ("dispute", None, one["probability"]), ("comment", None, None),
    }  # fmt: skip
    table = CliRunner().invoke(app, ["feedback", "tiny_orders"], env={"COLUMNS": "250"}).output
    assert "not in the prediction log" in table
    return str(identity)


def check_why(identity: str) -> None:
    """The page of the reports' server, for who has the id."""
    client = TestClient(reports.create_app(reports.folder(get_settings())))  # type: ignore[arg-type]
    page = client.get(f"/why/{identity}")
    assert page.status_code == 200
    for words in (identity, "what moved it", "as champion", "we &lt;b&gt;called&lt;/b&gt; them"):
        assert words in page.text
    assert client.get(f"/why/{'0' * 32}").status_code == 404
    assert client.get("/why/1").status_code == 404
