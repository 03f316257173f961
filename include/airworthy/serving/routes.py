"""The routes of one use case."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Path
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from airworthy import features
from airworthy.config import Settings
from airworthy.ledger import promotions
from airworthy.serving.contract import Accepted, Observations, Predictions, body_model, example
from airworthy.serving.guards import key_dependencies
from airworthy.serving.metrics import Metrics
from airworthy.serving.predictor import Predictor

PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: {"description": "The body is larger than 1 MB"},
    422: {"description": "A field is missing, unknown, mistyped or absurd; it is named"},
    503: {"description": "No champion serves, or a database is away"},
}


def router(predictor: Predictor, metrics: Metrics, settings: Settings, *, at_root: bool = False) -> APIRouter:
    """Routes of a use case: predict, observations, model, model-card (and ready, unless at the root)."""
    case = predictor.use_case
    routes = APIRouter(dependencies=key_dependencies(settings))
    one = example(case)
    examples: dict[str, Any] = {
        "one request": {"summary": "One request", "value": one},
        "several": {"summary": "Several requests", "value": {"requests": [one, one]}},
    }
    body_type: Any = Annotated[body_model(case), Body(openapi_examples=examples)]

    def predict(body: Any) -> Predictions:
        requests = body.requests if "requests" in type(body).model_fields else [body]
        with metrics.prediction(case.name):
            answers = predictor.predict(requests)
        metrics.count(case.name, answers)
        return Predictions(predictions=answers)

    # The body's type is made from the use case at run time, so it cannot be written as an annotation.
    predict.__annotations__["body"] = body_type
    routes.post("/predict", summary=case.title, description=case.problem.label, responses=PROBLEMS)(predict)

    pushed = sorted(name for name, source in case.sources.items() if source.pushed)

    @routes.post("/observations/{source}", summary="Push observations as they happen", responses=PROBLEMS)
    def observations(source: Annotated[str, Path(max_length=60)], body: Observations) -> Accepted:
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
    }


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
