"""The routes of one use case."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Path, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, TypeAdapter
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from airworthy import features
from airworthy.config import Settings, UseCase
from airworthy.errors import ServiceUnavailableError
from airworthy.ledger import promotions
from airworthy.ledger.feedback import Said, keep_feedback
from airworthy.serving.contract import (
    MAX_EXPLAINED,
    Accepted,
    Explanation,
    Explanations,
    FeedbackItems,
    FeedbackKept,
    Observations,
    Predictions,
    body_model,
    example,
)
from airworthy.serving.explanation import explained
from airworthy.serving.guards import key_dependencies
from airworthy.serving.metrics import Metrics
from airworthy.serving.plain_route import Call, PlainRoute, answer_json, checked, documented, provenance, read_json
from airworthy.serving.predictor import Predictor
from airworthy.serving.protocols.rows import refuse
from airworthy.serving.trial import Trial

PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: {"description": "The body is larger than 1 MB"},
    422: {"description": "A field is missing, unknown, mistyped or absurd; it is named"},
    503: {"description": "No champion serves, or a database is away"},
}


def router(predictor: Predictor, metrics: Metrics, settings: Settings, *, at_root: bool = False) -> APIRouter:
    """Routes of a use case: predict, explain, feedback, observations, model, model-card (and ready, unless at the root)."""
    case = predictor.use_case
    routes = APIRouter(dependencies=key_dependencies(settings))
    routes.include_router(_predicting(predictor, metrics, settings))
    routes.include_router(_feedback(predictor))

    pushed = sorted(name for name, source in case.sources.items() if source.pushed)

    shown: Any = {name: {"summary": f"For {name}", "value": {"rows": [_row(case, name)]}} for name in pushed}

    in_body: Any = Body(openapi_examples=shown)

    @routes.post("/observations/{source}", summary="Push observations as they happen", responses=PROBLEMS)
    def observations(source: Annotated[str, Path(max_length=60)], body: Observations = in_body) -> Accepted:
        if source not in pushed or predictor.staged:
            known = ", ".join(pushed) or "none"
            raise HTTPException(404, f"no observations are pushed to {source!r}; sources that take them: {known}")
        outcome = features.push(case, source, body.rows)
        return Accepted(accepted=outcome.accepted, rejected=list(outcome.rejected))

    @routes.get("/model", summary="The champion and its verdict", responses={503: PROBLEMS[503]})
    def model() -> dict[str, Any]:
        return _model(predictor)

    @routes.get("/model-card", summary="The champion's model card", responses={503: PROBLEMS[503]})
    async def model_card() -> dict[str, Any]:
        return predictor.serving().model.card

    if not at_root:

        @routes.get("/ready", summary="There is a champion to answer with")
        async def ready() -> JSONResponse:
            state = readiness(predictor)
            return JSONResponse(state, status_code=200 if state["ready"] else 503)

    return routes


def _predicting(predictor: Predictor, metrics: Metrics, settings: Settings) -> APIRouter:
    case, routes = predictor.use_case, APIRouter(route_class=PlainRoute)
    kind, one = body_model(case), example(case)
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    body = documented(
        kind,
        {
            "one request": {"summary": "One request", "value": one},
            "several": {"summary": "Several requests", "value": {"requests": [one, one]}},
        },
    )

    def asked(call: Call) -> list[BaseModel]:
        found = checked(adapter, read_json(call))
        return list(found.requests) if "requests" in type(found).model_fields else [found]

    @routes.post(
        "/predict", summary=case.title, description=case.problem.label, openapi_extra=body,
        responses={200: {"model": Predictions}, **PROBLEMS},
    )  # fmt: skip
    async def predict(call: Call) -> Response:
        requests = asked(call)
        with metrics.prediction(case.name):
            answers = (await predictor.predict(requests)).predictions
        metrics.count(case.name, answers)
        return answer_json(Predictions(predictions=answers), provenance(settings, answers))

    @routes.post(
        "/explain", summary="A prediction, and what moved it", openapi_extra=body,
        description="Answered and kept as by /predict, for at most 20 requests: ask it instead of /predict, not after it.",
        responses={200: {"model": Explanations}, **PROBLEMS},
    )  # fmt: skip
    async def explain(call: Call) -> Response:
        requests = asked(call)
        if len(requests) > MAX_EXPLAINED:
            refuse(("requests", f"{len(requests)} requests; at most {MAX_EXPLAINED} are explained at once"))
        found = await predictor.predict(requests)
        metrics.count(case.name, found.predictions)
        reasons = await run_in_threadpool(
            lambda: [explained(m, v.values) for m, v in zip(found.models, found.vectors, strict=True)]
        )
        answers = [
            Explanation(**asdict(p), base=why.base, effects=why.effects)
            for p, why in zip(found.predictions, reasons, strict=True)
        ]
        return answer_json(Explanations(predictions=answers), provenance(settings, found.predictions))

    return routes


def _feedback(predictor: Predictor) -> APIRouter:
    routes, known = APIRouter(), "0f" * 16
    examples: Any = {
        "label": {
            "summary": "What really happened",
            "value": {"feedback": [{"kind": "label", "prediction_id": known, "label": True}]},
        },
        "dispute": {
            "summary": "The answer is wrong, and why",
            "value": {
                "feedback": [{"kind": "dispute", "prediction_id": known, "comment": "this was cancelled before"}]
            },
        },
    }

    in_body: Any = Body(openapi_examples=examples)

    @routes.post("/feedback", summary="Labels, disputes and comments on predictions", responses=PROBLEMS)
    def feedback(body: FeedbackItems = in_body) -> FeedbackKept:
        """Kept in the ledger, the same words about the same prediction once, for people and monitoring to look at."""
        items = [Said(**item.model_dump()) for item in body.feedback]
        try:
            kept = keep_feedback(predictor.use_case.name, items, predictor.keeper.moment())
        except SQLAlchemyError as error:
            raise ServiceUnavailableError(
                f"the ledger does not answer, nothing was kept: {type(error).__name__}",
                next_step="send it again later; what was kept already is not kept twice",
            ) from error
        return FeedbackKept(kept=kept, repeated=len(items) - kept)

    return routes


def _row(case: UseCase, source: str) -> dict[str, Any]:
    """An observation as the documentation shows it."""
    values = {
        "string": "text", "int64": 1, "float64": 1.5, "bool": True, "timestamp": f"{case.data.first}T12:00:00Z",
    }  # fmt: skip
    return {name: values[column.type] for name, column in case.sources[source].columns.items()}


def readiness(predictor: Predictor) -> dict[str, Any]:
    """Whether a use case can answer, what it answers with, and what is wrong."""
    keeper = predictor.keeper
    serving = keeper.serving
    reason = predictor.why_not() if serving is None else keeper.unfit or keeper.error
    return {
        "ready": serving is not None and keeper.unfit is None,
        "version": serving.version if serving else None,
        "generation": serving.generation if serving else None,
        "ledger": "away" if keeper.ledger_away else "answers",
        "reason": reason,
        **({"trial": _trial(serving.trial)} if serving and serving.trial else {}),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {"release": trial.digest, "share": trial.share, "loaded": trial.model is not None}


def _model(predictor: Predictor) -> dict[str, Any]:
    serving = predictor.serving()
    return {
        "use_case": predictor.use_case.name,
        "release": serving.digest,
        "model_digest": serving.model.model_digest,
        "version": serving.version,
        "generation": serving.generation,
        "threshold": predictor.use_case.problem.threshold,
        "columns": dict(serving.model.columns),
        "verdict": _verdict(serving.digest),
    }


def _verdict(digest: str) -> dict[str, Any] | None:
    """The verdict in short; None when the ledger is away or has none."""
    try:
        release = promotions.get_release(digest)
        verdict = promotions.get_verdict(release.verdict_id) if release else None
    except SQLAlchemyError:
        return None
    if verdict is None:
        return None
    return {
        "id": verdict.id, "decision": verdict.decision, "summary": verdict.summary, "metrics": verdict.metrics,
        "holdout_rows": verdict.holdout_rows, "checks": len(verdict.checks),
        "failed": [c.words for c in verdict.checks if not c.passed],
    }  # fmt: skip
