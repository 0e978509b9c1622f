"""JSON to structs and structs to responses."""

from typing import TypeVar

import msgspec
from starlette.responses import Response

from manylabel.server.http.errors import Refusal

T = TypeVar("T", bound=msgspec.Struct)


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


def reply(content: object, status: int = 200) -> Response:
    """A struct as JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")
