"""What every wire format comes down to: rows by column name, which are either requests or the model's own inputs.

A row whose columns are the fields of the use case's request is answered as by ``/predict``: the features are looked up. A row whose
columns are the model's inputs is scored as it is given. Anything else is refused, and its columns are named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, NoReturn

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from airworthy.serving.contract import MAX_BATCH, request_model
from airworthy.serving.predictor import Answered, Predictor

SHOWN = 10


class RowAnswers:
    """Answers rows of one use case.

    Args:
        predictor: Of the use case.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._request: type[BaseModel] = request_model(predictor.use_case)
        prediction = predictor.use_case.prediction
        self._fields = frozenset(prediction.request)
        self._needed = self._fields - set(prediction.optional)

    def looked_up(self, names: Set[str]) -> bool:
        """Whether rows with these columns are requests, whose features are looked up."""
        return self._needed <= names <= self._fields

    async def answer(self, rows: Sequence[Mapping[str, Any]], *, pinned: bool = False) -> Answered:
        """The answers, in order.

        Args:
            rows: At least one, at most 1,000, all with the same columns; None where nothing is known.
            pinned: Let the champion answer, also when a challenger is on trial.

        Raises:
            RequestValidationError: too many rows, other columns, or a value that cannot be used; each is named.
            AirworthyError: as ``Predictor.predict``.
        """
        if not 1 <= len(rows) <= MAX_BATCH:
            refuse(("body", f"{len(rows)} rows; send 1 to {MAX_BATCH}"))
        names = rows[0].keys()
        for number, row in enumerate(rows[1:], 1):
            if row.keys() != names:
                refuse((f"row {number}", f"other columns than row 0: {_listed(row.keys() ^ names)}"))
        if self.looked_up(names):
            requests = [self._checked(number, row) for number, row in enumerate(rows)]
            return await self._predictor.predict(requests, pinned=pinned)
        columns = self._predictor.serving().model.columns
        if names != columns.keys():
            problems = [(name, "missing") for name in columns if name not in names]
            refuse(*problems, *((name, "no input of the model") for name in sorted(names - columns.keys())))
        return await self._predictor.score(rows, pinned=pinned)

    def _checked(self, number: int, row: Mapping[str, Any]) -> BaseModel:
        try:
            return self._request.model_validate(row)
        except ValidationError as error:
            raise RequestValidationError(
                [{**one, "loc": (f"row {number}", *one["loc"])} for one in error.errors(include_url=False)]
            ) from None


def refuse(*problems: tuple[str, str]) -> NoReturn:
    """Answer 422 with these fields and what is wrong with them."""
    raise RequestValidationError([{"loc": (field,), "msg": words, "type": "value_error"} for field, words in problems])


def parse_json(body: bytes, *, nan_is_missing: bool = False) -> dict[str, Any]:
    """A body as a JSON object.

    Args:
        body: The body.
        nan_is_missing: Take ``NaN`` for null: it is no JSON, yet some public clients write it. Infinity is always refused.
    """
    found: Any
    with suppress(ValueError, RecursionError):
        found = msgspec.json.decode(body)
        if isinstance(found, dict):
            return found

    def constant(name: str) -> None:
        if name != "NaN" or not nan_is_missing:
            raise ValueError(f"{name} is no JSON; send null for a missing value")

    try:
        found = json.loads(body, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        refuse(("body", f"no JSON: {str(error)[:200]}"))
    if not isinstance(found, dict):
        refuse(("body", "not a JSON object"))
    return found


def _listed(names: Any) -> str:
    found = sorted(map(str, names))
    return ", ".join(n[:60] for n in found[:SHOWN]) + (" and more" if len(found) > SHOWN else "")
