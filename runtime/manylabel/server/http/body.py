"""Request and response bodies: receive a body within limits of size and time, decode JSON, encode JSON."""

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from manylabel.server.http.errors import HTTPRefusal
from manylabel.server.settings import Settings

T = TypeVar("T", bound=msgspec.Struct)

BINARY_HEADER = "inference-header-content-length"
"""Header of requests with binary tensors after their JSON (Triton's extension to the Open Inference Protocol)."""

CLOSE_CONNECTION = {"Connection": "close"}
"""Headers of a response that is sent before the whole body was read: the rest of the body is not awaited."""


class BodyReader:
    """Receives request bodies and limits the bytes that all of them hold together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held_bytes = 0

    async def read(self, request: Request) -> bytes:
        """Return a request's body; its size is checked while it arrives.

        Raises:
            HTTPRefusal: The body is compressed or not JSON (415), too large (413) or too slow (408), or all bodies
                together exceed their limit (429).
            ClientDisconnect: The client disconnected.
        """
        _check_encoding(request)
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared[:20]) > self._settings.max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                return await self._receive(request)
        except TimeoutError as exc:
            seconds = self._settings.body_timeout
            detail = f"the body did not arrive within {seconds:g} s."
            raise HTTPRefusal(408, "slow_body", detail, CLOSE_CONNECTION) from exc

    def release(self, scope: Scope) -> None:
        """Subtract a finished request's body from the bytes held."""
        self._held_bytes -= scope.pop("manylabel.body", 0)

    async def _receive(self, request: Request) -> bytes:
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._settings.max_body_bytes:
                raise self._too_large()
            self._hold(request.scope, len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)

    def _hold(self, scope: Scope, size: int) -> None:
        limit = self._settings.max_held_bytes
        if self._held_bytes + size > limit:
            detail = f"the requests in progress hold {self._held_bytes:,} bytes of at most {limit:,}; retry after 1 s."
            raise HTTPRefusal(429, "full", detail, {"Retry-After": "1", **CLOSE_CONNECTION})
        self._held_bytes += size
        scope["manylabel.body"] = scope.get("manylabel.body", 0) + size

    def _too_large(self) -> HTTPRefusal:
        limit = self._settings.max_body_bytes
        detail = f"the body exceeds {limit:,} bytes; send fewer texts per request."
        return HTTPRefusal(413, "too_large", detail, CLOSE_CONNECTION)


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() == "identity":  # Transfer-Encoding can name a compression, too
        encoding = request.headers.get("transfer-encoding", "chunked").lower().replace("chunked", "identity")
    if encoding.lower() != "identity":
        detail = f"the body is encoded as {encoding[:40]!r}; send it uncompressed."
        raise HTTPRefusal(415, "encoding", detail, CLOSE_CONNECTION)
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json" and BINARY_HEADER not in request.headers:
        detail = f"the body is {kind[:60]!r}; send Content-Type: application/json."
        raise HTTPRefusal(415, "encoding", detail, CLOSE_CONNECTION)


def decode_json(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a body into a struct.

    Raises:
        HTTPRefusal: The body is not JSON (400), or does not match the schema (422).

    Example:
        >>> from manylabel.server.schemas.v1 import ClassifyRequest
        >>> decode_json(b'{"inputs": "late", "unknown": 1}', msgspec.json.Decoder(ClassifyRequest)).inputs
        'late'
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise HTTPRefusal(422, "malformed", f"the request does not match the schema: {exc}.") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise HTTPRefusal(400, "malformed", f"the body is not JSON: {exc}.") from exc
    except RecursionError as exc:
        raise HTTPRefusal(400, "malformed", "the body's JSON is nested too deeply.") from exc


def json_response(content: object, status: int = 200) -> Response:
    """Return a struct, or a list of structs, as a JSON response."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")
