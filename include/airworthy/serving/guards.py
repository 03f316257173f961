"""What keeps bad callers and bad bodies out: binding, key, size, and one form for every error."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Callable
from typing import Any

from fastapi import Depends, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airworthy.config import Settings
from airworthy.errors import AirworthyError, ConfigurationError, DataRejectedError
from airworthy.serving.contract import MAX_BODY, MAX_ERRORS, refusals

KEY_HEADER = "X-API-Key"

Handlers = dict[int | type[Exception], Callable[[Request, Any], Any]]


def check_binding(settings: Settings) -> None:
    """Raise ConfigurationError when the service would listen beyond this machine without an API key."""
    if not _loopback(settings.service_host) and not _key(settings):
        raise ConfigurationError(
            f"the prediction service would listen on {settings.service_host or 'every address'} without an API key",
            next_step="set AIRWORTHY_SERVICE_API_KEY, or AIRWORTHY_SERVICE_HOST=127.0.0.1",
        )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key(settings: Settings) -> str:
    return settings.service_api_key.get_secret_value() if settings.service_api_key else ""


def key_dependencies(settings: Settings) -> list[Any]:
    """The dependency that asks for ``X-API-Key``; none when no key is set."""
    key = _key(settings).encode()
    if not key:
        return []

    async def check(given: str | None = Security(APIKeyHeader(name=KEY_HEADER, auto_error=False))) -> None:
        if given is None or not hmac.compare_digest(given.encode(), key):
            raise HTTPException(401, "the header X-API-Key is missing or wrong", headers={"WWW-Authenticate": "ApiKey"})

    check.__annotations__["given"] = str | None
    return [Depends(check)]


class BodyLimit:
    """Middleware: reads a body up to the limit before the application sees it; a larger one is answered with 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await whole_body(receive)
        except ClientDisconnect:
            return
        if body is None:
            await too_large(scope, receive, send)
            return
        whole: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            if whole is None:
                return await receive()
            given, whole = whole, None
            return given

        await self._app(scope, replay, send)


async def whole_body(receive: Receive) -> bytes | None:
    """The whole body; None when it is larger than the limit. Raises ClientDisconnect when the client is gone."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            return None
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def too_large(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request whose body is larger than the limit."""
    response = _answer(413, f"the body is larger than {MAX_BODY} bytes", "send smaller batches")
    # The rest of the body is not read, so this connection cannot carry another request.
    response.headers["connection"] = "close"
    await response(scope, receive, send)


def error_handlers() -> Handlers:
    """How errors are answered: what happened, and what to do next."""
    return {RequestValidationError: _invalid, AirworthyError: _expected, HTTPException: _http}


def _answer(status: int, error: str, next_step: str, **more: Any) -> Response:
    # In ASCII: a name in a bad request may hold what UTF-8 cannot, such as half of a surrogate pair.
    content = json.dumps({"error": error, **more, "next_step": next_step})
    return Response(content, status_code=status, media_type="application/json")


async def _invalid(_: Request, error: RequestValidationError) -> Response:
    problems = refusals(list(error.errors()))
    fields = ", ".join(p["field"] for p in problems[:5])
    next_step = "correct the fields; /docs shows a request that works"
    return _answer(422, f"the request cannot be used: {fields}", next_step, problems=problems)


async def _expected(_: Request, error: AirworthyError) -> Response:
    if isinstance(error, DataRejectedError):
        problems = [{"field": f.column or "body", "problem": f.check} for f in error.failures[:MAX_ERRORS]]
        return _answer(422, error.what, error.next_step, problems=problems)
    return _answer(503, error.what, error.next_step)


async def _http(_: Request, error: HTTPException) -> Response:
    answer = _answer(error.status_code, str(error.detail), "see /docs for the routes and their bodies")
    answer.headers.update(error.headers or {})
    return answer
