"""A release's golden vectors, asked of a service over the wire: its answers must be the release's own, in each protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from airworthy.errors import AirworthyError
from airworthy.training.model_files import LoadedModel

TOLERANCE = 1e-9
BATCH = 500

Rows = list[dict[str, Any]]
Ask = Callable[[httpx.Client, str, Rows], list[float]]


class GoldenError(AirworthyError):
    """Raised when a service does not give a release's golden answers."""


def invocations(client: httpx.Client, use_case: str, rows: Rows) -> list[float]:
    """Probabilities by MLflow's scoring protocol."""
    answer = _good(client.post("/invocations", json={"dataframe_records": rows}), "/invocations")
    return list(answer["predictions"])


def infer(client: httpx.Client, use_case: str, rows: Rows) -> list[float]:
    """Probabilities by the Open Inference Protocol, with the inputs that the service says it has."""
    path = f"/v2/models/{use_case}"
    inputs = _good(client.get(path), path)["inputs"]
    tensors = [{**i, "shape": [len(rows)], "data": [row[i["name"]] for row in rows]} for i in inputs]
    body = {"inputs": tensors, "outputs": [{"name": "probability"}]}
    (output,) = _good(client.post(f"{path}/infer", json=body), f"{path}/infer")["outputs"]
    return list(output["data"])


def check_golden(client: httpx.Client, use_case: str, model: LoadedModel, *protocols: Ask) -> None:
    """Ask for every golden vector, and hold the answers against the release's own.

    Args:
        client: Of the service.
        use_case: Name of the use case.
        model: The release.
        protocols: ``invocations``, ``infer``.

    Raises:
        GoldenError: an answer is not 200, not of its form, or another probability.
    """
    for ask in protocols:
        served: list[float] = []
        for start in range(0, len(model.golden), BATCH):
            rows = [golden["features"] for golden in model.golden[start : start + BATCH]]
            try:
                served += ask(client, use_case, rows)
            except (KeyError, TypeError, ValueError) as error:
                raise _wrong(
                    f"the answer of {ask.__name__} has another form: {type(error).__name__}: {error}"
                ) from error
        if len(served) != len(model.golden):
            raise _wrong(f"{len(served)} answers of {ask.__name__} to {len(model.golden)} golden vectors")
        worst = max((abs(s - float(g["probability"])) for s, g in zip(served, model.golden, strict=True)), default=0.0)
        if not worst <= TOLERANCE:
            raise _wrong(f"golden answers of {ask.__name__} are off by up to {worst:.3g}")


def _good(answer: httpx.Response, path: str) -> dict[str, Any]:
    if answer.status_code != httpx.codes.OK:
        raise _wrong(f"golden vectors are answered with {answer.status_code} by {path}: {answer.text[:300]}")
    found: dict[str, Any] = answer.json()
    return found


def _wrong(what: str) -> GoldenError:
    return GoldenError(what, next_step="see the release's files and the service's log")
