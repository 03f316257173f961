"""What clients send and get: request models made from the use case, strict, so that bad input is named and refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    Tag,
    create_model,
)

from airworthy.config import UseCase

MAX_TEXT = 64
MAX_BATCH = 1000
MAX_BODY = 1 << 20
MAX_NUMBER = 1e12
MARGIN = timedelta(days=366)
MAX_ERRORS = 20
MAX_EXPLAINED = 20
MAX_COMMENT = 2000

Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_TEXT, pattern=r"^[^\x00-\x1f\x7f]*$")]
Integer = Annotated[StrictInt, Field(gt=-MAX_NUMBER, lt=MAX_NUMBER)]
Number = Annotated[StrictFloat, Field(allow_inf_nan=False, gt=-MAX_NUMBER, lt=MAX_NUMBER)]
Finite = Annotated[StrictFloat, Field(allow_inf_nan=False)]
PredictionId = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{32}$")]
Cell = StrictBool | StrictInt | Finite | Annotated[str, Field(max_length=256)] | None
Row = dict[Annotated[str, Field(max_length=MAX_TEXT)], Cell]


class Strict(BaseModel):
    """Base of what clients send: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


# What is answered is dataclasses: it needs no check, and a pydantic model costs ten times as much to make.
@dataclass(kw_only=True, slots=True)
class Prediction:
    """One answer.

    Attributes:
        prediction_id: Its id in the prediction log.
        probability: Of a positive label.
        decision: Whether the probability reaches the threshold.
        threshold: From the costs of the use case.
        version: Version in the registry and digest of the release, such as ``v3-0f9c2b7a11d4``.
        generation: Of the promotion log: which switch of champions this answer belongs to.
        missing: Feature views without a value for this request.
        stale: Feature views whose value is too old to use.
        degraded: The online store did not answer: the views in ``missing`` have what they declare for a missing value.
    """

    prediction_id: str
    probability: float
    decision: bool
    threshold: float
    version: str
    generation: int
    missing: list[str]
    stale: list[str]
    degraded: bool = False


@dataclass(kw_only=True, slots=True)
class Predictions:
    """The answers, in the order of the requests."""

    predictions: list[Prediction]


@dataclass(kw_only=True, slots=True)
class Effect:
    """What one value did to an answer: its SHAP value, in probability."""

    feature: str
    value: str | float | int | bool | None
    change: float


@dataclass(kw_only=True, slots=True)
class Explanation(Prediction):
    """A prediction with what moved it, the largest changes first: ``base`` and all changes sum to ``probability``.

    Attributes:
        base: Mean probability of the rows of training that the release keeps.
        effects: One for each input of the model, unknown ones included.
    """

    base: float
    effects: list[Effect]


@dataclass(kw_only=True, slots=True)
class Explanations:
    """Predictions with their reasons, in the order of the requests."""

    predictions: list[Explanation]


class Label(Strict):
    """What really happened."""

    kind: Literal["label"]
    prediction_id: PredictionId
    label: StrictBool


class Remark(Strict):
    """A dispute (the answer is wrong, and why) or a comment."""

    kind: Literal["dispute", "comment"]
    prediction_id: PredictionId
    comment: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_COMMENT, pattern=r"^[^\x00]*$")]


class FeedbackItems(Strict):
    """What a client says about predictions that it got."""

    feedback: Annotated[
        list[Annotated[Label | Remark, Discriminator("kind")]], Field(min_length=1, max_length=MAX_BATCH)
    ]


class FeedbackKept(BaseModel):
    """How many were kept, and how many had been said before in the same words."""

    kept: int
    repeated: int


class Observations(Strict):
    """Observations as they happen: rows as in the source's file."""

    rows: Annotated[list[Row], Field(min_length=1, max_length=MAX_BATCH)]


class Accepted(BaseModel):
    """What became of pushed observations: how many count, and why the others do not."""

    accepted: int
    rejected: list[str]


def _is_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("give the time as text with its zone, such as 2013-05-01T12:00:00Z")
    return value


def _timestamp(use_case: UseCase) -> Any:
    first, last = use_case.data.first_interval.start - MARGIN, use_case.data.last_interval.end + MARGIN

    def within(moment: datetime) -> datetime:
        # Compared before it is converted: the ends of the calendar have no time in UTC.
        if not first <= moment <= last:
            raise ValueError(f"the time must lie between {first:%Y-%m-%d} and {last:%Y-%m-%d}")
        return moment.astimezone(UTC)

    return Annotated[AwareDatetime, BeforeValidator(_is_text), AfterValidator(within)]


def request_model(use_case: UseCase) -> type[BaseModel]:
    """The model of one request: the fields of ``prediction.request``, in their types and bounds."""
    types: dict[str, Any] = {
        "string": Text, "int64": Integer, "float64": Number, "bool": StrictBool, "timestamp": _timestamp(use_case),
    }  # fmt: skip
    optional = set(use_case.prediction.optional)
    fields: dict[str, Any] = {
        name: (types[kind] | None, None) if name in optional else (types[kind], ...)
        for name, kind in use_case.prediction.request.items()
    }
    return create_model(f"{use_case.name}_request", __base__=Strict, **fields)


def body_model(use_case: UseCase) -> Any:
    """The body of ``/predict``: ``{"requests": [...]}`` or one request by itself."""
    one: Any = request_model(use_case)
    many: Any = Annotated[list[one], Field(min_length=1, max_length=MAX_BATCH)]
    batch: Any = create_model(f"{use_case.name}_requests", __base__=Strict, requests=(many, ...))

    def kind(body: object) -> Literal["batch", "one"]:
        has_requests = "requests" in body if isinstance(body, dict) else isinstance(body, batch)
        return "batch" if has_requests else "one"

    return Annotated[Annotated[batch, Tag("batch")] | Annotated[one, Tag("one")], Discriminator(kind)]


def example(use_case: UseCase) -> dict[str, Any]:
    """The use case's example as a client would send it: JSON values."""
    return {name: plain(value) for name, value in use_case.prediction.example.items()}


def refusals(errors: list[Any]) -> list[dict[str, str]]:
    """Validation errors as ``{"field", "problem"}``, bounded, and without the values: NaN is no JSON."""
    shown = []
    for error in errors[:MAX_ERRORS]:
        place = [str(p) for p in error["loc"] if p not in ("body", "batch", "one")]
        problem = str(error["msg"]).removeprefix("Value error, ")
        if error["type"] == "json_invalid":
            place, problem = [], f"no JSON at character {place[0] if place else 0}"
        shown.append({"field": ".".join(place)[:200] or "body", "problem": problem})
    if len(errors) > MAX_ERRORS:
        shown.append({"field": "body", "problem": f"and {len(errors) - MAX_ERRORS} more problems"})
    return shown


def plain(value: Any) -> Any:
    """A feature or request value as a JSON value: times as ISO text in UTC, numbers that are none as null."""
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
