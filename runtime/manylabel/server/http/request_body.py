"""Requests' bodies: how they are received, within limits of size and time."""

import asyncio

from starlette.requests import Request
from starlette.types import Scope

from manylabel.server.http.errors import Refusal
from manylabel.server.settings import Settings

BINARY_HEADER = "inference-header-content-length"
"""Of requests that carry tensors in binary after their JSON (Triton's extension to the Open Inference Protocol)."""

CLOSE = {"Connection": "close"}
"""With what is refused before its body was read: the rest of it is not waited for."""


class Bodies:
    """Receives bodies, and bounds what all of them hold together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """A request's body, counted as it comes.

        Raises:
            Refusal: It is compressed or no JSON (415), too large (413), too slow (408), or too many come at once (429).
            ClientDisconnect: The client went away.
        """
        _check_kind(request)
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared[:20]) > self._settings.max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                return await self._receive(request)
        except TimeoutError as exc:
            seconds = self._settings.body_timeout
            raise Refusal(408, "slow_body", f"the body did not arrive within {seconds:g} s.", CLOSE) from exc

    def release(self, scope: Scope) -> None:
        """Count a request's body out, once it is over."""
        self._held -= scope.pop("manylabel.body", 0)

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
        if self._held + size > self._settings.max_held_bytes:
            detail = (
                f"requests of {self._held:,} bytes are being answered, of at most {self._settings.max_held_bytes:,}."
            )
            raise Refusal(429, "full", detail, {"Retry-After": "1", **CLOSE})
        self._held += size
        scope["manylabel.body"] = scope.get("manylabel.body", 0) + size

    def _too_large(self) -> Refusal:
        limit = self._settings.max_body_bytes
        return Refusal(413, "too_large", f"the body exceeds {limit:,} bytes; send fewer texts at once.", CLOSE)


def _check_kind(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() == "identity":  # a transfer may be compressed, too
        encoding = request.headers.get("transfer-encoding", "chunked").lower().replace("chunked", "identity")
    if encoding.lower() != "identity":
        raise Refusal(415, "encoding", f"the body is encoded as {encoding[:40]!r}; send it uncompressed.", CLOSE)
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json" and BINARY_HEADER not in request.headers:
        raise Refusal(415, "encoding", f"the body is {kind[:60]!r}; send Content-Type: application/json.", CLOSE)
