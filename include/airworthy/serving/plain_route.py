"""Routes whose endpoint reads the request and makes the response by itself, for those that must be quick.

FastAPI's own handling of parameters, bodies and response models costs more than a prediction. Such a route is described in
the API's documentation as any other, by the schemas that its endpoint really uses.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from airworthy.config import Settings
from airworthy.serving.contract import Prediction
from airworthy.serving.guards import KEY_HEADER, Handlers, too_large, whole_body

_KEY_HEADER = KEY_HEADER.lower().encode()
REFERENCE = "#/components/schemas/{model}"


class Call(Request):
    """A request to a plain route whose whole body is here.

    Args:
        scope: As ASGI has it.
        content: The body.
    """

    def __init__(self, scope: Scope, content: bytes) -> None:
        self.scope = scope  # all that is needed of what Request makes
        self.content = content

    def header(self, name: bytes) -> str | None:
        """The first header of a name, which is given in lower case."""
        for key, value in self.scope["headers"]:
            if key == name:
                return value.decode("latin-1")
        return None


Endpoint = Callable[[Call], Awaitable[Response]]
Headers = Sequence[tuple[bytes, bytes]]


class PlainRoute(APIRoute):
    """Calls its endpoint with a ``Call`` and sends what it returns. Its dependencies are checks of the API key, and hold."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request that came by FastAPI's own way."""
        answer = self.answering()

        async def handle(request: Request) -> Response:
            return await answer(Call(request.scope, await request.body()))

        return handle

    def answering(self) -> Endpoint:
        """What answers a call: the checks, then the endpoint."""
        checks: list[Any] = [one.dependency for one in self.dependencies]
        endpoint: Endpoint = self.endpoint

        async def answer(call: Call) -> Response:
            for check in checks:
                await check(call.header(_KEY_HEADER))
            return await endpoint(call)

        return answer if checks else endpoint


class ShortWay:
    """ASGI: takes requests for plain routes straight to their endpoints, past the matching of routes and layers of middleware.

    Args:
        app: The application, which answers everything else. Of its plain routes those without parameters in their path
            take the short way.
        handlers: How errors are answered, as in the application.
        count: Told the route and the status of each answer.
    """

    def __init__(self, app: FastAPI, *, handlers: Handlers, count: Callable[[str, int], None]) -> None:
        self._app = app
        self._handlers = {kind: answer for kind, answer in handlers.items() if not isinstance(kind, int)}
        self._errors = tuple(self._handlers)
        self._count = count
        self._endpoints = {
            route.path: route.answering()
            for route in app.routes
            if isinstance(route, PlainRoute) and not route.param_convertors
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        try:
            body = await whole_body(receive)
        except ClientDisconnect:
            return
        if body is None:
            await too_large(scope, receive, send)
            return
        try:
            response = await endpoint(Call(scope, body))
        except self._errors as error:
            answer = next(answer for kind, answer in self._handlers.items() if isinstance(error, kind))
            response = await answer(Request(scope), error)
        self._count(scope["path"], response.status_code)
        await response(scope, receive, send)


class JsonAnswer(Response):
    """A response of JSON that is written already."""

    def __init__(self, body: bytes, headers: Headers) -> None:
        # Response's own way of making headers costs more than the answer.
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]


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


def read_json(call: Call) -> Any:
    """The JSON of a body.

    Raises:
        RequestValidationError: it is none, or is said to be something else.
    """
    kind = media_type(call)
    if kind != "application/json" and not kind.endswith("+json"):
        raise _unusable("content-type", f"{kind[:60] or 'none'}; send application/json")
    with suppress(ValueError, RecursionError):
        return msgspec.json.decode(call.content)
    try:
        return json.loads(call.content)  # it says more precisely what is wrong, and takes what other libraries write
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


def media_type(call: Call) -> str:
    """What a call says that its body is."""
    return (call.header(b"content-type") or "").partition(";")[0].strip().lower()


def answer_json(content: object, headers: Headers) -> Response:
    """A response of an answer, or of JSON that is written already."""
    return JsonAnswer(content if isinstance(content, bytes) else msgspec.json.encode(content), headers)


def provenance(settings: Settings, predictions: Sequence[Prediction]) -> Headers:
    """Headers that name the versions that answered, and where it says why.

    One prediction has a link to its page; several have the template of it (RFC 9652).
    """
    why = f"{settings.reports_url}/why"
    if len(predictions) == 1:
        (one,) = predictions
        versions, link = one.version, (b"link", f'<{why}/{one.prediction_id}>; rel="describedby"'.encode("latin-1"))
    else:
        versions = ", ".join(dict.fromkeys(one.version for one in predictions))
        link = (b"link-template", f'"{why}/{{prediction_id}}"; rel="describedby"'.encode("latin-1"))
    return [(b"x-airworthy-version", versions.encode("latin-1")), link]


def _unusable(field: str, problem: str) -> RequestValidationError:
    return RequestValidationError([{"loc": (field,), "msg": problem, "type": "value_error"}])
