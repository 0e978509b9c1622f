"""Requests to structs and structs to responses."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from manylabel.server.engine import Timings
from manylabel.server.refusals import Refusal
from manylabel.server.settings import Settings

T = TypeVar("T", bound=msgspec.Struct)
BINARY_HEADER = "inference-header-content-length"


async def read_body(request: Request, settings: Settings) -> bytes:
    """A request's body.

    Raises:
        Refusal: It is too large, compressed, or of another kind than JSON.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Refusal(415, "encoding", f"the body is encoded as {encoding[:40]!r}; send it as it is.")
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json" and BINARY_HEADER not in request.headers:
        raise Refusal(415, "encoding", f"the body is {kind[:60]!r}; send Content-Type: application/json.")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > settings.max_body_bytes:
            raise Refusal(413, "too_large", f"the body exceeds {settings.max_body_bytes:,} bytes; send fewer texts.")
        chunks.append(chunk)
    return b"".join(chunks)


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """A body as a struct.

    Raises:
        Refusal: It is no JSON (400), or JSON of another shape (422).
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise Refusal(422, "malformed", f"the request is not as the schema says: {exc}.") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Refusal(400, "malformed", f"the body is not JSON: {exc}.") from exc
    except RecursionError as exc:
        raise Refusal(400, "malformed", "the body's JSON is nested too deeply.") from exc


def reply(content: object, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """A struct as JSON."""
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def timing_headers(timings: Timings) -> dict[str, str]:
    """`Server-Timing`, in milliseconds."""
    parts = (("queue", timings.queue), ("tokenize", timings.tokenize), ("inference", timings.inference))
    return {"Server-Timing": ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in parts)}
