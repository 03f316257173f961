"""What moved a prediction, what clients say about it, and the page that its answer links to."""

from __future__ import annotations

import json
from pathlib import Path

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
        check_explanation(api, orders, made.digest)
        identity = check_feedback(api, orders)
        link = api.post("/predict", ORDER).headers["Link"]
    assert link.startswith(f"<{get_settings().reports_url}/why/")
    check_why(identity)


def check_explanation(api: Service, orders: UseCase, digest: str) -> None:
    answer = api.post("/explain", {"requests": [ORDER, {**ORDER, "customer": "c99"}]})
    known, unknown = answer.json()["predictions"]
    # Each effect is the difference that the model itself makes of withholding that one value.
    model = registry.load(digest)
    for one in (known, unknown):
        vector = logged(orders)[one["prediction_id"]]["features"]
        assert {e["feature"] for e in one["effects"]} == {name for name, value in vector.items() if value is not None}
        for effect in one["effects"]:
            without = float(model.predict([{**vector, effect["feature"]: None}])[0])
            assert effect["change"] == pytest.approx(one["probability"] - without, abs=1e-12)
            assert effect["value"] == vector[effect["feature"]]
        sizes = [abs(e["change"]) for e in one["effects"]]
        assert sizes == sorted(sizes, reverse=True)
    assert len(unknown["effects"]) < len(known["effects"])
    assert api.post("/explain", {"requests": [ORDER] * 21}).json()["problems"][0]["field"] == "requests"


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
