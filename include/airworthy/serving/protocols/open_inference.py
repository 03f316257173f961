"""The Open Inference Protocol, version 2, over HTTP: health, metadata and ``infer``, as KServe and Triton's clients speak it.

Each column is a tensor of shape [n] or [n, 1]. Tensors come as JSON or by Triton's binary extension; answers are JSON.
A missing value is ``null`` in JSON, NaN in a binary tensor of floating-point numbers, and an empty text in a binary tensor of texts.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from airworthy.config import Settings
from airworthy.serving.contract import MAX_BATCH, Prediction, example
from airworthy.serving.guards import key_dependencies
from airworthy.serving.metrics import Metrics
from airworthy.serving.plain_route import Call, PlainRoute, answer_json, documented, provenance
from airworthy.serving.predictor import Predictor
from airworthy.serving.protocols.rows import RowAnswers, parse_json, refuse

NUMBERS = {
    "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4",
    "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BOOL": "|b1",
}  # fmt: skip
DATATYPES = {"string": "BYTES", "timestamp": "BYTES", "boolean": "BOOL", "bool": "BOOL", "int64": "INT64"}
OUTPUTS = {"probability": "FP64", "decision": "BOOL", "prediction_id": "BYTES"}
HEADER_LENGTH = "inference-header-content-length"


class Tensor(BaseModel):
    """One column."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class InferBody(BaseModel):
    """A request of the protocol."""

    id: str | None = None
    inputs: list[Tensor]
    outputs: list[dict[str, Any]] | None = None


class InferAnswer(BaseModel):
    """An answer of the protocol. ``model_version`` is that of the first row; the header X-Airworthy-Version names all."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


def router(predictors: Mapping[str, Predictor], metrics: Metrics, settings: Settings) -> APIRouter:
    """The protocol's routes; a model's name is its use case's."""
    routes = APIRouter(prefix="/v2")
    keys = key_dependencies(settings)
    answers = {name: RowAnswers(predictor) for name, predictor in predictors.items()}

    def find(name: str, wanted: str | None = None) -> Predictor:
        predictor = predictors.get(name)
        if predictor is None:
            raise HTTPException(404, f"there is no model {name[:60]!r}; there are {', '.join(predictors)}")
        if wanted is not None and wanted not in _versions(predictor):
            raise HTTPException(
                404, f"version {wanted[:60]!r} of {name} does not serve; {_versions(predictor)[0]} does"
            )
        return predictor

    @routes.get("", summary="About this server")
    async def server() -> dict[str, Any]:
        return {"name": "airworthy", "version": version("airworthy"), "extensions": ["binary_tensor_data"]}

    @routes.get("/health/live", summary="The process is alive")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @routes.get("/health/ready", summary="Every model is ready")
    async def ready() -> JSONResponse:
        good = all(_ready(p) for p in predictors.values())
        return JSONResponse({"ready": good}, status_code=200 if good else 503)

    @routes.get("/models/{name}/versions/{wanted}/ready", summary="This version answers")
    @routes.get("/models/{name}/ready", summary="The model answers")
    def model_ready(name: str, wanted: str | None = None) -> JSONResponse:
        good = _ready(find(name)) and _ready(find(name, wanted))
        return JSONResponse({"name": name, "ready": good}, status_code=200 if good else 503)

    @routes.get("/models/{name}/versions/{wanted}", summary="Inputs and outputs of this version", dependencies=keys)
    @routes.get("/models/{name}", summary="Inputs and outputs of the model", dependencies=keys)
    def metadata(name: str, wanted: str | None = None) -> dict[str, Any]:
        predictor = find(name, wanted)
        columns = predictor.serving().model.columns
        return {
            "name": name,
            "versions": _versions(predictor)[:1],
            "platform": "airworthy",
            "inputs": [_tensor(column, DATATYPES.get(kind, "FP64")) for column, kind in columns.items()],
            "outputs": [_tensor(output, datatype) for output, datatype in OUTPUTS.items()],
        }

    plain = APIRouter(route_class=PlainRoute)
    examples = {
        name: {
            "summary": p.use_case.title,
            "value": {"inputs": _example(example(p.use_case), p.use_case.prediction.request)},
        }
        for name, p in predictors.items()
    }
    answer = {200: {"model": InferAnswer}, 404: {"description": "No such model or version"}}
    described: Any = {"openapi_extra": documented(InferBody, examples), "responses": answer, "dependencies": keys}
    version_path = _path_parameters("name", "wanted")
    name_path = _path_parameters("name")

    @plain.post(
        "/models/{name}/versions/{wanted}/infer", summary="Predictions of this version",
        **described | {"openapi_extra": described["openapi_extra"] | version_path},
    )  # fmt: skip
    @plain.post(
        "/models/{name}/infer", summary="Predictions",
        **described | {"openapi_extra": described["openapi_extra"] | name_path},
    )  # fmt: skip
    async def infer(call: Call) -> Response:
        name, wanted = call.path_params["name"], call.path_params.get("wanted")
        find(name, wanted)
        content, binary = _split(call)
        asked = _asked(content)
        rows = _rows(content, binary)
        with metrics.prediction(name):
            found = (await answers[name].answer(rows, pinned=wanted is not None)).predictions
        metrics.count(name, found)
        given = {
            "model_name": name,
            "model_version": found[0].version,
            **({"id": str(content["id"])[:200]} if "id" in content else {}),
            "outputs": [{**_tensor(o, OUTPUTS[o], len(found)), "data": _column(found, o)} for o in asked],
        }
        return answer_json(json.dumps(given).encode(), provenance(settings, found))

    routes.include_router(plain)
    return routes


