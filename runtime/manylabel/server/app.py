"""The application: routes behind the one place that gives ids, asks for the key, speaks of errors and keeps records."""

import logging
import time
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manylabel.server.http.auth import check_key
from manylabel.server.http.errors import Refusal, dialect_of
from manylabel.server.http.request_id import request_id
from manylabel.server.observability.access_log import Finished, Recorder
from manylabel.server.routes.huggingface import HuggingFaceRoutes
from manylabel.server.routes.open_inference import OipRoutes
from manylabel.server.routes.page import PageRoutes
from manylabel.server.routes.tei import TeiRoutes
from manylabel.server.routes.v1 import OwnRoutes
from manylabel.server.service import Service
from manylabel.server.worker_pool import Timings

CLIENT_GONE = 499
"""In the records only, as nginx has it."""

NOTHING = Timings(0.0, 0.0, 0.0)
logger = logging.getLogger("manylabel.server")


class App:
    """The ASGI application.

    Args:
        service: What the routes share.
        recorders: Are told of every request that is over.
    """

    def __init__(self, service: Service, recorders: Sequence[Recorder]) -> None:
        groups = (OwnRoutes, TeiRoutes, OipRoutes, HuggingFaceRoutes, PageRoutes)
        routes = [route for group in groups for route in group(service).routes()]
        self._router: ASGIApp = Router(routes, redirect_slashes=False)
        self._service = service
        self._recorders = recorders

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        await _Exchange(scope, send).run(self, receive)

    async def route(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Answer a request, or raise why not."""
        check_key(self._service.settings.api_key, scope["method"], scope["path"], headers)
        scope["app"] = self  # so that the router raises what it does not find, rather than answer in its own words
        await self._router(scope, receive, send)

    def record(self, done: Finished) -> None:
        """Tell the recorders."""
        for recorder in self._recorders:
            recorder(done)

    def release(self, scope: Scope) -> None:
        """Give back what the request held."""
        self._service.bodies.release(scope)


class _Exchange:
    """One request on its way."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._headers = Headers(scope=scope)
        self._id = request_id(self._headers.get("x-request-id"))
        self._epoch = time.time()
        self._start = time.perf_counter()
        self._status = 0
        self._reason = ""

    async def run(self, app: App, receive: Receive) -> None:
        """Answer, whatever happens, and record it."""
        try:
            await self._answer(app, receive)
        finally:
            app.release(self._scope)
            app.record(self._finished())

    async def _answer(self, app: App, receive: Receive) -> None:
        try:
            await app.route(self._scope, receive, self._send_with_headers, self._headers)
        except ClientDisconnect:
            self._status, self._reason = CLIENT_GONE, "cancelled"
        except Exception as exc:
            if self._status:  # the answer has begun
                raise
            refusal = exc if isinstance(exc, Refusal) else _foreign(exc, self._scope, self._id)
            self._reason = refusal.reason
            rendered = dialect_of(self._scope["path"], self._scope["method"])(refusal, self._id)
            response = Response(rendered.body, rendered.status, refusal.headers, rendered.content_type)
            await response(self._scope, receive, self._send_with_headers)

    async def _send_with_headers(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._id
            if timings := self._scope.get("manylabel.timings"):
                headers["Server-Timing"] = _server_timing(timings, time.perf_counter() - self._start)
        await self._send(message)

    def _finished(self) -> Finished:
        endpoint = self._scope.get("endpoint")
        known = endpoint is not None and self._reason != "not_found"
        return Finished(
            request_id=self._id,
            method=self._scope["method"] if known else "OTHER",
            route=f"{endpoint.__self__.protocol}.{endpoint.__name__}" if known and endpoint else "other",
            status=self._status,
            reason=self._reason,
            started=self._epoch,
            seconds=time.perf_counter() - self._start,
            texts=self._scope.get("manylabel.texts", 0),
            timings=self._scope.get("manylabel.timings", NOTHING),
            headers=self._headers,
        )


def _server_timing(timings: Timings, total: float) -> str:
    """Milliseconds by part."""
    parts = {"queue": timings.queue, "tokenize": timings.tokenize, "inference": timings.inference, "total": total}
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in parts.items())


def _foreign(exc: Exception, scope: Scope, request_id: str) -> Refusal:
    """What the router says of a path or a method, and faults of ours."""
    if isinstance(exc, HTTPException) and exc.status_code == HTTPStatus.NOT_FOUND:
        return Refusal(404, "not_found", f"there is nothing at {scope['path'][:80]!r}; see /docs.")
    if isinstance(exc, HTTPException):
        allowed = dict(exc.headers or {})
        detail = f"{scope['path'][:80]!r} does not take {scope['method']}; it takes {allowed.get('Allow', 'others')}."
        return Refusal(exc.status_code, "not_found", detail, allowed)
    logger.error("request %s failed", request_id, exc_info=exc)
    return Refusal(500, "model", f"a fault of the server's own; its log has more of request {request_id}.")
