"""HTTP errors: why a request is refused, with which status, and in which format each protocol reports it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

import msgspec

from manylabel.server.schemas.huggingface import HfError
from manylabel.server.schemas.open_inference import OipError
from manylabel.server.schemas.tei import TeiError, TeiErrorType
from manylabel.server.schemas.v1 import Problem

RefusalReason = Literal[
    "malformed",
    "key",
    "not_found",
    "slow_body",
    "too_large",
    "encoding",
    "text",
    "full",
    "draining",
    "deadline",
    "model",
]
"""Values of the label `reason` of the metric `manylabel_refusals_total`."""


@dataclass
class HTTPRefusal(Exception):
    """A request that gets an error response.

    Attributes:
        status: HTTP status code.
        reason: Reason, for the metrics and the log.
        detail: Message for the client: what was received and what was expected.
        headers: Additional response headers.
    """

    status: int
    reason: RefusalReason
    detail: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ErrorResponse:
    """An error as it is sent."""

    status: int
    body: bytes
    content_type: str = "application/json"


ErrorFormat = Callable[[HTTPRefusal, str], ErrorResponse]
"""Renders a refusal, given the request ID."""


def error_format(path: str, method: str) -> ErrorFormat:
    """Return the error format of the protocol that a path belongs to.

    Example:
        >>> render = error_format("/v2/models/reviews/infer", "POST")
        >>> render(HTTPRefusal(422, "text", "element 0 of `text` is not a string."), "order-7").body
        b'{"error":"element 0 of `text` is not a string."}'
    """
    if path == "/v2" or path.startswith("/v2/"):
        return _open_inference_error
    if path in ("/predict", "/info", "/health", "/metrics"):
        return _tei_error
    if path.startswith("/models/") or (path == "/" and method == "POST"):
        return _huggingface_error
    return _problem


def _problem(refusal: HTTPRefusal, request_id: str) -> ErrorResponse:
    status = HTTPStatus(refusal.status)
    body = Problem(title=status.phrase, status=status, detail=refusal.detail, request_id=request_id)
    return ErrorResponse(refusal.status, msgspec.json.encode(body), "application/problem+json")


def _tei_error(refusal: HTTPRefusal, request_id: str) -> ErrorResponse:
    kind = _TEI_TYPES.get(refusal.reason, "Validation")
    status = HTTPStatus.FAILED_DEPENDENCY if kind == "Backend" else refusal.status  # as TEI reports a backend's failure
    return ErrorResponse(status, msgspec.json.encode(TeiError(refusal.detail, kind)))


_TEI_TYPES: dict[RefusalReason, TeiErrorType] = {
    "full": "Overloaded",
    "draining": "Unhealthy",
    "deadline": "Overloaded",
    "model": "Backend",
}


def _open_inference_error(refusal: HTTPRefusal, request_id: str) -> ErrorResponse:
    return ErrorResponse(refusal.status, msgspec.json.encode(OipError(refusal.detail)))


def _huggingface_error(refusal: HTTPRefusal, request_id: str) -> ErrorResponse:
    return ErrorResponse(refusal.status, msgspec.json.encode(HfError(refusal.detail)))
