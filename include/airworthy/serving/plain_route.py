"""Routes whose endpoint reads the request and makes the response by itself, for those that must be quick.

FastAPI's own handling of parameters, bodies and response models costs more than a prediction. Such a route is described in
the API's documentation as any other, by the schemas that its endpoint really uses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from airworthy.config import Settings
from airworthy.serving.contract import Prediction
from airworthy.serving.guards import KEY_HEADER, Handlers

REFERENCE = "#/components/schemas/{model}"


class PlainRoute(APIRoute):
    """Calls its endpoint with the request and sends what it returns. Its dependencies are checks of the API key, and hold."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        checks: list[Any] = [one.dependency for one in self.dependencies]
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            for check in checks:
                await check(request.headers.get(KEY_HEADER))
            answer: Response = await endpoint(request)
            return answer

        return handle


class ShortWay:
    """ASGI: takes requests for plain routes straight to their endpoints, past the matching of routes and layers of middleware.

    Args:
        app: The application, which answers everything else.
        routes: Its routes; the plain ones without parameters in their path take the short way.
        handlers: How errors are answered, as in the application.
        count: Told the route and the status of each answer.
    """

    def __init__(
        self, app: ASGIApp, *, routes: Iterable[BaseRoute], handlers: Handlers, count: Callable[[str, int], None]
    ) -> None:
        self._app = app
        self._handlers = handlers
        self._count = count
        self._endpoints = {
            route.path: route.get_route_handler()
            for route in routes
            if isinstance(route, PlainRoute) and not route.param_convertors
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await endpoint(request)
        except tuple(kind for kind in self._handlers if not isinstance(kind, int)) as error:
            answer = next(
                h for kind, h in self._handlers.items() if not isinstance(kind, int) and isinstance(error, kind)
            )
            response = await answer(request, error)
        self._count(scope["path"], response.status_code)
        await response(scope, receive, send)


def documented(kind: Any, examples: dict[str, Any]) -> dict[str, Any]:
    """The ``openapi_extra`` of a route whose body is JSON of a type. Its models go to the components by ``describe``."""
    schema = TypeAdapter(kind).json_schema(ref_template=REFERENCE)
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def describe(app: FastAPI) -> None:
    """Move the models of documented bodies to the components of the API's description, where its references look for them."""
    title, version, words = app.title, app.version, app.description

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=title, version=version, description=words, routes=app.routes)
            models = found.setdefault("components", {}).setdefault("schemas", {})
            for path in found["paths"].values():
                for operation in path.values():
                    for content in operation.get("requestBody", {}).get("content", {}).values():
                        models.update(content.get("schema", {}).pop("$defs", {}))
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def read_json(request: Request, body: bytes) -> Any:
    """The JSON of a body.

    Raises:
        RequestValidationError: it is none, or is said to be something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise _unusable("content-type", f"{kind[:60] or 'none'}; send application/json")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _unusable("body", f"no JSON: {str(error)[:200]}") from error


def checked(adapter: TypeAdapter[Any], content: Any) -> Any:
    """Content as its type.

    Raises:
        RequestValidationError: it does not fit; every problem is named.
    """
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None


def answer_json(content: BaseModel | bytes, headers: dict[str, str]) -> Response:
    """A response of a model."""
    body = content if isinstance(content, bytes) else content.__pydantic_serializer__.to_json(content)
    return Response(body, media_type="application/json", headers=headers)


def provenance(settings: Settings, predictions: Iterable[Prediction]) -> dict[str, str]:
    """Headers that name the versions that answered, and where it says why.

    One prediction has a link to its page; several have the template of it (RFC 9652).
    """
    found = list(predictions)
    why = f"{settings.reports_url}/why"
    versions = ", ".join(dict.fromkeys(one.version for one in found))
    if len(found) == 1:
        return {"X-Airworthy-Version": versions, "Link": f'<{why}/{found[0].prediction_id}>; rel="describedby"'}
    return {"X-Airworthy-Version": versions, "Link-Template": f'"{why}/{{prediction_id}}"; rel="describedby"'}


def _unusable(field: str, problem: str) -> RequestValidationError:
    return RequestValidationError([{"loc": (field,), "msg": problem, "type": "value_error"}])
