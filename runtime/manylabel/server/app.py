"""The ASGI application: the routes, and around them request IDs, authentication, error responses and records."""

import logging
import time
from collections.abc import Sequence
from http import HTTPStatus
from importlib.util import find_spec

from manylabel.errors import missing_extra

if find_spec("starlette") is None:
    raise missing_extra("server", "starlette")

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manylabel.server.http.errors import HTTPRefusal, error_format
from manylabel.server.http.request_headers import check_api_key, resolve_request_id
from manylabel.server.observability.access_log import Recorder, RequestRecord
from manylabel.server.routes.huggingface import HuggingFaceRoutes
from manylabel.server.routes.open_inference import OpenInferenceRoutes
from manylabel.server.routes.page import PageRoutes
from manylabel.server.routes.tei import TeiRoutes
from manylabel.server.routes.v1 import V1Routes
from manylabel.server.service import Service
from manylabel.server.worker_pool import Timings

CLIENT_CLOSED_REQUEST = 499
"""Status in the records of a request whose client disconnected, as in nginx's log. It is never sent."""

NO_TIMINGS = Timings(0.0, 0.0, 0.0)
logger = logging.getLogger("manylabel.server")


class App:
    """The ASGI application.

    Args:
        service: The service behind the routes.
        recorders: Called with the record of every finished request.
    """

    def __init__(self, service: Service, recorders: Sequence[Recorder]) -> None:
        groups = (V1Routes, TeiRoutes, OpenInferenceRoutes, HuggingFaceRoutes, PageRoutes)
        routes = [route for group in groups for route in group(service).routes()]
        self._router: ASGIApp = Router(routes, redirect_slashes=False)
        self._service = service
        self._recorders = recorders

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        await _Exchange(scope, send).run(self, receive)

    async def route(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Pass an authenticated request to its route."""
        check_api_key(self._service.settings.api_key, scope["method"], scope["path"], headers)
        scope["app"] = self  # makes the router raise for an unknown path instead of sending its own response
        await self._router(scope, receive, send)

    def finish(self, scope: Scope, record: RequestRecord) -> None:
        """Release what a finished request held, and record it."""
        self._service.bodies.release(scope)
        for recorder in self._recorders:
            recorder(record)


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._headers = Headers(scope=scope)
        self._id = resolve_request_id(self._headers.get("x-request-id"))
        self._started = time.time()
        self._start = time.perf_counter()
        self._status = 0
        self._reason = ""

    async def run(self, app: App, receive: Receive) -> None:
        """Send a response, whatever happens, and record the request."""
        try:
            await self._respond(app, receive)
        finally:
            app.finish(self._scope, self._record())

    async def _respond(self, app: App, receive: Receive) -> None:
        try:
            await app.route(self._scope, receive, self._send_with_headers, self._headers)
        except ClientDisconnect:
            self._status, self._reason = CLIENT_CLOSED_REQUEST, "cancelled"
        except Exception as exc:
            if self._status:  # the response has started
                raise
            refusal = exc if isinstance(exc, HTTPRefusal) else _to_refusal(exc, self._scope, self._id)
            self._reason = refusal.reason
            error = error_format(self._scope["path"], self._scope["method"])(refusal, self._id)
            response = Response(error.body, error.status, refusal.headers, error.content_type)
            await response(self._scope, receive, self._send_with_headers)

    async def _send_with_headers(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._id
            if timings := self._scope.get("manylabel.timings"):
                headers["Server-Timing"] = _server_timing(timings, time.perf_counter() - self._start)
        await self._send(message)

    def _record(self) -> RequestRecord:
        endpoint = self._scope.get("endpoint")
        found = endpoint is not None and self._reason != "not_found"
        return RequestRecord(
            request_id=self._id,
            method=self._scope["method"] if found else "OTHER",
            route=f"{endpoint.__self__.protocol}.{endpoint.__name__}" if found and endpoint else "other",
            status=self._status,
            reason=self._reason,
            started=self._started,
            seconds=time.perf_counter() - self._start,
            texts=self._scope.get("manylabel.texts", 0),
            timings=self._scope.get("manylabel.timings", NO_TIMINGS),
            headers=self._headers,
        )


def _server_timing(timings: Timings, total: float) -> str:
    """Return the value of the header `Server-Timing`, in milliseconds."""
    parts = {"queue": timings.queue, "tokenize": timings.tokenize, "inference": timings.inference, "total": total}
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in parts.items())


def _to_refusal(exc: Exception, scope: Scope, request_id: str) -> HTTPRefusal:
    """Convert an error of the router, or a bug, to a refusal."""
    path = scope["path"][:80]
    if isinstance(exc, HTTPException) and exc.status_code == HTTPStatus.NOT_FOUND:
        return HTTPRefusal(404, "not_found", f"path {path!r} not found; see /docs.")
    if isinstance(exc, HTTPException):
        headers = dict(exc.headers or {})
        detail = f"{path!r} does not support {scope['method']}; use {headers.get('Allow', 'another method')}."
        return HTTPRefusal(exc.status_code, "not_found", detail, headers)
    logger.error("request %s failed", request_id, exc_info=exc)
    return HTTPRefusal(500, "model", f"internal server error; the server's log has details of request {request_id}.")
