"""MLflow's scoring protocol: ``/invocations``, ``/ping``, ``/version``.

Bodies as MLflow 2 and 3 document them: JSON with one of ``dataframe_split``, ``dataframe_records``, ``instances`` and ``inputs``, or
CSV with a header. The answer holds the probability of a positive label for each row. A missing value is ``null`` or ``NaN``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from airworthy.config import Settings
from airworthy.serving.contract import example
from airworthy.serving.guards import key_dependencies
from airworthy.serving.metrics import Metrics
from airworthy.serving.plain_route import Call, PlainRoute, answer_json, documented, media_type, provenance
from airworthy.serving.predictor import Predictor
from airworthy.serving.protocols.rows import RowAnswers, parse_json, refuse

Rows = list[dict[str, Any]]

_NEEDED = frozenset({"columns", "data"})
_KNOWN = _NEEDED | {"index"}


@dataclass(kw_only=True, slots=True)
class Probabilities:
    """MLflow's form of an answer: the probability of a positive label for each row."""

    predictions: list[float]


class Split(BaseModel):
    """A table by columns and rows."""

    columns: list[str]
    data: list[list[Any]]
    index: list[Any] = []


class Body(BaseModel):
    """MLflow's forms of a table; give exactly one."""

    dataframe_split: Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: list[dict[str, Any]] | dict[str, Any] | None = None
    inputs: list[dict[str, Any]] | dict[str, Any] | None = None
    params: dict[str, Any] | None = None


def router(predictor: Predictor, metrics: Metrics, settings: Settings) -> APIRouter:
    """The protocol's routes for one use case."""
    case = predictor.use_case
    answers = RowAnswers(predictor)
    routes, plain = APIRouter(), APIRouter(route_class=PlainRoute)
    one = example(case)
    line = ",".join(one) + "\n" + ",".join(map(str, one.values())) + "\n"
    body = documented(
        Body,
        {
            "records": {"summary": "Rows by name", "value": {"dataframe_records": [one]}},
            "split": {
                "summary": "Columns once",
                "value": {"dataframe_split": {"columns": list(one), "data": [list(one.values())]}},
            },
        },
    )
    body["requestBody"]["content"]["text/csv"] = {"schema": {"type": "string"}, "example": line}

    @plain.post(
        "/invocations", summary="MLflow's scoring protocol", openapi_extra=body, dependencies=key_dependencies(settings),
        responses={200: {"model": Probabilities}, 422: {"description": "Columns or values that cannot be used are named"}},
    )  # fmt: skip
    async def invocations(call: Call) -> Response:
        rows = _rows(media_type(call), call.content, predictor)
        with metrics.prediction(case.name):
            found = (await answers.answer(rows)).predictions
        metrics.count(case.name, found)
        probabilities = Probabilities(predictions=[one.probability for one in found])
        return answer_json(probabilities, provenance(settings, found))

    routes.include_router(plain)

    @routes.get("/ping", summary="MLflow's scoring protocol: a champion answers", response_class=PlainTextResponse)
    def ping() -> str:
        predictor.serving()
        return "\n"

    @routes.get("/version", summary="MLflow's version of the protocol", response_class=PlainTextResponse)
    def protocol_version() -> str:
        return version("mlflow")

    return routes


def _rows(kind: str, body: bytes, predictor: Predictor) -> Rows:
    if kind == "text/csv":
        return _csv(body, predictor)
    if kind != "application/json":
        refuse(("content-type", f"{kind[:60] or 'none'}; send application/json or text/csv"))
    content = parse_json(body, nan_is_missing=True)  # MLflow's own client writes a missing number so
    given = [name for name in content if name in _READ]
    if len(given) != 1:
        refuse(("body", f"give exactly one of {', '.join(_READ)}"))
    if len(content) > 1:
        if unknown := sorted(content.keys() - {given[0], "params"}):
            refuse(*((name[:60], "unknown") for name in unknown[:10]))
        if content.get("params"):
            refuse(("params", "this model takes none"))
    return _READ[given[0]](given[0], content[given[0]])


def _split(name: str, value: Any) -> Rows:
    if not isinstance(value, dict) or not _NEEDED <= value.keys() <= _KNOWN:
        refuse((name, "give columns and data"))
    columns, data = value["columns"], value["data"]
    if not _is_names(columns) or not isinstance(data, list):
        refuse((f"{name}.columns", "give a list of different names, and data as a list of rows"))
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            refuse((f"{name}.data.{number}", f"not a list of {len(columns)} values"))
    return [dict(zip(columns, row, strict=True)) for row in data]


def _records(name: str, value: Any) -> Rows:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        refuse((name, "give a list of objects, one for each row"))
    return list(value)


def _columns(name: str, value: Any) -> Rows:
    """Columns by name, each a list; a list of objects is rows."""
    if not isinstance(value, dict):
        return _records(name, value)
    lists = {column: values if isinstance(values, list) else [values] for column, values in value.items()}
    if len({len(values) for values in lists.values()}) != 1:
        refuse((name, "the columns do not have the same length"))
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


_READ: Mapping[str, Callable[[str, Any], Rows]] = {
    "dataframe_split": _split, "dataframe_records": _records, "instances": _columns, "inputs": _columns,
}  # fmt: skip


def _csv(body: bytes, predictor: Predictor) -> Rows:
    try:
        header, *lines = csv.reader(io.StringIO(body.decode("utf-8")), strict=True)
    except (ValueError, csv.Error) as error:
        refuse(("body", f"no CSV with a header: {str(error)[:200]}"))
    if not _is_names(header):
        refuse(("body", "a column's name is there twice"))
    kinds = {**predictor.use_case.prediction.request, **predictor.serving().model.columns}
    rows = []
    for number, line in enumerate(lines):
        if len(line) != len(header):
            refuse((f"line {number + 2}", f"{len(line)} values for {len(header)} columns"))
        rows.append({name: _cell(number, name, text, kinds.get(name, "string")) for name, text in zip(header, line)})  # noqa: B905
    return rows


def _cell(number: int, name: str, text: str, kind: str) -> Any:
    """CSV has no types: the column's own decides; an empty cell is a missing value."""
    if not text:
        return None
    if kind in ("string", "timestamp"):
        return text
    if kind in ("bool", "boolean") and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if kind.startswith("int") else float(text)
    except ValueError:
        refuse((f"line {number + 2}.{name[:60]}", f"not a value of type {kind}"))


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) == {str} and len(value) == len(set(value))
