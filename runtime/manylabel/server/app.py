"""The application: routes behind the one place that gives ids, asks for the key and speaks of errors."""

import re
import secrets
from hmac import compare_digest
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manylabel.server.refusals import Refusal, dialect_of
from manylabel.server.routes.huggingface import HuggingFaceRoutes
from manylabel.server.routes.oip import OipRoutes
from manylabel.server.routes.own import OwnRoutes
from manylabel.server.routes.page import PageRoutes
from manylabel.server.routes.tei import TeiRoutes
from manylabel.server.service import Service

SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
OPEN = ("/", "/docs", "/openapi.json", "/health", "/metrics", "/v2/health/live", "/v2/health/ready")
"""What is answered without the key, to GET: the page, whether the server is well, and figures for the monitoring."""


class App:
    """The ASGI application."""

    def __init__(self, service: Service) -> None:
        groups = (OwnRoutes, TeiRoutes, OipRoutes, HuggingFaceRoutes, PageRoutes)
        routes = [route for group in groups for route in group(service).routes()]
        self._router: ASGIApp = Router(routes, redirect_slashes=False)
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers.get("x-request-id"))
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        scope["app"] = self  # the router raises what it does not find, rather than answer in its own words
        try:
            self._check_key(scope, headers)
            await self._router(scope, receive, send_with_id)
        except ClientDisconnect:
            return
        except Exception as exc:
            if started:
                raise
            refusal = exc if isinstance(exc, Refusal) else _foreign(exc, scope)
            rendered = dialect_of(scope["path"], scope["method"])(refusal, request_id)
            response = Response(rendered.body, rendered.status, refusal.headers, rendered.content_type)
            await response(scope, receive, send_with_id)

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        key = self._service.settings.api_key
        if not key or (scope["method"] in ("GET", "HEAD") and _is_open(scope["path"])):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not compare_digest(given.strip().encode(), key.encode()):
            raise Refusal(
                401, "key", "send the server's key as Authorization: Bearer KEY.", {"WWW-Authenticate": "Bearer"}
            )


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith("/page/")


def _request_id(given: str | None) -> str:
    return given if given and SAFE_ID.fullmatch(given) else secrets.token_hex(8)


def _foreign(exc: Exception, scope: Scope) -> Refusal:
    """What the router says of a path or a method, and faults of ours."""
    if isinstance(exc, HTTPException):
        if exc.status_code == HTTPStatus.NOT_FOUND:
            return Refusal(404, "not_found", f"there is nothing at {scope['path'][:80]!r}; see /docs.")
        return Refusal(exc.status_code, "not_found", f"{exc.detail}.", dict(exc.headers or {}))
    raise exc