def _example(request: dict[str, Any], kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": DATATYPES.get(kinds[name], "FP64"), "shape": [1], "data": [value]}
        for name, value in request.items()
    ]


def _path_parameters(*names: str) -> dict[str, Any]:
    """Parameters of the path as the documentation shows them: these routes read them by themselves."""
    return {"parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]}


def _ready(predictor: Predictor) -> bool:
    return predictor.keeper.serving is not None and predictor.keeper.unfit is None


def _versions(predictor: Predictor) -> list[str]:
    """Names of what serves: with the digest, and the registry's number alone."""
    serving = predictor.serving()
    return [serving.version, *([] if serving.model.version is None else [str(serving.model.version)])]


def _tensor(name: str, datatype: str, rows: int = -1) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [rows]}


def _column(found: list[Prediction], name: str) -> list[Any]:
    return [getattr(one, name) for one in found]


def _asked(content: dict[str, Any]) -> list[str]:
    outputs = content.get("outputs")
    if not outputs:
        return list(OUTPUTS)
    names = [o.get("name") if isinstance(o, dict) else None for o in outputs] if isinstance(outputs, list) else [None]
    if strange := [n for n in names if not isinstance(n, str) or n not in OUTPUTS]:
        refuse(("outputs", f"{str(strange[0])[:60]!r} is none of {', '.join(OUTPUTS)}"))
    return [str(n) for n in dict.fromkeys(names)]


def _split(call: Call) -> tuple[dict[str, Any], bytes]:
    """The JSON header, and the binary tensors behind it."""
    if call.header(b"content-encoding") not in (None, "identity"):
        refuse(("content-encoding", "send the body as it is"))
    body, length = call.content, call.header(HEADER_LENGTH.lower().encode())
    if length is None:
        return parse_json(body), b""
    if not length.isdecimal() or int(length) > len(body):
        refuse((HEADER_LENGTH, "not the length of the JSON part of the body"))
    return parse_json(body[: int(length)]), body[int(length) :]


def _rows(content: dict[str, Any], binary: bytes) -> list[dict[str, Any]]:
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(i, dict) for i in inputs):
        refuse(("inputs", "give a list of tensors, one for each column"))
    columns: dict[str, list[Any]] = {}
    for tensor in inputs:
        name = tensor.get("name")
        if not isinstance(name, str) or name in columns:
            refuse(("inputs", f"a tensor needs a name of its own, not {str(name)[:60]!r}"))
        columns[name], binary = _values(name, tensor, binary)
    if binary:
        refuse(("body", f"{len(binary)} bytes belong to no tensor"))
    if len({len(values) for values in columns.values()}) != 1:
        refuse(("inputs", "the tensors do not have the same number of rows"))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(name: str, tensor: dict[str, Any], binary: bytes) -> tuple[list[Any], bytes]:
    """A tensor's values, and what is left of the binary part."""
    where, shape, datatype = f"inputs.{name[:60]}", tensor.get("shape"), tensor.get("datatype")
    whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not whole or not isinstance(shape, list) or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        refuse((where, f"shape {str(shape)[:60]}; give [n] or [n, 1]"))
    if not isinstance(datatype, str) or (datatype != "BYTES" and datatype not in NUMBERS):
        refuse((where, f"datatype {str(datatype)[:60]!r} is none of BYTES, {', '.join(NUMBERS)}"))
    rows = shape[0]
    if rows > MAX_BATCH:
        refuse((where, f"{rows} rows; send at most {MAX_BATCH}"))
    parameters = tensor.get("parameters") or {}
    if not isinstance(parameters, dict):
        refuse((where, "parameters is not an object"))
    size = parameters.get("binary_data_size")
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(binary):
            refuse((where, "binary_data_size does not fit the body"))
        return _from_binary(where, str(datatype), binary[:size], rows), binary[size:]
    data = tensor.get("data")
    if isinstance(data, list) and len(data) == rows and all(isinstance(v, list) and len(v) == 1 for v in data):
        data = [v[0] for v in data]
    if not isinstance(data, list) or len(data) != rows or any(isinstance(v, (list, dict)) for v in data):
        refuse((where, f"data is not a list of {rows} values"))
    return data, binary


def _from_binary(where: str, datatype: str, content: bytes, rows: int) -> list[Any]:
    if datatype == "BYTES":
        return _texts(where, content, rows)
    kind = np.dtype(NUMBERS[datatype])
    if len(content) != rows * kind.itemsize:
        refuse((where, f"{len(content)} bytes are not {rows} values of {datatype}"))
    found: list[Any] = np.frombuffer(content, kind).tolist()
    return [None if value != value else value for value in found]


def _texts(where: str, content: bytes, rows: int) -> list[Any]:
    """Texts, each behind its length (four bytes, little-endian)."""
    found: list[Any] = []
    while content:
        if len(content) < 4 or len(content) - 4 < (length := struct.unpack_from("<I", content)[0]):
            refuse((where, "a text is longer than the tensor"))
        try:
            found.append(content[4 : 4 + length].decode() or None)
        except UnicodeDecodeError:
            refuse((where, "a text is not UTF-8"))
        content = content[4 + length :]
    if len(found) != rows:
        refuse((where, f"{len(found)} texts for {rows} rows"))
    return found
