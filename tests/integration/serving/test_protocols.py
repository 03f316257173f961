"""Other servers' protocols, spoken by their own public clients: MLflow's scoring server and the Open Inference Protocol."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import tritonclient.http as triton
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from tritonclient.utils import InferenceServerException

from airworthy import registry
from airworthy.config import UseCase, get_settings
from airworthy.lake import tables
from airworthy.monitoring import collect
from airworthy.monitoring.collect import log_table, table_schemas
from airworthy.serving import spool
from airworthy.training.model_files import LoadedModel
from ports import free_port

from .world import ORDER, Service, inputs, promote, release, same, service

JSON = {"Content-Type": "application/json"}
KINDS = {"string": "BYTES", "int64": "INT64", "float64": "FP64"}


def logged(case: UseCase) -> list[dict[str, Any]]:
    return [record for path in spool.files(get_settings().spool, case.name) for record, _ in spool.read(path)]


def test_public_clients_get_what_the_model_says(orders: UseCase, tmp_path: Path) -> None:
    made = release(orders, seed=1)
    model = registry.load(made.digest)
    with service(free_port(), tmp_path) as api:
        assert api.get("/ping").status_code == 503  # no champion yet
        assert api.get("/v2/health/live").status_code == 200
        assert api.get("/v2/health/ready").status_code == 503
        api.wait_generation(orders, promote(orders, made).generation)
        check_mlflow(api, orders, model)
        check_mlflow_bodies(api, model)
        check_open_inference(api, orders, model)
        check_bad_bodies(api, model)
    check_log(orders, model)


def check_mlflow(api: Service, case: UseCase, model: LoadedModel) -> None:
    # Given MLflow's own client, when it sends a data frame of the model's inputs,
    client = ScoringServerClient(api.url.split("//")[1].split(":")[0], int(api.url.rpartition(":")[2]))
    client.wait_server_ready(timeout=60)
    rows = inputs(model, 40)
    frame = pd.DataFrame(rows)
    before = len(logged(case))
    answer = client.invoke(frame).get_predictions()
    # then it gets the model's probabilities, and each is in the log with the vector as it was given;
    expected = model.predict(rows)
    same(answer.to_numpy().ravel(), expected)
    kept = logged(case)[before:]
    assert [r["features"] for r in kept] == rows
    assert {r["features_from"] for r in kept} == {"caller"}
    assert {(json.dumps(r["request"]), r["id"]["order_id"]) for r in kept} == {("{}", None)}
    # and rows that are requests are answered as by /predict: the features are looked up.
    looked_up = httpx.post(f"{api.url}/invocations", json={"dataframe_records": [ORDER]}, timeout=20).json()
    (own,) = api.post("/predict", ORDER).json()["predictions"]
    assert looked_up == {"predictions": [own["probability"]]}
    assert logged(case)[-1]["features"] == logged(case)[-2]["features"]
    assert logged(case)[-2]["features_from"] == "lookup"
    assert api.get("/version").text.count(".") == 2
    assert api.get("/tiny_orders/ping").status_code == 200


def check_mlflow_bodies(api: Service, model: LoadedModel) -> None:
    """Every form of the body says the same."""
    rows = inputs(model, 3)
    names = list(model.columns)
    data = [[row[name] for name in names] for row in rows]
    expected = model.predict(rows)
    bodies: list[dict[str, Any]] = [
        {"dataframe_split": {"columns": names, "data": data}},
        {"dataframe_split": {"columns": names[::-1], "data": [row[::-1] for row in data], "index": [5, 6, 7]}},
        {"dataframe_records": rows},
        {"instances": rows},
        {"instances": {name: [row[name] for row in rows] for name in names}},
        {"inputs": {name: [row[name] for row in rows] for name in names}, "params": {}},
    ]
    for body in bodies:
        same(api.post("/invocations", body).json()["predictions"], expected)
    text = pd.DataFrame(rows).to_csv(index=False)
    answer = httpx.post(f"{api.url}/invocations", content=text, headers={"Content-Type": "text/csv"}, timeout=20)
    same(answer.json()["predictions"], expected)
    one = httpx.post(f"{api.url}/invocations", json={"inputs": rows[0]}, timeout=20)
    same(one.json()["predictions"], expected[:1])


def tensors(model: LoadedModel, rows: list[dict[str, Any]], *, binary: bool) -> list[Any]:
    made = []
    for name, kind in model.columns.items():
        tensor = triton.InferInput(name, [len(rows), 1], KINDS[kind])
        column = [row[name] for row in rows]
        if kind == "string":
            content = np.array([[value.encode()] for value in column], dtype=np.object_)
        else:
            dtype = np.int64 if kind == "int64" else np.float64
            content = np.array([[np.nan if value is None else value] for value in column], dtype=dtype)
        tensor.set_data_from_numpy(content, binary_data=binary)
        made.append(tensor)
    return made


def check_open_inference(api: Service, case: UseCase, model: LoadedModel) -> None:
    # Given Triton's own client, when it asks about the server and the model,
    client = triton.InferenceServerClient(api.url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny_orders")
    assert client.is_model_ready("tiny_orders", "1")
    assert not client.is_model_ready("tiny_orders", "99")
    assert client.get_server_metadata()["name"] == "airworthy"
    about = client.get_model_metadata("tiny_orders")
    assert [i["name"] for i in about["inputs"]] == list(model.columns)
    assert [i["datatype"] for i in about["inputs"]] == [KINDS[kind] for kind in model.columns.values()]
    # then tensors in binary and in JSON give what the model says; NaN in a binary tensor is a missing value.
    rows = inputs(model, 25)
    answer = client.infer("tiny_orders", tensors(model, rows, binary=True), request_id="mine")
    same(answer.as_numpy("probability"), model.predict(rows))
    assert answer.as_numpy("decision").tolist() == [p >= 0.25 for p in model.predict(rows)]
    assert answer.get_response()["id"] == "mine"
    assert answer.get_response()["model_version"] == about["versions"][0]
    ids = [r["prediction_id"] for r in logged(case)[-25:]]
    assert answer.get_response()["outputs"][2]["data"] == ids
    whole = [row for row in rows if None not in row.values()]
    only = [triton.InferRequestedOutput("probability", binary_data=False)]
    chosen = client.infer("tiny_orders", tensors(model, whole, binary=False), outputs=only, model_version="1")
    same(chosen.as_numpy("probability"), model.predict(whole))
    assert [o["name"] for o in chosen.get_response()["outputs"]] == ["probability"]
    with pytest.raises(InferenceServerException, match="there is no model"):
        client.infer("others", tensors(model, whole, binary=False))
    with pytest.raises(InferenceServerException, match="does not serve"):
        client.infer("tiny_orders", tensors(model, whole, binary=False), model_version="99")
    client.close()


def check_bad_bodies(api: Service, model: LoadedModel) -> None:
    """Each is refused with 422 and names what is wrong; none is kept, none is a 500."""
    good = inputs(model, 1)[0]
    number, text = next(n for n, k in model.columns.items() if k == "float64"), "order_channel"
    less = {name: value for name, value in good.items() if name != number}
    infinite = json.dumps({"inputs": {**good, number: 1}}).replace(f'"{number}": 1', f'"{number}": 1e999')
    invocations: list[tuple[bytes, str]] = [
        (b"", "body"),
        (b"[" * 50_000, "body"),
        (b"[]", "body"),
        (b"{}", "body"),
        (b'{"inputs": [], "instances": []}', "body"),
        (b'{"inputs": []}', "body"),
        (b'{"inputs": 3}', "inputs"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', "dataframe_split.data.0"),
        (b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}', "dataframe_split.columns"),
        (b'{"inputs": {"a": [1], "b": [1, 2]}}', "inputs"),
        (json.dumps({"inputs": less}).encode(), number),
        (json.dumps({"inputs": {**good, "colour": 1}}).encode(), "colour"),
        (json.dumps({"inputs": {**good, number: "much"}}).encode(), number),
        (json.dumps({"inputs": {**good, text: 7}}).encode(), text),
        (json.dumps({"inputs": {**good, number: math.inf}}).encode(), "body"),
        (json.dumps({"inputs": {**good, text: math.nan, number: "x"}}).encode(), number),
        (infinite.encode(), number),
        (json.dumps({"inputs": {**good, number: [[1]]}}).encode(), number),
        (json.dumps({"inputs": good, "extra": 1}).encode(), "extra"),
        (json.dumps({"inputs": good, "params": {"a": 1}}).encode(), "params"),
        (json.dumps({"instances": [good] * 1001}).encode(), "body"),
        (json.dumps({"dataframe_records": [{**ORDER, "items": "many"}]}).encode(), "row 0.items"),
    ]
    before = len(logged(api_case()))
    for body, field in invocations:
        refused(httpx.post(f"{api.url}/invocations", content=body, headers=JSON, timeout=20), field, body[:80])
    for kind, body, field in [
        ("text/html", b"x", "content-type"),
        ("text/csv", b"\xff", "body"),
        ("text/csv", b"a,a\n1,2\n", "body"),
        ("text/csv", b"a,b\n1\n", "line 2"),
        ("text/csv", f"{number}\nmuch\n".encode(), f"line 2.{number}"),
    ]:
        refused(
            httpx.post(f"{api.url}/invocations", content=body, headers={"Content-Type": kind}, timeout=20), field, body
        )
    column = {"name": number, "datatype": "FP64", "shape": [1], "data": [1.0]}
    for change, field in [
        ({"shape": [2]}, f"inputs.{number}"),
        ({"shape": [1, 2]}, f"inputs.{number}"),
        ({"shape": "x"}, f"inputs.{number}"),
        ({"shape": [-1]}, f"inputs.{number}"),
        ({"shape": [True]}, f"inputs.{number}"),
        ({"datatype": "TEXT"}, f"inputs.{number}"),
        ({"data": {"a": 1}}, f"inputs.{number}"),
        ({"data": [{}]}, f"inputs.{number}"),
        ({"name": 7}, "inputs"),
        ({"parameters": {"binary_data_size": 8}}, f"inputs.{number}"),
        ({}, next(name for name in model.columns if name != number)),
    ]:
        refused(api.post("/v2/models/tiny_orders/infer", {"inputs": [{**column, **change}]}), field, change)
    for body, field in [
        ({}, "inputs"),
        ({"inputs": [1]}, "inputs"),
        ({"inputs": [column, column]}, "inputs"),
        ({"inputs": [column], "outputs": [{"name": "x"}]}, "outputs"),
        ({"inputs": [column], "outputs": 7}, "outputs"),
    ]:
        refused(api.post("/v2/models/tiny_orders/infer", body), field, body)
    nan = json.dumps({"inputs": [{**column, "data": [math.nan]}]}).encode()
    refused(httpx.post(f"{api.url}/v2/models/tiny_orders/infer", content=nan, timeout=20), "body", nan)
    head = json.dumps({"inputs": [{**column, "data": None, "parameters": {"binary_data_size": 4}}]}).encode()
    words = {**column, "datatype": "BYTES", "data": None, "parameters": {"binary_data_size": 8}}
    texts = json.dumps({"inputs": [words]}).encode()
    for length, content, field in [
        (len(head), head + b"\0" * 4, f"inputs.{number}"),
        (len(texts), texts + struct.pack("<I", 99) + b"abcd", f"inputs.{number}"),
        (len(texts), texts + struct.pack("<I", 4) + b"\xff\xfe\xff\xfe", f"inputs.{number}"),
        (10**9, head, "inference-header-content-length"),
    ]:
        headers = {"Inference-Header-Content-Length": str(length)}
        sent = httpx.post(f"{api.url}/v2/models/tiny_orders/infer", content=content, headers=headers, timeout=20)
        refused(sent, field, content[-12:])
    assert api.post("/v2/models/..%2f..%2fetc/infer", {}).status_code == 404
    assert len(logged(api_case())) == before
    assert 'status="500"' not in api.get("/metrics").text


def api_case() -> UseCase:
    from airworthy.config import get_use_case

    return get_use_case("tiny_orders")


def refused(answer: httpx.Response, field: str, what: object) -> None:
    assert answer.status_code == 422, (what, answer.text)
    assert field in {problem["field"] for problem in answer.json()["problems"]}, (what, answer.text)


def check_log(case: UseCase, model: LoadedModel) -> None:
    """Rows that callers gave whole are in the prediction log too, beside those that were looked up."""
    for table, schema in table_schemas(case).items():
        tables.create(table, schema)
    assert collect(case) == len(logged(case))
    rows = tables.read(log_table(case))
    given = [r for r in rows.to_pylist() if r["features_from"] == "caller"]
    assert len(given) > 60
    same([r["probability"] for r in given], model.predict([json.loads(r["features"]) for r in given]))


def test_with_a_key_the_protocols_ask_for_it_and_health_does_not(orders: UseCase, tmp_path: Path) -> None:
    champion = promote(orders, release(orders, seed=1))
    with service(free_port(), tmp_path, AIRWORTHY_SERVICE_API_KEY="a-secret") as api:
        api.wait_generation(orders, champion.generation)
        body = {"dataframe_records": [ORDER]}
        for path in ("/invocations", "/tiny_orders/invocations", "/v2/models/tiny_orders/infer"):
            assert api.post(path, body).status_code == 401, path
        assert api.get("/v2/models/tiny_orders").status_code == 401
        assert api.post("/invocations", body, headers={"X-API-Key": "a-secret"}).status_code == 200
        for path in ("/ping", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/tiny_orders/ready"):
            assert api.get(path).status_code == 200, path
